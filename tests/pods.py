"""Pods for tests: plain processes that meet in one folder, as pods do in the volume of the run folders."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any, Iterator, Sequence

import pytest

ROOT = Path(__file__).resolve().parents[1]
UP = "touch $NPU_LAUNCH_RANK_DIR/up"
PATIENCE = 60.0  # seconds in which everything here has ended


class Pods:
    """The pods of one job; the first `came` of them have come up."""

    def __init__(self, folder: Path, count: int = 3) -> None:
        self.folder, self.count = folder, count
        self.processes: dict[int, subprocess.Popen[bytes]] = {}

    def start(self, *words: str, only: Any = None, before: Sequence[str] = (), **env: str) -> Pods:
        """Start pods with the same words. `{}` in a variable is the pod's index."""
        for index in range(self.count) if only is None else only:
            place = self.folder / env.get("PLACE", "").format(index)
            place.mkdir(exist_ok=True)
            environ = {
                **os.environ, "PYTHONPATH": str(ROOT), "NPU_LAUNCH_HOST_COUNT": str(self.count),
                "NPU_LAUNCH_JOB": "job-1f", "JOB_COMPLETION_INDEX": str(index),
                "NPU_LAUNCH_POD": f"job-1f-{index}-x2x4z", "NPU_LAUNCH_LIFE": "uid",
                **{name: value.format(index) for name, value in env.items()},
            }  # fmt: skip
            argv = [*before, sys.executable, "-m", "launcher", "backend=cpu", *words]
            with open(self.folder / f"out.{index}", "w") as out:
                self.processes[index] = subprocess.Popen(
                    argv, cwd=str(place), env=environ, stdin=subprocess.DEVNULL, stdout=out, stderr=out
                )
        return self

    def codes(self) -> list[int]:
        """Wait for the end of all; give their exit codes."""
        end = time.monotonic() + PATIENCE
        return [child.wait(max(0.1, end - time.monotonic())) for _, child in sorted(self.processes.items())]

    def said(self, index: int = 0) -> str:
        return (self.folder / f"out.{index}").read_text()

    @property
    def run(self) -> Path:
        return self.folder / "runs" / "job-1f"

    def wait_for(self, path: str) -> None:
        """Wait until a file of the run is there."""
        end = time.monotonic() + 30
        while not (self.run / path).exists():
            assert time.monotonic() < end, self.said()
            time.sleep(0.02)

    def wait_said(self, text: str, index: int = 0) -> None:
        """Wait until a pod has printed a text."""
        end = time.monotonic() + 30
        while text not in self.said(index):
            assert time.monotonic() < end, self.said(index)
            time.sleep(0.02)


@pytest.fixture
def pods(tmp_path: Path) -> Iterator[Pods]:
    """Give pods; afterwards none of their processes is left."""
    found = Pods(tmp_path)
    yield found
    for child in found.processes.values():
        child.kill()
        child.wait()
    end = time.monotonic() + 15
    while time.monotonic() < end and left(tmp_path):
        time.sleep(0.1)
    assert left(tmp_path) == []


def left(folder: Path) -> list[str]:
    """List the processes that were started in a folder."""
    found = []
    for pid in filter(str.isdigit, os.listdir("/proc")):
        try:
            where = os.readlink(f"/proc/{pid}/cwd")
            words = Path(f"/proc/{pid}/cmdline").read_bytes()
        except OSError:
            continue
        if where.startswith(str(folder)) and words:
            found.append(f"{pid} {words!r}")
    return found


def result(pods: Pods) -> Any:
    return json.loads((pods.run / "result.json").read_text())
