"""`npu-launch cases FILE.csv NUM|all [host]`: run test cases one after another and sum them up."""

from __future__ import annotations

import io
import os
import sys
import time
from pathlib import Path
from typing import Sequence

import click

from launcher.cases import csv_file
from launcher.cases.runner import TIMEOUT, CaseResult, Runner
from launcher.errors import UsageError
from launcher.output import echo, echo_document, echo_text


@click.command()
@click.argument("file", type=click.Path(path_type=Path))
@click.argument("number", metavar="NUM|all")
@click.argument("more", nargs=-1, metavar="[host] [key=value ...]")
@click.option(
    "--timeout", metavar="SECONDS", type=float, default=TIMEOUT, help="Stop a case after SECONDS (14 days)."
)
@click.option(
    "--runs-dir", type=click.Path(path_type=Path), default=Path("runs"), help="Folder of the results."
)
@click.option("--json", "as_json", is_flag=True, help="Print the summary as JSON.")
def cases(
    file: Path, number: str, more: tuple[str, ...], timeout: float, runs_dir: Path, as_json: bool
) -> None:
    """Run the cases of a 13-column CSV file; exit 1 if any of them fails.

    Each case is a run of npu-launch with its own folder; key=value overrides apply to every case. Cases are
    started in the current directory. Nothing else on the machine is changed.
    """
    overrides = _overrides(more)
    chosen = csv_file.select(csv_file.read_cases(file), number, str(file))
    folder = runs_dir / time.strftime("cases-%Y%m%d-%H%M%S")
    documents = [csv_file.job(case, folder / case.slug, os.environ) for case in chosen]
    runner = Runner(folder, overrides, timeout)
    try:
        runner.run(chosen, documents, lambda line: echo(line, err=True))
    finally:
        echo_document(runner.as_json()) if as_json else _print_table(runner.results, folder)
    sys.exit(0 if all(result.passed for result in runner.results) else 1)


def _overrides(more: Sequence[str]) -> list[str]:
    """Drop the mode of the original script's end-to-end tests; the other words are key=value."""
    words = list(more)
    if words and words[0] == "docker":
        raise UsageError("docker mode is not supported; run `npu-launch cases` inside the container")
    if words and words[0] == "host":
        words.pop(0)
    for word in words:
        if "=" not in word:
            raise UsageError(f"{word!r}: invalid word (expected `host` or key=value)")
    return words


def _print_table(results: Sequence[CaseResult], folder: Path) -> None:
    from rich.box import SIMPLE
    from rich.console import Console
    from rich.table import Table

    table = Table(box=SIMPLE)
    for name in ("case", "name", "devices"):
        table.add_column(name, overflow="fold")
    for name in ("seconds", "examples/s", "loss", "EM", "F1"):
        table.add_column(name, justify="right")
    table.add_column("verdict", overflow="fold")
    for one in results:
        figures = (one.throughput, one.loss, one.exact_match, one.f1)
        shown = ["-" if value is None else f"{value:.2f}" for value in figures]
        table.add_row(one.case, one.name, one.devices, f"{one.seconds:.1f}", *shown, one.verdict)
    width = None if sys.stdout.isatty() else 160
    out = io.StringIO()
    Console(file=out, width=width, highlight=False).print(table)
    echo_text(out.getvalue())
    passed = sum(result.passed for result in results)
    echo(f"{passed} of {len(results)} cases passed; results in {folder}")
