"""Tell the launcher that this rank is alive: one small file, replaced in one go. Stdlib only."""

from __future__ import annotations

import json
import os
import time
from contextlib import suppress
from typing import Any, Dict


def beat(phase: str, step: int = 0) -> None:
    """Write heartbeat.json into the rank's folder; without a launcher, or on a full disk, do nothing."""
    folder = os.environ.get("NPU_LAUNCH_RANK_DIR")
    if not folder:
        return
    with suppress(OSError):
        _replace(os.path.join(folder, "heartbeat.json"), {"step": step, "phase": phase, "time": time.time()})


def artifact(record: Dict[str, Any]) -> None:
    """Append a line to artifacts.jsonl: files that the launcher gathers, figures that it shows."""
    folder = os.environ.get("NPU_LAUNCH_RANK_DIR")
    if folder:
        with open(os.path.join(folder, "artifacts.jsonl"), "a", encoding="utf-8") as stream:
            stream.write(json.dumps(record) + "\n")


def _replace(path: str, value: Dict[str, Any]) -> None:
    with open(path + ".tmp", "w", encoding="utf-8") as stream:
        json.dump(value, stream)
    os.replace(path + ".tmp", path)
