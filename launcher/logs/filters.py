"""Choose and join lines: by stream, time, pattern and level; equal lines of several ranks as one."""

from __future__ import annotations

import re
import time
from collections import deque
from datetime import datetime, timedelta, timezone
from typing import Callable, Iterator, Pattern

from launcher.errors import UsageError
from launcher.logs.levels import Levels
from launcher.logs.records import Block, Piece
from rank_table.ranges import spell

Blocks = Iterator[Block]
WINDOW = 250000000  # ns in which several ranks write the same line
HELD = 5000  # lines that wait for equal ones
SECOND = 1000000000


def by_stream(blocks: Blocks, stream: bytes) -> Blocks:
    """Keep the pieces of one stream."""
    for block in blocks:
        yield [piece for piece in block if piece[2] == stream]


def by_time(blocks: Blocks, since: int, until: int) -> Blocks:
    """Keep what lies between two times in ns (0: no limit); end when the later one is passed."""
    for block in blocks:
        if until and block and block[0][0] > until:
            return
        yield [piece for piece in block if since <= piece[0] and (not until or piece[0] <= until)]


def by_line(blocks: Blocks, keep: Callable[[Piece], bool]) -> Blocks:
    """Keep the lines for which `keep` holds; it gets pieces of one line each, in their order."""
    for block in blocks:
        yield [piece for piece in split(block) if keep(piece)]


def split(block: Block) -> Block:
    """Make a piece of each line."""
    return [
        (when, label, stream, line)
        for when, label, stream, text in block
        for line in (text.split(b"\n") if b"\n" in text else (text,))
    ]


def matching(blocks: Blocks, pattern: Pattern[bytes]) -> Blocks:
    """Keep the lines in which a pattern is found."""
    for block in blocks:
        found = [piece for piece in block if pattern.search(piece[3])]
        yield [piece for piece in split(found) if pattern.search(piece[3])]


def at_level(blocks: Blocks, least: int) -> Blocks:
    """Keep the lines of a level or above; the lines of a traceback have the level of an error."""
    levels: dict[tuple[bytes, bytes], Levels] = {}

    def keep(piece: Piece) -> bool:
        reader = levels.get(piece[1:3]) or levels.setdefault(piece[1:3], Levels())
        return reader.of(piece[3]) >= least

    return by_line(blocks, keep)


class _Held:
    """Hold a line that other ranks may still join."""

    __slots__ = ("labels", "number", "piece")

    def __init__(self, number: int, piece: Piece) -> None:
        self.number, self.piece = number, piece
        self.labels = {piece[1]}


class Collapse:
    """Join equal lines that several sources write within WINDOW: `[0-7]| text`, at the first one's time."""

    def __init__(self, live: bool = False) -> None:
        self._live = live  # what comes next may come much later: nothing waits longer than the window
        self._held: deque[_Held] = deque()
        self._by_text: dict[bytes, _Held] = {}
        self._last: dict[bytes, int] = {}
        self._count = 0

    def __call__(self, blocks: Blocks) -> Blocks:
        """Join the lines of blocks."""
        for block in blocks:
            out: Block = []
            for piece in split(block):
                self._release(piece[0] - WINDOW, out)
                self._take(piece)
            if self._live:
                self._release(time.time_ns() - WINDOW, out)
            yield out
        out = []
        self._release(1 << 63, out)
        yield out

    def _take(self, piece: Piece) -> None:
        held = self._by_text.get(piece[3])
        label = piece[1]
        # A source joins only what comes after its own last line, so that its lines stay in order.
        if held is not None and label not in held.labels and held.number > self._last.get(label, -1):
            held.labels.add(label)
        else:
            self._count += 1
            held = _Held(self._count, piece)
            self._held.append(held)
            self._by_text[piece[3]] = held
        self._last[label] = held.number

    def _release(self, before: int, out: Block) -> None:
        queue = self._held
        while queue and (queue[0].piece[0] < before or len(queue) > HELD):
            held = queue.popleft()
            when, _, stream, text = held.piece
            if self._by_text.get(text) is held:
                del self._by_text[text]
            out.append((when, joined(held.labels), stream, text))


def joined(labels: set[bytes]) -> bytes:
    """Name several sources: [0-2,5], or [a,b] where they are no ranks."""
    if len(labels) == 1:
        return next(iter(labels))
    if all(label.isdigit() for label in labels):
        return b"[%s]" % spell(sorted(map(int, labels))).encode()
    return b"[%s]" % b",".join(sorted(labels))


def tail(blocks: Blocks, count: int) -> Block:
    """Give the last lines of all."""
    last: deque[Piece] = deque(maxlen=count)
    for block in blocks:
        last.extend(split(block))
    return list(last)


_UNITS = {"d": 86400, "h": 3600, "m": 60, "s": 1, "ms": 0.001}
_SPAN = re.compile(r"([+-]?)((?:\d+(?:\.\d+)?(?:ms|[dhms]))+)$")
_FORMS = ("%Y-%m-%d %H:%M:%S.%f", "%Y-%m-%d %H:%M:%S", "%Y-%m-%d %H:%M", "%Y-%m-%d")
_CLOCKS = ("%H:%M:%S.%f", "%H:%M:%S", "%H:%M")


def moment(text: str, option: str, bounds: Callable[[], tuple[int, int]]) -> int:
    """Read a time as ns since the epoch.

    `10m` is before now, `+90s` after the first line, `-30s` before the last one; `10:21:35.5` is a time of
    the day of the first line (or the next day, where that would be before it); `2026-03-01 10:21`,
    `2026-03-01T10:21:35Z`, seconds since the epoch. `bounds` gives first and last time, when they are needed.

    Raises:
        UsageError: none of these.
    """
    match = _SPAN.match(text)
    if match:
        parts = re.findall(r"([\d.]+)(ms|[dhms])", match.group(2))
        length = int(sum(float(number) * _UNITS[unit] for number, unit in parts) * SECOND)
        if match.group(1) == "+":
            return bounds()[0] + length
        return (bounds()[1] if match.group(1) == "-" else time.time_ns()) - length
    if re.match(r"\d{9,10}(\.\d+)?$", text):
        return int(float(text) * SECOND)
    found = _date(text) or _clock(text, bounds)
    if found is None:
        example = "10m, +90s, -30s, 10:21:35 or 2026-03-01T10:21:35"
        raise UsageError(f"{option}: {text!r} is no time; give one such as {example}")
    return found


def _date(text: str) -> int | None:
    zone = re.search(r"(Z|[+-]\d\d:?\d\d)$", text[10:])
    bare = (text[: len(text) - len(zone.group())] if zone else text).replace("T", " ")
    for form in _FORMS:
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


def _clock(text: str, bounds: Callable[[], tuple[int, int]]) -> int | None:
    for form in _CLOCKS:
        try:
            clock = datetime.strptime(text, form).time()
        except ValueError:
            continue
        first = bounds()[0]
        when = datetime.combine(datetime.fromtimestamp(first // SECOND).date(), clock)
        found = _nanoseconds(when)
        return found if found >= first - SECOND else _nanoseconds(when + timedelta(days=1))
    return None


def _nanoseconds(when: datetime) -> int:
    whole = when.replace(microsecond=0).timestamp()
    return int(whole) * SECOND + when.microsecond * 1000
