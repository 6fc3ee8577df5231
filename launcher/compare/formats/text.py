"""Numbers and pairs in the text of a line."""

from __future__ import annotations

import re
from typing import Iterator

NUMBER = (
    r"[-+]?(?:\d{1,30}(?:,\d{3}(?!\d))*(?:\.\d{0,40})?|\.\d{1,40})(?:[eE][-+]?\d{1,5})?"
    r"|[-+]?(?i:nan|inf(?:inity)?)\b"
)
_PAIR = re.compile(r"[\"']?([A-Za-z_][\w./]{0,60})[\"']?\s{0,40}[:=]\s{0,40}[\"']?(" + NUMBER + r")(?![\w.])")
LARGEST_STEP = 10**15


def number(text: str | None) -> float | None:
    """Return the number that a text of NUMBER says.

    >>> number("1,234.5"), number("nan") != number("nan"), number(None)
    (1234.5, True, None)
    """
    if text is None:
        return None
    try:
        return float(text.replace(",", "") if "," in text else text)
    except ValueError:
        return None


def whole(value: object) -> int | None:
    """Return a step: a whole number from 0 on, not absurdly large; None for anything else."""
    found = number(value) if isinstance(value, str) else value
    if isinstance(found, bool) or not isinstance(found, (int, float)):
        return None
    return int(found) if 0 <= found <= LARGEST_STEP and found == int(found) else None


def pairs(text: str) -> Iterator[tuple[str, float]]:
    """Yield names and numbers: `name = 1`, `name: 1`, `'name': 1`, `"name": "1"`, `name : 1`."""
    for name, value in _PAIR.findall(text):
        found = number(value)
        if found is not None:
            yield name, found


def as_number(value: object) -> float | None:
    """Return the number that a value of JSON is, or that its text says."""
    if isinstance(value, bool) or not isinstance(value, (int, float, str)):
        return None
    return number(str(value))
