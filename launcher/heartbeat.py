"""heartbeat.json, read as what it should be (format: docs/reference.md, "Files that a rank writes")."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

from launcher import foreign
from launcher.typed_json import Value

LARGEST = 1 << 53  # up to which a double, as many programs write steps, is exact


class Beat(NamedTuple):
    """A heartbeat. `train_step`: the last step of training; `step` may count those of a phase after it."""

    step: int
    train_step: int
    phase: str


def read_beat(path: Path) -> Beat:
    """Read a heartbeat. ReadError: it is none; MissingFileError: no file."""
    record = foreign.read_record(path)
    step = _step(record.get("step", 0))
    train_step = _step(record.get("train_step", step))
    return Beat(step, train_step, record.get("phase", "").text())


def _step(value: Value) -> int:
    number = value.number()
    if not 0 <= number <= LARGEST or number != int(number):
        value.refuse("a number out of range", "a step: a whole number, not negative")
    return int(number)
