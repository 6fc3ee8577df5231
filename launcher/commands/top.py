"""npu-launch top: runs and their ranks, live."""

from __future__ import annotations

import os
import shutil
import signal
import sys
import time
from typing import TYPE_CHECKING, Sequence

import click

from launcher.output import echo, echo_json
from launcher.run_dir import RunDir
from launcher.runs import registry

if TYPE_CHECKING:
    from launcher.view.looks import RunLooks
    from launcher.view.snapshot import RunView

_INTERVAL = 3.0  # as top(1) has it
_PATIENCE = 5.0  # seconds for npu-smi, where there is one look alone


@click.command()
@click.argument("run", nargs=-1)
@click.option("--once", is_flag=True, help="Print the table once.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON document (docs/see-the-run.md).")
@click.option(
    "--interval",
    metavar="SECONDS",
    type=click.FloatRange(0.2, 3600),
    default=_INTERVAL,
    show_default=True,
    help="Between two looks.",
)
@click.option(
    "--runs-dir", metavar="DIR", default="runs", show_default=True, help="Folder that holds the run folders."
)
def top(run: Sequence[str], once: bool, as_json: bool, interval: float, runs_dir: str) -> None:
    """Show runs and their ranks, live: step, speed, own work, waiting, input, loss, memory, NPU.

    RUN: runs of this folder, by name, prefix or path; default: those that are running, else the latest. Where
    stdout is no terminal, one line each interval until the runs have ended. Keys: ? lists them.
    """
    from launcher.view import looks, npu, snapshot

    npus = npu.Npus()
    found = [looks.RunLooks(one, npus) for one in _runs(run, runs_dir)]
    if as_json:
        views = [one.look(_PATIENCE) for one in found]
        echo_json(snapshot.document(views, time.time()))
    elif once:
        _once([one.look(_PATIENCE) for one in found])
    elif sys.stdin is not None and sys.stdin.isatty() and sys.stdout.isatty() and _in_front():
        from launcher.view import screen

        sys.exit(screen.show(found, interval))
    else:
        _lines(found, interval)


def _in_front() -> bool:
    """Tell whether the terminal is ours: a job in the background leaves it alone. A dumb one cannot draw."""
    try:
        mine = os.tcgetpgrp(sys.stdin.fileno()) == os.getpgrp()
    except OSError:
        return False
    return mine and os.environ.get("TERM", "dumb") not in ("", "dumb")


def _runs(words: Sequence[str], runs_dir: str) -> list[RunDir]:
    if words:
        named = [registry.resolve(word, runs_dir) for word in words]
        return list({str(one.path): one for one in named}.values())
    running = [one for one in registry.all_runs(runs_dir) if registry.running(one)]
    return running or [registry.resolve("", runs_dir)]


def _once(views: Sequence[RunView]) -> None:
    from launcher.view import table

    width = shutil.get_terminal_size((10000, 24)).columns  # COLUMNS, the terminal's, or all there is
    utf = "utf" in (sys.stdout.encoding or "").lower()
    echo(*table.whole(views, width, table.BLOCKS if utf else table.PLAIN))


def _lines(runs: Sequence[RunLooks], interval: float) -> None:
    """Print a line for each run now and then, until all have ended."""
    from launcher.view import table

    signal.signal(signal.SIGINT, signal.SIG_DFL)  # Ctrl-C is how this ends
    left = list(runs)
    while left:
        views = [one.look() for one in left]
        echo(*(f"{time.strftime('%H:%M:%S')} {table.one_line(view)}" for view in views))
        left = [one for one, view in zip(left, views) if not view.over]
        if left:
            time.sleep(interval)
