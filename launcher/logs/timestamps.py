"""The times in the lines of other programs' logs.

Dated: ISO 8601 and what is like it (Python's logging, TensorFlow, CANN's plog, MindSpore, loguru, nginx),
`03/01/2026 10:00:05` of Hugging Face's examples, `01/Mar/2026:10:00:05`, ctime, `26/03/01 10:00:05` of log4j.
Without a year: absl, glog, klog, torch's `[E301 10:00:00.1 x.cpp:5]`, syslog, `03-01 10:00:05` of vLLM.
Seconds since the epoch: absl's `E0000 00:00:1772359205.000001`, `[ERROR] [1772359205.1]`, JSON lines, logfmt.
A time of day alone: `10:00:05,123`.
"""

from __future__ import annotations

import re
import time
from calendar import timegm
from datetime import date, timedelta
from typing import Callable, Dict, Iterable, Match, Pattern, Tuple

SECOND = 1000000000
DAY = 86400 * SECOND
Date = Tuple[int, int, int]
HEAD = 80  # bytes in which a line's own time is looked for
_FAR = 4096  # of a JSON line
_LONGEST_PREFIX = 300

_CLOCK = rb"[0-2]\d:[0-5]\d:[0-6]\d"
_FRACTION = rb"(?:[.,](\d{1,9})\d{0,9})?"
_MONTHS = b"JanFebMarAprMayJunJulAugSepOctNovDec"
_MONTH = rb"(Jan|Feb|Mar|Apr|May|Jun|Jul|Aug|Sep|Oct|Nov|Dec)"
_ZONE = rb"(Z\b|UTC\b|GMT\b|[+-](?:0\d|1[0-4]):?[0-5]\d\b|(?<=\d)[+-](?:0\d|1[0-4])\b)"
_YEAR = rb"(?:19[7-9]\d|20\d\d)"

_DATED = re.compile(
    rb"(?<!\d)(" + _YEAR + rb"[-/][01]\d[-/][0-3]\d[-T _]" + _CLOCK + rb")"
    rb"(?:[.,](\d{1,9})(?:\.(\d{3})(?:\.(\d{3}))?|\d{0,9})|:(\d{3,9})\b)?\s?" + _ZONE + rb"?"
)  # fmt: skip
_SECOND = re.compile(_YEAR + rb"[-/][01]\d[-/][0-3]\d[-T _]" + _CLOCK + rb"$")
_GATE = re.compile(rb"\d:\d\d|\d{8}")  # a line without is not looked at further

