"""Start rank programs against an adapter, as npu-launch would: by their environment alone."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
import uuid
from pathlib import Path
from typing import Any, Mapping, NamedTuple, Sequence

from launcher.plan.environment import of_rank
from launcher.profiles.base import RankContext
from rank_table.inventory import Device, Host
from rank_table.render import render
from rank_table.table import RankTable

ROOT = Path(__file__).resolve().parents[2]
SIMULATOR = ROOT / "tests" / "simulator"
PROGRAMS = ROOT / "tests" / "npu" / "programs"


class Ended(NamedTuple):
    """How the ranks ended: exit codes, what they printed, what the simulator noted of each."""

    codes: list[int]
    output: list[str]
    reports: list[dict[str, Any]]

    def answers(self, rank: int = 0) -> dict[str, Any]:
        """Read the JSON object that a program prints last."""
        return json.loads(self.output[rank].strip().splitlines()[-1])


class Started:
    """A program in a process of its own, with its output in a file."""

    def __init__(self, words: Sequence[str], cwd: Path, env: Mapping[str, str], output: Path) -> None:
        self._output = output
        with output.open("wb") as out:
            self._process = subprocess.Popen(
                words, cwd=str(cwd), env=dict(env), stdout=out, stderr=subprocess.STDOUT
            )

    def wait(self, timeout: float) -> int:
        return self._process.wait(timeout)

    def kill(self) -> None:
        self._process.kill()

    def text(self) -> str:
        return self._output.read_text(encoding="utf-8", errors="replace")


def run(
    folder: Path,
    program: str,
    size: int = 1,
    env: Mapping[str, str] = {},
    args: Sequence[str] = (),
    python: str = sys.executable,
    timeout: float = 240,
    forked: Any = None,
) -> Ended:
    """Start a program of PROGRAMS on some ranks and wait for them, or end them; `env` goes first.

    `forked` is tests.forked.Forked where this interpreter's TensorFlow need not be imported again.
    """
    table = RankTable.from_hosts(
        [Host("10.0.0.1", tuple(Device(n, n, f"192.168.1.{n + 1}") for n in range(size)))]
    )
    (folder / "rank_table.json").write_text(render(table))
    words = [str(PROGRAMS / program), *args]
    ranks = []
    for rank in range(size):
        environ, cwd = _environment(folder, rank, size, env), folder / "ranks" / str(rank)
        start = forked or Started
        ranks.append(start(words if forked else [python, *words], cwd, environ, folder / f"rank_{rank}.log"))
    end = time.monotonic() + timeout
    try:
        codes = [rank.wait(max(0.0, end - time.monotonic())) for rank in ranks]
    finally:
        for rank in ranks:
            rank.kill()
    return Ended(codes, [rank.text() for rank in ranks], reports(folder / "report", size))


def last_line(text: str) -> str:
    """Give the last line of what a program printed, which says why it failed."""
    return (text.strip().splitlines() or ["no output"])[-1]


def reports(folder: Path, size: int) -> list[dict[str, Any]]:
    """Read what the simulator noted of each rank; {} where it noted nothing."""
    paths = [folder / f"rank_{rank}.json" for rank in range(size)]
    return [json.loads(path.read_text()) if path.exists() else {} for path in paths]


def _environment(folder: Path, rank: int, size: int, env: Mapping[str, str]) -> dict[str, str]:
    """Build what npu-launch gives a rank; make the folders that it names."""
    for name in ("report", f"ranks/{rank}"):
        (folder / name).mkdir(parents=True, exist_ok=True)
    name = f"test-{uuid.uuid5(uuid.NAMESPACE_URL, str(folder)).hex[:12]}"
    context = RankContext(
        rank=rank, size=size, local_rank=rank, local_size=size, device_id=rank, ascend_device_id=rank,
        run_dir=str(folder), run_id=name, backend="npu", threads=1, launch_dir=str(folder),
    )  # fmt: skip
    environ = of_rank(os.environ, context)
    environ.update(
        PYTHONPATH=os.pathsep.join((str(ROOT), str(SIMULATOR))),
        NPU_SIMULATOR_REPORT=str(folder / "report"),
        HCCL_CONNECT_TIMEOUT="120",
        TF_CPP_MIN_LOG_LEVEL="2",
    )
    environ.update(env)
    return {key: value for key, value in environ.items() if value}
