"""Run npu-launch as a user would, for tests."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]


def launch(cwd: Path, *words: object, env: dict[str, str] | None = None, timeout: float = 60) -> Any:
    """Run npu-launch in `cwd`, where its run folders go; give the finished process with its texts."""
    environ = {**os.environ, "PYTHONPATH": str(ROOT), "TF_CPP_MIN_LOG_LEVEL": "2", **(env or {})}
    return subprocess.run(
        [sys.executable, "-m", "launcher", *map(str, words)],
        cwd=str(cwd),
        env=environ,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=timeout,
    )


def latest(cwd: Path) -> Path:
    """Give the folder of the last run made in `cwd`."""
    return (cwd / "runs" / "latest").resolve()
