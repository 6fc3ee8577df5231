"""Report to the launcher that this rank is alive: one small file, replaced atomically. Stdlib only."""

from __future__ import annotations

import json
import os
import time
from contextlib import contextmanager, suppress
from typing import Any, Iterator, Mapping

_trained: dict[str, int] = {}  # the last step of a training phase, and of how many, once there is one
_counters: list[Counters] = []  # the training's, once there is one


class Counters:
    """What this rank has done since its training began, without the first call, which prepares the graph.

    Seconds do not overlap: each moment since the first call ended is in one of the four, or in an evaluation.
    """

    def __init__(self, total_steps: int = 0, knows_wait: bool = False) -> None:
        self.total_steps = total_steps
        self._steps = self._examples = self._tokens = 0
        self._input = self._own = self._wait = self._save = 0.0
        self._knows_wait = knows_wait
        self._mark: float | None = None  # up to when the seconds are counted

    def call(self, steps: int, examples: int, tokens: int, input_s: float, wait_s: float) -> None:
        """Count a call that ended now and made `steps` steps over rows of this rank."""
        now = time.monotonic()
        if self._mark is not None:
            self._steps, self._examples = self._steps + steps, self._examples + examples
            self._tokens += tokens
            self._input, self._wait = self._input + input_s, self._wait + wait_s
            self._own += max(0.0, now - self._mark - input_s - wait_s)
        self._mark = now

    @contextmanager
    def saving(self) -> Iterator[None]:
        """Count the block's time as saving."""
        begin = time.monotonic()
        with self.apart():
            yield
        self._save += time.monotonic() - begin

    @contextmanager
    def apart(self) -> Iterator[None]:
        """Leave the block's time out: an evaluation is no part of a step."""
        if self._mark is not None:
            self._own += time.monotonic() - self._mark
        try:
            yield
        finally:
            if self._mark is not None:
                self._mark = time.monotonic()

    def record(self) -> dict[str, float | None]:
        """Return all by the names that the launcher reads."""
        return {
            "steps": self._steps, "examples": self._examples, "tokens": self._tokens,
            "input_s": round(self._input, 6), "own_s": round(self._own, 6),
            "wait_s": round(self._wait, 6) if self._knows_wait else None, "save_s": round(self._save, 6),
        }  # fmt: skip


def beat(phase: str, step: int = 0, counters: Counters | None = None) -> None:
    """Write heartbeat.json into the rank's folder; without a launcher, do nothing.

    A step of 1 or more promises the next beat within --hang-timeout; 0 promises nothing.
    Later phases count steps of their own: the last training step stays in the file as train_step, and so do
    the training's counters.
    """
    if phase == "train":
        _trained["train_step"] = step
    if counters is not None:
        _counters[:] = [counters]
        _trained["total_steps"] = counters.total_steps
    folder = os.environ.get("NPU_LAUNCH_RANK_DIR")
    if not folder:
        return
    path = os.path.join(folder, "heartbeat.json")
    counted = _counters[0].record() if _counters else {}
    try:
        _replace(path, {"step": step, "phase": phase, **_trained, "time": time.time(), **counted})
    except OSError:  # a full disk: the file's time still shows that this rank is alive
        with suppress(OSError):
            os.utime(path)


def artifact(record: dict[str, Any]) -> None:
    """Append a line to artifacts.jsonl: files that the launcher collects, figures that it shows."""
    folder = os.environ.get("NPU_LAUNCH_RANK_DIR")
    if folder:
        with open(os.path.join(folder, "artifacts.jsonl"), "a", encoding="utf-8") as stream:
            stream.write(json.dumps(record) + "\n")


def _replace(path: str, value: Mapping[str, Any]) -> None:
    text = json.dumps(value)  # not json.dump, whose encoder is the slow one, in Python
    with open(path + ".tmp", "w", encoding="utf-8") as stream:
        stream.write(text)
    os.replace(path + ".tmp", path)