_JSON = re.compile(
    rb'(?<!\\)"(?:@timestamp|timestamp|time|ts|asctime|datetime|eventTime|t|date|@t|Timestamp|Time|_time)"'
    rb'\s{0,4}:\s{0,4}("?)([^"}]{5,40})'
)
_JOURNAL = re.compile(rb'"__REALTIME_TIMESTAMP"\s{0,4}:\s{0,4}"(\d{16})"')
_NUMBER = re.compile(rb"(\d{10})(?:\.(\d{1,9})\d{0,9}|(\d{3}|\d{6}|\d{9}))?(?!\d)")
_EPOCH = re.compile(
    rb"[DIWEF]0000 00:00:(?P<absl>\d{9,10}\.\d{1,9})|(?:\[\s{0,3}[A-Za-z]{4,8}\s{0,3}\]:? )?"
    rb"\[?(?P<bare>\d{10}(?:\.\d{1,9}|\d{3}|\d{6}|\d{9}))(?=[\]\s:|]|$)"
)
_LOGFMT = re.compile(
    rb'(?:^|\s)(?:ts|time|t|timestamp)="?(?P<bare>\d{10}(?:\.\d{1,9}|\d{3}|\d{6}|\d{9})?)(?![\d:-])'
)
# Groups: y, b or m, d, c (the clock), f, z, p; what is not there comes from the neighbours.
_FORMS: tuple[Pattern[bytes], ...] = tuple(
    re.compile(form.replace(b"CLOCK", rb"(?P<c>" + _CLOCK + rb")(?:[.,](?P<f>\d{1,9})\d{0,9})?"))
    for form in (
        rb"[\s\[]{0,3}[DIWEF](?P<y>20\d\d)(?P<m>[01]\d)(?P<d>[0-3]\d) CLOCK",
        rb"[\s\[]{0,3}[DIWEF](?P<m>1[0-2]|0?\d)(?P<d>[0-3]\d) CLOCK",
        rb"[\s\[(<]{0,3}(?:[A-Z][a-z]{2},? )?(?P<b>" + _MONTH + rb") (?P<d>[ \d]?\d)"
        rb"(?:,? (?P<y>20\d\d))?,? CLOCK(?: ?(?P<p>[AP]M))?(?: (?P<y2>20\d\d)\b)?",
        rb"(?:(?<=\W)|^)(?P<d>\d{1,2})[ /-](?P<b>" + _MONTH + rb")[ /-](?P<y>20\d\d)[ :]CLOCK"
        rb"(?: ?(?P<z>[+-]\d{4}|GMT|UTC|Z)\b)?",
        rb"(?:(?<=\W)|^)(?P<m>\d\d?)/(?P<d>\d\d?)/(?P<y>20\d\d),?[ -]CLOCK(?: ?(?P<p>[AP]M))?",
        rb"(?:(?<=[\s\[(])|^)(?P<s>\d\d)/(?P<m>[01]\d)/(?P<d>[0-3]\d) CLOCK",
        rb"(?:(?<=[\s\[(])|^)(?P<m>[01]\d)[-/](?P<d>[0-3]\d) CLOCK",
        rb"[\s\[(<]{0,3}(?P<y>20\d\d)(?P<m>[01]\d)(?P<d>[0-3]\d)[T _-](?P<c2>[0-2]\d:?[0-5]\d:?[0-6]\d)"
        rb"(?:[.,](?P<f>\d{1,9}))?(?P<z>Z\b)?",
    )
)  # fmt: skip
_ANCHORED = (0, 1, 2, 7)  # of the forms: at the line's start alone
_DAYTIME = re.compile(
    rb"[\s\[(|<]{0,4}(?:(?:DEBUG|INFO|WARN(?:ING)?|ERROR|CRITICAL|FATAL)[\]:|\s]{1,4}[\[(]?)?"
    rb"([0-2]?\d:[0-5]\d:[0-6]\d)" + _FRACTION + rb"(?![\d:<%])"
)
_LONG_PREFIX = re.compile(rb"\[pod/[^\]\s]{1,250}\] |\([^()]{0,120}\bpid=[^()]{1,80}\) ")


class _Seconds(Dict[bytes, int]):
    """The seconds that are known by their text: `2026-03-01 10:21:35` -> ns since the epoch, local."""

    def __missing__(self, text: bytes) -> int:
        if not _SECOND.match(text):
            raise KeyError(text)
        if len(self) > 4096:
            self.clear()
        return self.setdefault(text, local_ns(_date(text), text[11:]))


def local_ns(day: Date, clock: bytes, zone: bytes = b"") -> int:
    """Return a date and time as ns since the epoch, 0 where there is none such; without a zone, local."""
    hour, minute, second = int(clock[:2]), int(clock[-5:-3]), int(clock[-2:])
    try:
        if hour > 24 or (hour == 24 and (minute or second)) or minute > 59 or second > 60:
            return 0
        whole = date(*day)
        if hour == 24:
            whole, hour = whole + timedelta(1), 0
        parts = (whole.year, whole.month, whole.day, hour, minute, second, 0, 0, -1)
        seconds = timegm(parts) - _offset(zone) if zone else int(time.mktime(parts))
    except (ValueError, OverflowError):
        return 0
    return max(0, seconds) * SECOND


def _date(text: bytes) -> Date:
    return int(text[:4]), int(text[5:7]), int(text[8:10])


def _on(day: date, clock: bytes) -> int:
    return local_ns((day.year, day.month, day.day), clock)


def _offset(zone: bytes) -> int:
    if zone[:1] not in (b"+", b"-"):
        return 0
    digits = zone[1:].replace(b":", b"").ljust(4, b"0")
    seconds = int(digits[:2]) * 3600 + int(digits[2:]) * 60
    return seconds if zone[:1] == b"+" else -seconds


def _padded(*digits: bytes | None) -> int:
    return int(b"".join(part or b"" for part in digits).ljust(9, b"0")[:9])


