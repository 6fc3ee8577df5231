"""Numbers and pairs in the text of a line."""

from __future__ import annotations

import re
from typing import Iterable, Iterator, Mapping

NUMBER = (
    r"[-+]?(?:\d{1,30}(?:(?:,\d{3}(?!\d))+(?:\.\d{0,40})?|,\d{1,40}(?!,?\d)|\.\d{0,40})?|\.\d{1,40})"
    r"(?:[eE][-+]?\d{1,5})?"
    r"|[-+]?(?i:nan|inf(?:inity)?)\b"
)
_PAIR = re.compile(r"[\"']?([A-Za-z_][\w./]{0,60})[\"']?\s{0,40}[:=]\s{0,40}[\"']?(" + NUMBER + r")(?![\w.])")
_THOUSANDS = re.compile(r"[-+]?[1-9]\d{0,2}(?:,\d{3})+(?!\d)")
LARGEST_STEP = 10**15


def number(text: str | None) -> float | None:
    """Return the number that a text of NUMBER says; a comma that separates no thousands is a decimal one.

    >>> number("1,234.5"), number("0,523"), number("nan") != number("nan"), number(None)
    (1234.5, 0.523, True, None)
    """
    if text is None:
        return None
    try:
        return float(text.replace(",", "" if _THOUSANDS.match(text) else ".") if "," in text else text)
    except ValueError:
        return None


def integer(text: str) -> float:
    """Return a whole number of JSON: a float where it is so long that reading it takes long."""
    return int(text) if len(text) < 19 else float(text)


def whole(value: object) -> int | None:
    """Return a step: a whole number from 0 on, not absurdly large; None for anything else."""
    found = number(value) if isinstance(value, str) else value
    if isinstance(found, bool) or not isinstance(found, (int, float)):
        return None
    return int(found) if 0 <= found <= LARGEST_STEP and found == int(found) else None


def first(names: Iterable[str], values: Mapping[str, float | None]) -> float | None:
    """Return the first of some values that is there."""
    return next((values[name] for name in names if values.get(name) is not None), None)


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
