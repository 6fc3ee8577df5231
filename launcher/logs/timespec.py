"""The times of --since and --until: before now, after the first line, before the last one, or absolute."""

from __future__ import annotations

import re
import time
from datetime import datetime, timedelta, timezone
from typing import Callable, Tuple

from launcher.errors import UsageError

Span = Callable[[], Tuple[int, int]]  # first and last time of what is shown, ns; asked for only when needed

_SECOND = 1000000000
_UNITS = {"d": 86400, "h": 3600, "m": 60, "s": 1, "ms": 0.001}
_LENGTH = re.compile(r"([+-]?)((?:\d+(?:\.\d+)?(?:ms|[dhms]))+)$")
_DATES = ("%Y-%m-%d %H:%M:%S.%f", "%Y-%m-%d %H:%M:%S", "%Y-%m-%d %H:%M", "%Y-%m-%d")
_TIMES_OF_DAY = ("%H:%M:%S.%f", "%H:%M:%S", "%H:%M")


def parse_timespec(text: str, option: str, span: Span) -> int:
    """Parse a time as ns since the epoch.

    `10m` is before now, `+90s` after the first line, `-30s` before the last one; `10:21:35.5` is a time of
    the day of the first line (or the next day, where that would be before it); `2026-03-01 10:21`,
    `2026-03-01T10:21:35Z`, seconds since the epoch.

    Raises:
        UsageError: none of these.
    """
    try:
        found = _parsed(text, span)
    except (ValueError, OverflowError):  # a zone of 99 hours, a year that no clock has
        found = None
    if found is None:
        example = "10m, +90s, -30s, 10:21:35 or 2026-03-01T10:21:35"
        raise UsageError(f"{option}: {text!r:.80}: invalid time; expected one such as {example}")
    return found


def _parsed(text: str, span: Span) -> int | None:
    match = _LENGTH.match(text)
    if match:
        length = _length(match.group(2))
        if match.group(1) == "+":
            return span()[0] + length
        return (span()[1] if match.group(1) == "-" else time.time_ns()) - length
    if re.match(r"\d{9,10}(\.\d+)?$", text):
        return int(float(text) * _SECOND)
    found = _date(text)
    return _time_of_day(text, span) if found is None else found


def _length(text: str) -> int:
    parts = re.findall(r"([\d.]+)(ms|[dhms])", text)
    return int(sum(float(number) * _UNITS[unit] for number, unit in parts) * _SECOND)


def _date(text: str) -> int | None:
    zone = re.search(r"(Z|[+-]\d\d:?\d\d)$", text[10:])
    bare = (text[: len(text) - len(zone.group())] if zone else text).replace("T", " ")
    for form in _DATES:
        try:
            when = datetime.strptime(bare, form)
        except ValueError:
            continue
        return _nanoseconds(when.replace(tzinfo=_zone(zone.group())) if zone else when)
    return None


def _zone(text: str) -> timezone:
    if text == "Z":
        return timezone.utc
    digits = text[1:].replace(":", "")
    offset = timedelta(hours=int(digits[:2]), minutes=int(digits[2:]))
    return timezone(offset if text[0] == "+" else -offset)


def _time_of_day(text: str, span: Span) -> int | None:
    for form in _TIMES_OF_DAY:
        try:
            clock = datetime.strptime(text, form).time()
        except ValueError:
            continue
        first = span()[0]
        when = datetime.combine(datetime.fromtimestamp(first // _SECOND).date(), clock)
        found = _nanoseconds(when)
        return found if found >= first - _SECOND else _nanoseconds(when + timedelta(days=1))
    return None


def _nanoseconds(when: datetime) -> int:
    whole = when.replace(microsecond=0).timestamp()
    return int(whole) * _SECOND + when.microsecond * 1000
