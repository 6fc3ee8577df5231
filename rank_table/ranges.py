"""Lists of numbers as people write them: `0-3,7`."""

from __future__ import annotations

from typing import Iterable


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
