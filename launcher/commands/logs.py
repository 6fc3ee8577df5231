"""npu-launch logs: the lines of all ranks in the order of time."""

from __future__ import annotations

import signal
import sys
from typing import Tuple

import click

from launcher import run_logs, runs
from launcher.devices import parse_devices
from launcher.log_text import Text
from launcher.logs import follow as following
from launcher.logs import merged


@click.command()
@click.argument("run", default="")
@click.option("--rank", metavar="LIST", default="", help="Only these ranks, such as 0-3,7.")
@click.option("--follow", "-f", is_flag=True, help="Go on with what comes, until the run ends.")
@click.option("--runs-dir", metavar="DIR", default="runs", show_default=True, help="Folder of runs.")
def logs(run: str, rank: str, follow: bool, runs_dir: str) -> None:
    """Merge the lines of RUN's ranks by time. RUN: a name, a path, a prefix; default: the latest run."""
    signal.signal(signal.SIGPIPE, signal.SIG_DFL)  # `npu-launch logs | head` ends as `cat | head` does
    found = runs.resolve(run, runs_dir)
    wanted: Tuple[int, ...] = parse_devices(rank) if rank else ()
    blocks = following(found, wanted) if follow else merged(found, run_logs.choose(found, wanted))
    render = Text()
    for block in blocks:
        sys.stdout.buffer.write(render(block))
        if follow:
            sys.stdout.buffer.flush()
