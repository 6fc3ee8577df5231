"""Run test cases one after another, each as a process of npu-launch, and sum them up."""

from __future__ import annotations

import json
import subprocess
import time
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Callable, Mapping, Optional, Sequence, Tuple

from launcher.cases.csv_file import Case
from launcher.errors import ReadError
from launcher.metrics import series
from launcher.metrics.leading import leading_rank
from launcher.process import launches
from launcher.run_dir import RunDir, write_atomic
from launcher.runs.figures import exact_of, metrics_of

Figures = Tuple[Optional[float], Optional[float], Optional[float], Optional[float]]
TIMEOUT = 1209600.0  # seconds; that of the original script's end-to-end tests, 14 days


@dataclass(frozen=True)
class CaseResult:
    """What came of a case. None: the run reported no such figure."""

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


class Runner:
    """Cases that share a folder of results, overrides and a time limit."""

    def __init__(self, folder: Path, overrides: Sequence[str], timeout: float = TIMEOUT) -> None:
        self.folder, self.overrides, self.timeout = folder, overrides, timeout
        self.results: list[CaseResult] = []

    def run(
        self, cases: Sequence[Case], documents: Sequence[Mapping[str, Any]], announce: Callable[[str], None]
    ) -> None:
        """Run every case; summary.json is written also when a signal ends this process."""
        self.folder.mkdir(mode=0o700, parents=True)
        try:
            with launches.exit_on_signals():
                for case, document in zip(cases, documents):
                    announce(f"case {case.number}: {case.name} on devices {','.join(case.devices)}")
                    self.results.append(self._run(case, document))
        finally:
            write_atomic(self.folder / "summary.json", self.as_json().encode())

    def as_json(self) -> str:
        """Return the results as a JSON list."""
        return json.dumps([asdict(result) for result in self.results], indent=2) + "\n"

    def _run(self, case: Case, document: Mapping[str, Any]) -> CaseResult:
        """Run one case as a process of npu-launch, whose output is shown as it comes."""
        import yaml

        path = self.folder / (case.slug + ".yaml")
        write_atomic(path, yaml.safe_dump(dict(document), sort_keys=False).encode())
        devices = ",".join(case.devices)
        begin = time.monotonic()
        launch = launches.start(["--devices", devices, str(path), *self.overrides])
        verdict = _wait(launch, self.timeout)
        seconds = round(time.monotonic() - begin, 1)
        run = _run_folder(self.folder / case.slug)
        throughput, loss, exact_match, f1 = _figures(run)
        numbers = (seconds, throughput, loss, exact_match, f1)
        return CaseResult(case.number, case.name, devices, *numbers, verdict, str(run or ""))


def _wait(process: subprocess.Popen[bytes], timeout: float) -> str:
    """Wait for npu-launch; return the verdict. A signal that ends this program ends the case first."""
    try:
        code = process.wait(timeout)
    except subprocess.TimeoutExpired:
        launches.end([process])
        return f"timed out after {timeout:g} s"
    except BaseException:
        launches.end([process])
        raise
    return "passed" if code == 0 else f"failed (exit code {code})"


def _run_folder(runs_dir: Path) -> Path | None:
    """Find the run that a case made; None when it was refused before it had a folder."""
    found = [path.parent for path in runs_dir.glob("*/result.json") if not path.parent.is_symlink()]
    return max(found, key=lambda path: path.stat().st_mtime) if found else None


def _figures(run: Path | None) -> Figures:
    """Read throughput, last loss, exact match and F1 of a run."""
    if run is None:
        return None, None, None, None
    metrics = metrics_of(run)
    rows = _rows(RunDir(run))
    speeds = [row["examples_per_second"] for row in rows if "examples_per_second" in row]
    speeds = speeds[1:] or speeds  # the first line also holds the making of the graph
    losses = [row["loss"] for row in rows if "loss" in row]
    return (
        sum(speeds) / len(speeds) if speeds else None,
        losses[-1] if losses else None,
        exact_of(metrics),
        metrics.get("f1"),
    )


def _rows(run: RunDir) -> Sequence[series.Row]:
    """Read what the leading rank wrote of its steps; nothing where that cannot be read."""
    leading = leading_rank(run, run.ranks())
    with suppress(ReadError):
        return series.read(run.metrics(leading)).rows if leading is not None else ()
    return ()
