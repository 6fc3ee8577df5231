"""Lists of numbers as people and kernels write them: `0-3,7`."""

from __future__ import annotations

import re
from typing import Iterable

_PART = re.compile(r"([0-9]{1,9})(?:-([0-9]{1,9}))?\Z")
_LONGEST = 65536  # numbers in a range that parse_lenient takes: as many as there are ports


def spell(numbers: Iterable[int]) -> str:
    """Write numbers as ranges, in the order given.

    >>> spell([0, 1, 2, 3, 7])
    '0-3,7'
    """
    runs: list[list[int]] = []
    for number in numbers:
        if runs and number == runs[-1][1] + 1:
            runs[-1][1] = number
        else:
            runs.append([number, number])
    return ",".join(str(low) if low == high else f"{low}-{high}" for low, high in runs)


def parse_part(text: str) -> range | None:
    """Read one part of a list: a number or a range, without blanks. None: it is neither.

    A descending range comes back empty, so that the caller can name it.

    >>> parse_part("7"), parse_part("0-3"), parse_part("3-0"), parse_part("x")
    (range(7, 8), range(0, 4), range(3, 1), None)
    """
    match = _PART.match(text)
    if match is None:
        return None
    low, high = int(match.group(1)), int(match.group(2) or match.group(1))
    return range(low, high + 1)


def parse_lenient(text: str) -> set[int]:
    """Read a list that the kernel or a tool wrote, with commas or blanks; skip what is no part of one.

    >>> sorted(parse_lenient("0-2, 8 x 5-3"))
    [0, 1, 2, 8]
    """
    parts = [parse_part(part) for part in re.split(r"[,\s]+", text)]
    return {number for part in parts if part and len(part) <= _LONGEST for number in part}
