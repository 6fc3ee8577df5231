"""A run in an allocation of Slurm, for tests."""

from __future__ import annotations

import json
import os
import signal
import sys
from contextlib import suppress
from pathlib import Path
from typing import Any

from tests.engines.slurm_cluster import Cluster, marked, wait_for
from tests.launching import latest

LEASE = 4  # seconds


class Job:
    """A run in an allocation; its processes are found by a mark in their environment."""

    def __init__(self, cluster: Cluster, cwd: Path) -> None:
        self.cluster, self.cwd, self.mark = cluster, cwd, cwd.name + str(os.getpid())
        self.process: Any = None

    def start(self, *words: str, nodes: int = 4, options: tuple[str, ...] = ()) -> None:
        """Start npu-launch in an allocation."""
        allocate = ("salloc", "--quiet", f"--nodes={nodes}", *options)
        run = (sys.executable, "-m", "launcher", f"lease={LEASE}", "grace=3", "backend=cpu")
        self.process = self.cluster.start(self.cwd, *allocate, *run, *words, NPU_TEST_MARK=self.mark)

    def end(self, timeout: float = 60) -> tuple[int, str]:
        """Wait for the end of the allocation; return the exit code and what was printed."""
        text = self.process.communicate(timeout=timeout)[0]
        return self.process.returncode, text

    def run(self, *words: str, **options: Any) -> tuple[int, str]:
        self.start(*words, **options)
        return self.end()

    def begun(self, ranks: int) -> None:
        """Wait until every rank has said where it is."""
        wait_for(lambda: len(self.said()) == ranks, what=f"{ranks} ranks")

    def said(self) -> dict[int, str]:
        """Return the first line of every rank that has one."""
        found = {}
        for path in (latest(self.cwd) / "logs").glob("rank_*.log"):
            with suppress(OSError):
                lines = path.read_text().split("\n")
                if lines[0]:
                    found[int(path.stem[len("rank_") :])] = lines[0]
        return found

    def pids(self, *words: str) -> list[int]:
        """List the processes of the run whose command has these words, the oldest first; salloc is none."""
        return sorted(pid for pid, command in self.left() if all(word in command for word in words))

    def gone(self, seconds: float) -> None:
        """Wait until no process of the run is left; fail after some seconds."""
        try:
            wait_for(lambda: not self.left(), seconds)
        except AssertionError:
            raise AssertionError(f"left after {seconds} s: {self.left()}") from None

    def left(self) -> list[tuple[int, str]]:
        return [found for found in marked(self.mark) if "salloc" not in found[1]]

    @property
    def result(self) -> dict[str, Any]:
        found: dict[str, Any] = json.loads((latest(self.cwd) / "result.json").read_text())
        return found

    def clear(self) -> None:
        """Kill what is left of the run."""
        for pid, _ in marked(self.mark):
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        if self.process is not None:
            self.process.kill()
            self.process.communicate()

    @property
    def culprit(self) -> Any:
        return self.result["culprit"]
