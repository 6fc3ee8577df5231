"""metrics.jsonl of a rank: one JSON object a line, of numbers and nulls, `step` among them.

A row says how the training went since the row before. One of nothing but `eval_...` beside `step`, `time` and
`epoch` says what was evaluated after that step.
"""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any, Dict, Iterable, Mapping, NamedTuple

from launcher import foreign

LARGEST = 256 << 20  # bytes of which the rows are read
LONGEST = 1 << 16  # bytes of a row: reading a number takes the square of its digits
Row = Dict[str, float]
_EVALUATION = "eval_"
_BESIDE = frozenset(("step", "time", "epoch"))


class Series(NamedTuple):
    """The rows of a file, steps ascending. A null is left out of its row. unread: lines that are no rows.

    evaluations: the rows of figures that were evaluated after a step, apart. lost: the steps whose loss was
    written, but is no finite number.
    """

    rows: tuple[Row, ...]
    unread: int = 0
    evaluations: tuple[Row, ...] = ()
    lost: frozenset[float] = frozenset()


def read(path: Path) -> Series:
    """Read a whole file. ReadError: it cannot be read; MissingFileError: there is none."""
    return parse(foreign.read_bytes(path, LARGEST))


def read_last(path: Path, most: int = 1 << 16) -> Series:
    """Read the rows in the last `most` bytes of a file. ReadError, MissingFileError: as `read`."""
    with foreign.open_regular(path) as stream:
        size = stream.seek(0, os.SEEK_END)
        stream.seek(max(0, size - most))
        data = stream.read(most)
    return parse(data if size <= most else data.partition(b"\n")[2])


def parse(data: bytes) -> Series:
    """Parse lines. Steps come again after a restart: what an earlier attempt wrote from there on goes."""
    rows: list[Row] = []
    evaluations: list[Row] = []
    lost: set[float] = set()
    unread = 0
    for line in data.split(b"\n"):
        found = _object(line)
        if found is None:
            unread += bool(line.strip())
            continue
        row = numbers(found)
        evaluated = is_evaluation(found)
        for kept in (evaluations,) if evaluated else (rows, evaluations):
            while kept and kept[-1]["step"] >= row["step"]:
                kept.pop()
        (evaluations if evaluated else rows).append(row)
        if not evaluated:
            (lost.add if "loss" in found and "loss" not in row else lost.discard)(row["step"])
    gone = frozenset(row["step"] for row in rows if row["step"] in lost)
    return Series(tuple(rows), unread, tuple(evaluations), gone)


def evaluations(path: Path) -> tuple[Row, ...]:
    """Read the figures that were evaluated in between, and nothing else. ReadError: as `read`."""
    lines = foreign.read_bytes(path, LARGEST).split(b"\n")
    return parse(b"\n".join(line for line in lines if b'"' + _EVALUATION.encode() in line)).evaluations


def record(line: bytes) -> dict[str, Any] | None:
    """Return what a line says of the training, whatever its values are but `step`; None: it says nothing."""
    found = _object(line)
    return None if found is None or is_evaluation(found) else found


def evaluation(line: bytes) -> Row:
    """Return what a line says was evaluated; empty: it is no such row."""
    found = _object(line)
    return numbers(found) if found is not None and is_evaluation(found) else {}


def is_evaluation(found: Mapping[str, Any]) -> bool:
    """Tell whether a row says what was evaluated, and nothing of the training."""
    others = found.keys() - _BESIDE
    return bool(others) and all(name.startswith(_EVALUATION) for name in others)


def _object(line: bytes) -> dict[str, Any] | None:
    if len(line) > LONGEST:
        return None
    try:
        found = json.loads(line.decode())
    except (ValueError, RecursionError):
        return None
    return found if isinstance(found, dict) and _is_number(found.get("step")) else None


def numbers(found: Mapping[str, Any]) -> Row:
    """Return the numbers of a row."""
    return {name: float(value) for name, value in found.items() if _is_number(value)}


class Rate(NamedTuple):
    """Examples per second, of all ranks or of one device, as `unit` says; 0: not known."""

    value: float
    unit: str


ALL, EACH = "examples/s", "examples/s per device"
_WORK = ("own_s", "wait_s", "input_s")


def rate_of(row: Row) -> Rate:
    """Return the rate of a row, as the program gives it or as it follows from its seconds."""
    if "examples_per_second" in row:
        return Rate(row["examples_per_second"], ALL)
    if "examples_per_second_per_device" in row:
        return Rate(row["examples_per_second_per_device"], EACH)
    seconds = sum(row.get(name, 0.0) for name in _WORK)
    return Rate(row.get("interval_examples", 0.0) / seconds if seconds > 0 else 0.0, EACH)


def rates(rows: Iterable[Row]) -> list[Rate]:
    """Return the rates that are known, all in one unit: that of all ranks where any row has it."""
    known = [rate for rate in map(rate_of, rows) if rate.value]
    unit = ALL if any(rate.unit == ALL for rate in known) else EACH
    return [rate for rate in known if rate.unit == unit]


def _is_number(value: Any) -> bool:
    return type(value) in (int, float) and abs(value) < 1e300  # so NaN is none
