"""metrics.jsonl of a rank: one JSON object a line, of numbers and nulls, `step` among them."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any, Dict, Mapping, NamedTuple

from launcher import foreign

LARGEST = 256 << 20  # bytes of which the rows are read
LONGEST = 1 << 16  # bytes of a row: reading a number takes the square of its digits
Row = Dict[str, float]


class Series(NamedTuple):
    """The rows of a file, steps ascending. A null is left out of its row. unread: lines that are no rows."""

    rows: tuple[Row, ...]
    unread: int = 0


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
    unread = 0
    for line in data.split(b"\n"):
        found = record(line)
        if found is None:
            unread += bool(line.strip())
            continue
        row = numbers(found)
        while rows and rows[-1]["step"] >= row["step"]:
            rows.pop()
        rows.append(row)
    return Series(tuple(rows), unread)


def record(line: bytes) -> dict[str, Any] | None:
    """Return what a line holds, whatever its values are but `step`; None: it is no row."""
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


def _is_number(value: Any) -> bool:
    return type(value) in (int, float) and abs(value) < 1e300  # so NaN is none
