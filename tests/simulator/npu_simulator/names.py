"""The table of what the adapter offers, as it is on one of its branches."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

TABLE: dict[str, Any] = json.loads(
    (Path(__file__).resolve().parents[1] / "adapter_names.json").read_text(encoding="utf-8")
)
BRANCH: str = os.environ.get("NPU_SIMULATOR_ADAPTER", "master")  # which branch this process simulates
if BRANCH not in TABLE["branches"]:
    raise ValueError(f"NPU_SIMULATOR_ADAPTER={BRANCH}: none of {', '.join(TABLE['branches'])}")


def variant(variants: list[dict[str, Any]], branch: str = BRANCH) -> dict[str, Any] | None:
    """Choose, of the forms that a name has had, that of a branch; None: it is not there."""
    return next((form for form in variants if branch in form["places"]), None)


def has(section: str, name: str, branch: str = BRANCH) -> bool:
    """Whether a branch has a name of a section of the table."""
    entry = TABLE[section].get(name)
    if isinstance(entry, list):
        return variant(entry, branch) is not None
    return entry is not None and branch in entry.get("places", entry)


def signature(name: str, branch: str = BRANCH) -> str:
    """Give the signature of a Python function of the adapter, or of HCCL."""
    if name in TABLE["hccl"]:
        return str(TABLE["hccl"][name]["signature"])
    form = variant(TABLE["functions"][name], branch)
    if form is None:
        raise KeyError(f"{name} is not there on {branch}")
    return str(form["signature"])