class TimestampReader:
    """The times in the lines of one file, as ns since the epoch; 0 for none.

    A year or a day that a line leaves out comes from the line before it; of the first one it is that which
    lies nearest to `near()` (a time from the files beside it; 0: none), else the last before `latest`, the
    time of the file's last change. `days` tells how often the times of day begin anew within the file, `bare`
    takes the prefixes off a line.
    """

    def __init__(
        self,
        latest: int,
        near: Callable[[], int] = lambda: 0,
        days: Callable[[], int] = lambda: 0,
        bare: Callable[[bytes], bytes] = lambda line: line,
    ) -> None:
        self._latest, self._near, self._days, self._bare = latest, near, days, bare
        self._known = _Seconds()
        self._yearless: dict[tuple[int, int, bytes], int] = {}
        self._layout = (0, 0, 0)  # in the last line: begin of its date, begin and end of its fraction
        self._last = 0
        self._guessed = False
        self.dated = False  # a date has been seen: a time of day alone is none
        self.form = 0  # the form that the last line had, looked at first

    def read_all(self, lines: list[bytes]) -> list[int] | None:
        """Read lines that all have the layout of the last one; None where one has not."""
        begin, first, end = self._layout
        if not end:
            return None
        fractions = [line[first:end] for line in lines]
        digits = b"".join(fractions)
        if b"." in digits:
            fractions = [text.replace(b".", b"") for text in fractions]
            digits = b"".join(fractions)
        width = len(fractions[0])
        if not 0 < width <= 9 or not digits.isdigit() or len(digits) != width * len(lines):
            return None
        scale, known, stop = 10 ** (9 - width), self._known, begin + 19
        try:
            times = [known[line[begin:stop]] + int(text) * scale for line, text in zip(lines, fractions)]
        except KeyError:
            return None
        if min(times) < SECOND:  # a date that does not exist
            return None
        self._last = times[-1]
        return times

    def read(self, line: bytes) -> int:
        """Read one line."""
        if line[:1] == b"{" and line[1:2] != b"}":
            found = self._in_json(line)
            if found:
                return self._seen(found)
        match = _DATED.search(line, 0, HEAD + self._prefix(line))
        if match is not None:
            found = self._in_date(match)
            return self._seen(found) if found else 0
        if not _GATE.search(line, 0, HEAD + _LONGEST_PREFIX):
            return 0
        return self._other(line)

    def learn(self, lines: Iterable[bytes]) -> None:
        """Look for a date in the first lines: where there is one, a time of day alone is none."""
        probe = TimestampReader(self._latest, bare=self._bare)
        self.dated = any(probe.read(line) and probe.dated for line in lines)

    def whole(self, line: bytes) -> int:
        """Read one line; 0 where its date or its year is missing."""
        self._guessed = False
        when = self.read(line)
        return 0 if self._guessed else when

    def _seen(self, when: int) -> int:
        self.dated, self._last = True, when
        return when

    @staticmethod
    def _prefix(line: bytes) -> int:
        if line[:5] != b"[pod/" and b"pid=" not in line[:HEAD]:
            return 0
        match = _LONG_PREFIX.match(line)
        return match.end() if match else 0

    def _in_date(self, match: Match[bytes]) -> int:
        text, fraction, micro, nano, colon, zone = match.groups()
        ends = match.start(2), match.end(4) if nano else match.end(3) if micro else match.end(2)
        plain = fraction and not zone and not colon
        self._layout = (match.start(1), *ends) if plain else (0, 0, 0)
        if zone:
            second = local_ns(_date(text), text[11:], zone)
        else:
            second = self._known[text]
        return second + _padded(fraction or colon, micro, nano) if second else 0

    def _in_json(self, line: bytes) -> int:
        journal = _JOURNAL.search(line, 0, _FAR)
        if journal:
            return int(journal.group(1)) * 1000
        for match in _JSON.finditer(line, 0, _FAR):
            number = _NUMBER.match(match.group(2))
            if number:
                return _epoch(number)
            dated = _DATED.match(match.group(2)) if match.group(1) else None
            if dated:
                found = self._in_date(dated)
                self._layout = (0, 0, 0)
                return found
        return 0

    def _other(self, line: bytes) -> int:
        """Read a line with a rarer form; where it has prefixes, they are taken off."""
        self._layout = (0, 0, 0)
        head = line[: HEAD + _LONGEST_PREFIX]
        text = self._bare(head)
        found = self._formed(head) or (self._formed(text) if text is not head else 0)
        if found:
            return self._seen(found)
        return 0 if self.dated else self._time_of_day(_DAYTIME.match(head) or _DAYTIME.match(text))

    def _formed(self, text: bytes) -> int:
        epoch = _EPOCH.match(text) or (b"=" in text[:HEAD] and _LOGFMT.search(text, 0, HEAD))
        if epoch:
            digits = epoch.groupdict().get("absl") or epoch.group("bare")
            number = _NUMBER.match(digits)
            return _epoch(number) if number else 0
        order = (self.form, *(place for place in range(len(_FORMS)) if place != self.form))
        for place in order:
            form = _FORMS[place]
            match = form.match(text) if place in _ANCHORED else form.search(text, 0, HEAD)
            if match:
                self.form = place
                return self._of_parts(match.groupdict())
        return 0

    def _of_parts(self, parts: dict[str, bytes | None]) -> int:
        day, clock = int(parts["d"] or 0), parts.get("c") or _colons(parts.get("c2") or b"")
        name, digits = parts.get("b"), parts.get("m")
        month = _MONTHS.index(name) // 3 + 1 if name else int(digits or 0)
        if month > 12 >= day and parts.get("y") and not name:
            month, day = day, month  # the day first
        year, short = parts.get("y") or parts.get("y2"), parts.get("s")
        clock = _half_day(clock, parts.get("p"))
        if year or short:
            found = local_ns((int(year or b"20" + (short or b"")), month, day), clock, parts.get("z") or b"")
        else:
            found = self._without_year(month, day, clock)
        return found + _padded(parts.get("f")) if found else 0

    def _without_year(self, month: int, day: int, clock: bytes) -> int:
        self._guessed = True
        key = (month, day, clock)
        known = self._yearless.get(key)
        if known is None:
            if len(self._yearless) > 4096:
                self._yearless.clear()
            known = self._yearless[key] = self._nearest_year(month, day, clock)
        return known

    def _nearest_year(self, month: int, day: int, clock: bytes) -> int:
        near = self._last or self._near()
        year = time.localtime((near or self._latest) // SECOND).tm_year
        around = [local_ns((number, month, day), clock) for number in range(year - 4, year + 5)]
        found = [when for when in around if when]
        if near:
            return min(found, key=lambda when: abs(when - near), default=0)
        return max((when for when in found if when <= self._latest + DAY), default=0)

    def _time_of_day(self, match: Match[bytes] | None) -> int:
        if match is None:
            return 0
        self._guessed = True
        clock = match.group(1).rjust(8, b"0")
        fraction = _padded(match.group(2))
        if not self._last:
            day = self._first_day(clock)
        else:
            now = time.localtime(self._last // SECOND)
            day = date(now.tm_year, now.tm_mon, now.tm_mday)
        found = _on(day, clock)
        if found and found + fraction < self._last - SECOND * 3600:  # past midnight
            day += timedelta(1)
            found = _on(day, clock)
        if found:
            self._last = found + fraction
        return found + fraction if found else 0

    def _first_day(self, clock: bytes) -> date:
        """Choose the day of the first time of day."""
        near = self._near()
        now = time.localtime((near or self._latest) // SECOND)
        day = date(now.tm_year, now.tm_mon, now.tm_mday)
        if near:
            days = [day + timedelta(step) for step in (-1, 0, 1)]
            return min(days, key=lambda one: abs(_on(one, clock) - near))
        later = _on(day, clock) > self._latest + 60 * SECOND
        return day - timedelta(self._days() or int(later))


def _epoch(number: Match[bytes]) -> int:
    seconds, fraction, below = number.groups()
    known = 100000000 < int(seconds) < 4102444800  # to the year 2100: others are no times
    return int(seconds) * SECOND + _padded(fraction or below) if known else 0


def _colons(digits: bytes) -> bytes:
    plain = digits.replace(b":", b"")
    return b":".join((plain[:2], plain[2:4], plain[4:6]))


def _half_day(clock: bytes, half: bytes | None) -> bytes:
    if not half:
        return clock
    hour = int(clock[:2]) % 12 + (12 if half == b"PM" else 0)
    return b"%02d" % hour + clock[2:]


def midnights(lines: Iterable[bytes], bare: Callable[[bytes], bytes]) -> int:
    """Count how often the times of day in lines begin anew."""
    last, count = -1, 0
    for line in lines:
        if not _GATE.search(line, 0, HEAD):
            continue
        match = _DAYTIME.match(line) or _DAYTIME.match(bare(line[: HEAD + _LONGEST_PREFIX]))
        if match:
            hours, minutes, seconds = match.group(1).split(b":")
            now = int(hours) * 3600 + int(minutes) * 60 + int(seconds)
            count += now < last - 3600
            last = now
    return count
