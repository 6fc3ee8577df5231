"""Ranks that run a real framework on CPU; each file says by `pytestmark = needs(...)` what it must find."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any, Callable

import pytest

from tests.launching import latest, launch

OTHERS = (
    "TORCHELASTIC_", "PET_", "MASTER_", "MS_", "PADDLE_", "GROUP_", "ROLE_", "OMP_NUM_THREADS", "WORLD_SIZE",
    "RANK", "CUSTOM_DEVICE_ROOT",  # the last is set by `import paddle`
)  # fmt: skip


@pytest.fixture(autouse=True)
def clean_frameworks(monkeypatch: pytest.MonkeyPatch) -> None:
    """Hide what a framework would take for its launcher's."""
    for name in list(os.environ):
        if name.startswith(OTHERS):
            monkeypatch.delenv(name)


@pytest.fixture()
def run_job(tmp_path: Path) -> Callable[..., Any]:
    """Give a function that runs npu-launch on CPU in tmp_path; it returns the finished process.

    Its `run_dir` is the run's folder. code: the exit code that is expected.
    """

    def run(*words: object, code: int = 0, env: dict[str, str] | None = None) -> Any:
        done = launch(tmp_path, "--backend", "cpu", *words, env=env, timeout=120)
        assert done.returncode == code, done.stdout + done.stderr
        done.run_dir = latest(tmp_path)
        return done

    return run
