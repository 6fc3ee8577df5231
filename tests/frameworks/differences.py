"""What the documents say of a rank's environment beside that of the framework's own launcher."""

from __future__ import annotations

import os
import re
from typing import Mapping

from tests.launching import ROOT

OF_A_TERMINAL = {"LINES", "COLUMNS"}  # set by readline, which the launchers import
_OF_THE_TESTS = {"PYTHONPATH", "TF_CPP_MIN_LOG_LEVEL"}  # set by tests/launching.py


def documented(title: str) -> set[str]:
    """List the names in the first column of a table of docs/frameworks.md."""
    text = (ROOT / "docs" / "frameworks.md").read_text(encoding="utf-8")
    table = text.partition(f"### {title}")[2].partition("### ")[0]
    rows = re.findall(r"^\| (`.*?) \|", table, re.MULTILINE)
    return {name for row in rows for name in re.findall(r"`(\w+)`", row)}


def of_every_rank() -> set[str]:
    """List the variables that the documents say npu-launch gives, whatever the framework."""
    text = (ROOT / "docs" / "reference.md").read_text(encoding="utf-8")
    section = text.partition("## The environment of a rank\n")[2].partition("\nRemoved, ")[0]
    own = re.findall(r"`(NPU_LAUNCH_[A-Z_]+)`", (ROOT / "docs" / "frameworks.md").read_text(encoding="utf-8"))
    return {*re.findall(r"`([A-Z_]+)`", section), *own, "NPU_LAUNCH_FRAMEWORK"}


def beyond(mine: Mapping[str, str], other: Mapping[str, str]) -> set[str]:
    """List what npu-launch gives a rank, and the other launcher and the shell do not."""
    return set(mine) - set(other) - set(os.environ) - _OF_THE_TESTS
