"""Slurm's host lists (`pre[1-3,05-07]post,x`), read and written without scontrol, which containers lack."""

from __future__ import annotations

import re
from itertools import groupby
from typing import Iterator, Sequence

from launcher.errors import UsageError

MOST = 65536  # names; a longer list is a typing error
_PARTS = re.compile(r"(?:[^,\[\]]|\[[^\[\]]*\])+")  # commas within brackets part no names
_RANGE = re.compile(r"([0-9]{1,18})(?:-([0-9]{1,18}))?")
_LAST_NUMBER = re.compile(r"(.*?)([0-9]{1,18})([^0-9]*)", re.DOTALL)


def expand(text: str) -> tuple[str, ...]:
    """Return the names of a host list, in its order; zeros before a number stay.

    Raises:
        UsageError: it is no host list, or has more than 65,536 names.

    >>> expand("n[08-10]-ib[0,1],x")
    ('n08-ib0', 'n08-ib1', 'n09-ib0', 'n09-ib1', 'n10-ib0', 'n10-ib1', 'x')
    """
    parts = [part.strip() for part in _PARTS.findall(text)]
    if not parts or not all(parts) or ",".join(_PARTS.findall(text)) != text:
        raise _invalid(text, "expected names such as node[1-4,08],login1")
    found: list[str] = []
    for part in parts:
        for name in _names(part, text):
            found.append(name)
            if len(found) > MOST:
                raise _invalid(text, f"more than {MOST} names")
    return tuple(found)


def _names(part: str, text: str) -> Iterator[str]:
    """Yield the names of one pattern: the last bracket counts fastest, as in Slurm."""
    before, bracket, rest = part.partition("[")
    if not bracket:
        yield part
        return
    inside, _, after = rest.partition("]")
    for number in _numbers(inside, text):
        for tail in _names(after, text) if after else ("",):
            yield before + number + tail


def _numbers(inside: str, text: str) -> Iterator[str]:
    for item in inside.split(","):
        match = _RANGE.fullmatch(item.strip())
        if not match:
            raise _invalid(text, f"{item!r} is no number and no range")
        low, high = match.group(1), match.group(2) or match.group(1)
        if int(high) < int(low):
            raise _invalid(text, f"{item}: descending range")
        if int(high) - int(low) >= MOST:
            raise _invalid(text, f"more than {MOST} names")
        yield from (f"{number:0{len(low)}d}" for number in range(int(low), int(high) + 1))


def _invalid(text: str, problem: str) -> UsageError:
    return UsageError(f"host list {text!r:.80}: {problem}")


def compress(names: Sequence[str]) -> str:
    """Write names as a host list in their order: neighbours that count up become a range.

    >>> compress(["node1", "node2", "node3", "node07", "x"])
    'node[1-3,07],x'
    """
    groups = groupby((_split(name) for name in names), key=lambda name: (name[0], name[2], bool(name[1])))
    return ",".join(
        _pattern(before, after, [name[1] for name in group]) for (before, after, _), group in groups
    )


def _split(name: str) -> tuple[str, str, str]:
    match = _LAST_NUMBER.fullmatch(name)
    return (match.group(1), match.group(2), match.group(3)) if match else (name, "", "")


def _pattern(before: str, after: str, numbers: Sequence[str]) -> str:
    if len(numbers) == 1 or not numbers[0]:
        return ",".join(before + number + after for number in numbers)
    runs: list[tuple[str, str]] = []
    for number in numbers:
        if runs and number == _next(runs[-1][1]):
            runs[-1] = (runs[-1][0], number)
        else:
            runs.append((number, number))
    inside = ",".join(low if low == high else f"{low}-{high}" for low, high in runs)
    return f"{before}[{inside}]{after}"


def _next(number: str) -> str:
    return f"{int(number) + 1:0{len(number)}d}"
