"""npu-launch logs: the output of all ranks, merged by time."""

from __future__ import annotations

import gc
import signal
import sys
from contextlib import contextmanager
from typing import Callable, Iterator, Sequence

import click

from launcher.logs import format
from launcher.logs import view as reading
from launcher.logs.records import Batches, RecordBatch
from launcher.logs.view import LogSource, Query
from launcher.output import echo, echo_bytes, echo_document
from launcher.plan.devices import parse_devices
from launcher.process.signals import handled
from launcher.text import SCHEDULER, label

_LEVELS = click.Choice(["debug", "info", "warning", "error"])
_MOST_PROBLEMS = 20  # lines about files that could not be read
_STREAMS = click.Choice(["stdout", "stderr"])


@click.command()
@click.argument("run", nargs=-1)
@click.option("--rank", metavar="LIST", default="", help="Only these ranks, such as 0-3,7 or 0,scheduler.")
@click.option("--stream", type=_STREAMS, help="Only this stream.")
@click.option(
    "--since", metavar="TIME", help="From: 10m (before now), +90s (from the first line), 10:21:35, ..."
)
@click.option("--until", metavar="TIME", help="To: also -30s (before the last line), 2026-03-01T10:21:35.")
@click.option("--grep", metavar="REGEX", default="", help="Only lines in which this is found.")
@click.option("--level", type=_LEVELS, help="Only lines of this level or above; tracebacks are errors.")
@click.option(
    "--collapse", is_flag=True, help="Print equal lines of several ranks within 250 ms once: [0-7]| ..."
)
@click.option("--tail", metavar="N", type=click.IntRange(min=0), help="Only the last N lines.")
@click.option("--follow", "-f", is_flag=True, help="Wait for new lines until the run ends.")
@click.option(
    "--errors", is_flag=True, help="Print the first error of each rank and the meaning of HCCL's codes in it."
)
@click.option("--plog", is_flag=True, help="Also print CANN's logs (plog) from the rank folders of a run.")
@click.option("--date", is_flag=True, help="Print the date too.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object per line.")
@click.option(
    "--runs-dir", metavar="DIR", default="runs", show_default=True, help="Folder that holds the run folders."
)
def logs(
    run: Sequence[str],
    rank: str,
    stream: str | None,
    since: str | None,
    until: str | None,
    grep: str,
    level: str | None,
    collapse: bool,
    tail: int | None,
    follow: bool,
    errors: bool,
    plog: bool,
    date: bool,
    as_json: bool,
    runs_dir: str,
) -> None:
    """Print the output of all ranks, merged by time.

    RUN: the name of a run, a prefix of it, or a path; default: the latest run. It may also be a file or
    folder of other logs, such as train_*.log, Ascend plog trees, or one folder per node: these are merged
    by the times in their lines.
    """
    with handled([signal.SIGPIPE], signal.SIG_DFL):  # `npu-launch logs | head` ends as `cat | head` does
        sources = reading.find_sources(run, runs_dir)
        query = Query(
            ranks=_ranks(rank),
            stream=stream[3] if stream else "",
            grep=grep,
            level=_level(level) if level else 0,
            collapse=collapse,
            tail=tail,
            plog=plog,
        )
        query = reading.with_time_range(query, sources, since, until)
        if errors:
            _print_errors(sources, query, as_json)
        else:
            render = (
                format.as_json if as_json else format.TextFormat(date, reading.label_width(sources, query))
            )
            _print(reading.show(sources, query, follow), render, follow, lambda: _print_problems(sources))
        sys.stdout.flush()
        _print_problems(sources)


def _ranks(text: str) -> tuple[int, ...]:
    """Read `--rank`: a list of ranks, in which the scheduler may be."""
    name = label({SCHEDULER})
    parts = [part.strip() for part in text.split(",")] if text else []
    numbers = [part for part in parts if part != name]
    ranks = parse_devices(",".join(numbers), "--rank", "rank") if numbers else ()
    return (*ranks, SCHEDULER) if name in parts else ranks


def _level(name: str) -> int:
    from launcher.lines import levels  # costs more than a start without it should pay

    return levels.NAMES[name]


def _print_problems(sources: Sequence[LogSource]) -> None:
    """Name what could not be read, or was read by a guess."""
    problems = [problem for source in sources for problem in source.new_problems()]
    if len(problems) > _MOST_PROBLEMS:
        problems[_MOST_PROBLEMS - 1 :] = [f"... {len(problems) - _MOST_PROBLEMS + 1} more files like these"]
    echo(*problems, err=True)


def _print(
    batches: Batches, render: Callable[[RecordBatch], bytes], follow: bool, each: Callable[[], None]
) -> None:
    if follow:
        signal.signal(signal.SIGINT, signal.SIG_DFL)  # Ctrl-C is how following ends
    with _no_gc(not follow):
        for batch in batches:
            echo_bytes(render(batch) if batch else b"", flush=follow)
            if follow:
                each()
    echo_bytes(b"", flush=True)


@contextmanager
def _no_gc(wanted: bool) -> Iterator[None]:
    """Switch garbage collection off: none of millions of small tuples is in a cycle, and it costs 10 %."""
    if wanted:
        gc.disable()
    try:
        yield
    finally:
        gc.enable()


def _print_errors(sources: list[LogSource], query: Query, as_json: bool) -> None:
    from launcher.logs import first_errors

    found = first_errors.collect(sources, query)
    if as_json:
        echo_document(first_errors.as_json(found))
    else:
        echo(*first_errors.report(found))
