"""heartbeat.json, read as what it should be (format: docs/reference.md, "Files that a rank writes")."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

from launcher import foreign
from launcher.typed_json import Value

LARGEST = 1 << 53  # up to which a double, as many programs write steps, is exact


class Counters(NamedTuple):
    """What a rank has done since it began to train: all but `time` only grow.

    Whoever looks subtracts two readings. Seconds do not overlap: input_s is waiting for input, wait_s the
    time in collectives (None: not known, as where the device runs the loop alone), save_s saving; own_s the
    rest.
    """

    time: float  # seconds since the epoch, of the rank's host
    steps: int
    examples: int  # of this rank
    tokens: int  # of this rank, padding included: what a step costs goes by them; 0: not counted
    input_s: float
    own_s: float
    wait_s: float | None
    save_s: float


class Beat(NamedTuple):
    """A heartbeat. `train_step`: the last step of training; `step` may count those of a phase after it."""

    step: int
    train_step: int
    phase: str
    total_steps: int = 0  # of the training; 0: not told
    counters: Counters | None = None  # None: the program keeps none


def read_beat(path: Path) -> Beat:
    """Read a heartbeat. ReadError: it is none; MissingFileError: no file."""
    record = foreign.read_record(path)
    step = _whole(record.get("step", 0))
    train_step = _whole(record.get("train_step", step))
    total = _whole(record.get("total_steps", 0))
    return Beat(step, train_step, record.get("phase", "").text(), total, _counters(record))


def _counters(record: Value) -> Counters | None:
    """Return the counters of a record; a program that keeps any keeps `steps` and `own_s`."""
    if record.get("steps").value is None or record.get("own_s").value is None:
        return None
    steps, examples, tokens = (_whole(record.get(name, 0)) for name in ("steps", "examples", "tokens"))
    wait = None if record.get("wait_s").value is None else _seconds(record.get("wait_s"))
    own, reading, saving = (_seconds(record.get(name, 0)) for name in ("own_s", "input_s", "save_s"))
    return Counters(record.get("time").number(), steps, examples, tokens, reading, own, wait, saving)


def _whole(value: Value) -> int:
    number = value.number()
    if not 0 <= number <= LARGEST or number != int(number):
        value.refuse("a number out of range", "a count: a whole number, not negative")
    return int(number)


def _seconds(value: Value) -> float:
    number = value.number()
    if number < 0:
        value.refuse("a negative number", "seconds")
    return number
