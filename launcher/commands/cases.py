"""`npu-launch cases FILE.csv NUM|all [host]`: run test cases one after another and sum them up."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Iterator, Mapping, Optional, Sequence, Tuple

import click
import yaml

from launcher.cases import csv_file as case_file
from launcher.errors import UsageError
from launcher.run_dir import write_atomic

Figures = Tuple[Optional[float], Optional[float], Optional[float], Optional[float]]
TIMEOUT = 1209600.0  # seconds; that of the e2e scripts, 14 days


@dataclass(frozen=True)
class Outcome:
    """Hold what a case came to. None: the run told nothing of the kind."""

    case: str
    name: str
    devices: str
    seconds: float
    throughput: float | None  # examples per second over all devices, mean of the lines
    loss: float | None  # the last one
    exact_match: float | None
    f1: float | None
    verdict: str  # "passed", or what happened
    run_dir: str

    @property
    def passed(self) -> bool:
        return self.verdict == "passed"


@click.command()
@click.argument("file", type=click.Path(path_type=Path))
@click.argument("number", metavar="NUM|all")
@click.argument("more", nargs=-1, metavar="[host] [key=value ...]")
@click.option("--timeout", type=float, default=TIMEOUT, help="Stop a case after this many seconds.")
@click.option("--runs-dir", type=click.Path(path_type=Path), default=Path("runs"), help="Where results go.")
@click.option("--json", "as_json", is_flag=True, help="Print the summary as JSON.")
def cases(
    file: Path, number: str, more: tuple[str, ...], timeout: float, runs_dir: Path, as_json: bool
) -> None:
    """Run the cases of a 13-column CSV file; exit 1 when any of them fails.

    Each case is a run of npu-launch with its own folder; key=value overrides go to every case. Cases are
    started in the directory where this command is typed. Nothing of the machine is changed.
    """
    overrides = _overrides(more)
    chosen = case_file.select(case_file.read_cases(file), number, str(file))
    folder = runs_dir / time.strftime("cases-%Y%m%d-%H%M%S")
    jobs = [case_file.job(case, folder / case.slug, os.environ) for case in chosen]
    folder.mkdir(mode=0o700, parents=True)
    outcomes: list[Outcome] = []
    for ending in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(ending, _raise_exit)
    try:
        for case, document in zip(chosen, jobs):
            outcomes.append(_run(case, document, folder, overrides, timeout))
    finally:
        text = json.dumps([asdict(outcome) for outcome in outcomes], indent=2) + "\n"
        write_atomic(folder / "summary.json", text.encode())
        click.echo(text, nl=False) if as_json else _print_table(outcomes, folder)
    sys.exit(0 if all(outcome.passed for outcome in outcomes) else 1)


def _overrides(more: Sequence[str]) -> list[str]:
    """Take the mode of the e2e scripts off the words; what is left is key=value."""
    words = list(more)
    if words and words[0] == "docker":
        raise UsageError("docker mode is not supported; run `npu-launch cases` inside the container")
    if words and words[0] == "host":
        words.pop(0)
    for word in words:
        if "=" not in word:
            raise UsageError(f"{word!r} is neither `host` nor key=value")
    return words


def _run(
    case: case_file.Case, document: Mapping[str, Any], folder: Path, overrides: Sequence[str], timeout: float
) -> Outcome:
    """Run one case as a process of npu-launch, whose output is shown as it comes."""
    path = folder / (case.slug + ".yaml")
    write_atomic(path, yaml.safe_dump(dict(document), sort_keys=False).encode())
    devices = ",".join(case.devices)
    click.echo(f"case {case.number}: {case.name} on devices {devices}", err=True)
    command = [sys.executable, "-m", "launcher", "--devices", devices, str(path), *overrides]
    begin = time.monotonic()
    # In a session of its own it gets each signal once: from here, not from the terminal too.
    verdict = _wait(subprocess.Popen(command, start_new_session=True), timeout)
    seconds = round(time.monotonic() - begin, 1)
    run = _run_folder(folder / case.slug)
    throughput, loss, exact_match, f1 = _figures(run)
    numbers = (seconds, throughput, loss, exact_match, f1)
    return Outcome(case.number, case.name, devices, *numbers, verdict, str(run or ""))


def _wait(process: subprocess.Popen[bytes], timeout: float) -> str:
    """Wait for npu-launch; return the verdict. What ends this program ends the case first."""
    try:
        code = process.wait(timeout)
    except subprocess.TimeoutExpired:
        process.terminate()
        process.wait()
        return f"timed out after {timeout:g} s"
    except BaseException:
        process.terminate()
        process.wait()
        raise
    return "passed" if code == 0 else f"failed (exit code {code})"


def _raise_exit(number: int, frame: object) -> None:
    sys.exit(128 + number)


def _run_folder(runs_dir: Path) -> Path | None:
    """Find the run that a case made; None when it was refused before it had a folder."""
    found = [path.parent for path in runs_dir.glob("*/result.json") if not path.parent.is_symlink()]
    return max(found, key=lambda path: path.stat().st_mtime) if found else None


def _figures(run: Path | None) -> Figures:
    """Read throughput, last loss, exact match and F1 of a run."""
    if run is None:
        return None, None, None, None
    result = json.loads((run / "result.json").read_text())
    lines = list(_metrics(run / "ranks" / "0" / "metrics.jsonl"))
    speeds = [line["examples_per_second"] for line in lines if "examples_per_second" in line]
    speeds = speeds[1:] or speeds  # the first line also holds the making of the graph
    losses = [line["loss"] for line in lines if "loss" in line]
    metrics: dict[str, float] = result.get("metrics") or {}
    return (
        sum(speeds) / len(speeds) if speeds else None,
        losses[-1] if losses else None,
        metrics.get("exact", metrics.get("exact_match")),
        metrics.get("f1"),
    )


def _metrics(path: Path) -> Iterator[dict[str, Any]]:
    """Yield the lines of a metrics file; a last line that was cut off is left out."""
    if path.is_file():
        for line in path.read_text().splitlines():
            try:
                yield json.loads(line)
            except ValueError:
                return


def _print_table(outcomes: Sequence[Outcome], folder: Path) -> None:
    from rich.box import SIMPLE
    from rich.console import Console
    from rich.table import Table

    table = Table(box=SIMPLE)
    for name in ("case", "name", "devices"):
        table.add_column(name, overflow="fold")
    for name in ("seconds", "examples/s", "loss", "EM", "F1"):
        table.add_column(name, justify="right")
    table.add_column("verdict", overflow="fold")
    for one in outcomes:
        figures = (one.throughput, one.loss, one.exact_match, one.f1)
        shown = ["-" if value is None else f"{value:.2f}" for value in figures]
        table.add_row(one.case, one.name, one.devices, f"{one.seconds:.1f}", *shown, one.verdict)
    width = None if sys.stdout.isatty() else 160
    console = Console(width=width, highlight=False)
    console.print(table)
    passed = sum(outcome.passed for outcome in outcomes)
    console.print(f"{passed} of {len(outcomes)} cases passed; results in {folder}", soft_wrap=True)
