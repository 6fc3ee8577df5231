"""Report to the launcher that this rank is alive: one small file, replaced atomically. Stdlib only."""

from __future__ import annotations

import json
import os
import time
from contextlib import suppress
from typing import Any

_trained: dict[str, int] = {}  # the last step of a training phase, once there is one


def beat(phase: str, step: int = 0) -> None:
    """Write heartbeat.json into the rank's folder; without a launcher, do nothing.

    A step of 1 or more promises the next beat within --hang-timeout; 0 promises nothing.
    Later phases count steps of their own: the last training step stays in the file as train_step.
    """
    if phase == "train":
        _trained["train_step"] = step
    folder = os.environ.get("NPU_LAUNCH_RANK_DIR")
    if not folder:
        return
    path = os.path.join(folder, "heartbeat.json")
    try:
        _replace(path, {"step": step, "phase": phase, **_trained, "time": time.time()})
    except OSError:  # a full disk: the file's time still shows that this rank is alive
        with suppress(OSError):
            os.utime(path)


def artifact(record: dict[str, Any]) -> None:
    """Append a line to artifacts.jsonl: files that the launcher collects, figures that it shows."""
    folder = os.environ.get("NPU_LAUNCH_RANK_DIR")
    if folder:
        with open(os.path.join(folder, "artifacts.jsonl"), "a", encoding="utf-8") as stream:
            stream.write(json.dumps(record) + "\n")


def _replace(path: str, value: dict[str, Any]) -> None:
    with open(path + ".tmp", "w", encoding="utf-8") as stream:
        json.dump(value, stream)
    os.replace(path + ".tmp", path)
