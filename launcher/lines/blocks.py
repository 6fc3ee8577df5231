"""The blocks of an error in a log: a traceback, CANN's report, what a program says as it dies.

`BlockReader` reads a file line by line and tells of each line where it stands; prefixes are stripped and each
one's lines followed by themselves, as ranks interleave. `error_blocks` gathers the blocks of lines.
"""

from __future__ import annotations

import enum
import re
from dataclasses import dataclass, field
from typing import Iterable, NamedTuple, Pattern, Sequence

from launcher.lines.levels import ERROR, WARNING, is_exception, is_report, is_said, level, words_of
from launcher.lines.prefixes import PrefixReader, headed, same_head

TRACEBACK, SAID, REPORT, LEVEL = "traceback", "said", "report", "level"  # the kinds of blocks
_MOST_BETWEEN = 40  # lines of others between the frames of a traceback
_MOST_AFTER = 12  # lines of a message that look like ordinary output
_STREAMS = 4096  # prefixes that are followed at once

_TRACE = b"raceback (most recent call last)"  # Python's; CANN's is written TraceBack
_FILE = re.compile(rb'\s+File "[^"]{1,1000}", line \d+')
_CHAIN = re.compile(
    rb"\s*(?:\| )?(?:During handling of the above exception|The above exception was the direct cause)"
)
_OPENS = re.compile(
    rb"Exception in thread |Process \S+-\d+:$|\S*RemoteTraceback: ?$|Exception in Tkinter|Unhandled exception"
)
# A line without one of these words begins no traceback.
_OPENING = frozenset(
    b"traceback exception ignored atexit object excepthook process remotetraceback unhandled logging".split()
)
_IGNORED = re.compile(
    rb"Exception ignored |Error in atexit|object address  : |Error in sys\.excepthook|--- Logging error ---$"
)
_RAISED = re.compile(rb"[A-Za-z_][\w.<>]{0,200}(?:: |:$|$)")  # whatever the class is called
_GROUP = re.compile(rb"\s*[|+] ?")
_IN_GROUP = re.compile(rb"\s*\| ([A-Za-z_][\w.]*(?:: |$))")
_CONTINUES = re.compile(
    rb'\[ERROR\] \d|\[Error\]|E[A-Z0-9]\d{4}\b|\[PID: ?\d|"""|={5}|-{5}|frame #\d|Exception raised from '
    rb"|Original Traceback|\(Please search|Current thread|Thread 0x|goroutine \d|\[signal |note: "
    rb"|Aborted|what\(\)|Extension modules: |Stack trace|C\+\+ Traceback|Error Message Summary"
)
_BOX = re.compile(rb"\s*[-=]{5}")
# Between the head of Paddle's C++ traceback and its error (paddle/common/enforce.h).
_OF_REPORT = (b"[PID:", b"Solution", b"there are(is) ")  # lines of CANN's reports that are not indented
_ENDED = b"FatalError: `Termination signal`"  # Paddle's report of a SIGTERM: no error of the rank
_NATIVE = re.compile(rb"-{5}|\d{1,3} {2,}\S|Error Message Summary:|No stack trace in paddle")
_PROGRESS = re.compile(
    rb"(?i)\b(?:step|epoch|iter\w*|loss|batch)\b\W{0,3}\d|\d%\||it/s\b|s/it\b|\bdone\b|^\w+\W{0,3}="
)
_NOISE = re.compile(
    rb"Unable to register cu\w+ factory|computation placer already|failed call to cuInit|cannot be preloaded"
)


class Place(enum.Enum):
    """Where a line stands."""

    OUTSIDE = 0
    BEGINS = 1  # a block
    INSIDE = 2
    RAISED = 3  # inside: the line with the exception
    MAYBE = 4  # after an exception: the rest of its message, or ordinary output


class ReadLine(NamedTuple):
    """A line as it was read. `key` tells the streams of a file apart; `rank` is what the prefix says."""

    place: Place
    kind: str
    level: int
    key: bytes
    rank: int | None
    text: bytes


class _State(enum.Enum):
    OUTSIDE = 0
    OPENED = 1  # a traceback is to come
    FRAMES = 2
    GROUP = 3
    MESSAGE = 4
    REPORT = 5
    SAID = 6
    LEVEL = 7


_KINDS = {
    _State.OPENED: TRACEBACK,
    _State.FRAMES: TRACEBACK,
    _State.GROUP: TRACEBACK,
    _State.MESSAGE: TRACEBACK,
    _State.REPORT: REPORT,
    _State.SAID: SAID,
    _State.LEVEL: LEVEL,
}
# For the ordinary line: a member of an enumeration costs 0.2 us each time on Python 3.11.
_OUTSIDE, _IDLE = Place.OUTSIDE, _State.OUTSIDE


class _Stream:
    """The lines behind one prefix."""

    def __init__(self) -> None:
        self.state = _State.OUTSIDE
        self._kind = ""
        self._head: Pattern[bytes] | None = None  # before each line of a traceback that a logger wrote
        self._count = 0  # lines of others, or after the exception
        self._blank = self._boxed = self._noise = False

    def read(self, text: bytes) -> tuple[Place, str, int, bytes]:
        """Return the place, the kind of block, the level and the text without a logger's head."""
        if self.state is _IDLE:  # most lines: nothing goes on, and nothing begins
            place, found = self._begin(text)
            if place is _OUTSIDE:
                return place, "", found, text
            return place, self._kind, ERROR, text
        text = self._without_head(text)
        place, found = self._place(text)
        if self._noise and place is not Place.OUTSIDE:
            return Place.OUTSIDE, "", WARNING, text
        if place in (Place.OUTSIDE, Place.MAYBE):
            return place, self._kind if place is Place.MAYBE else "", found, text
        return place, self._kind, ERROR, text

    def _without_head(self, text: bytes) -> bytes:
        if self._head is None:
            return text
        if self.state not in (_State.FRAMES, _State.GROUP, _State.MESSAGE, _State.OPENED):
            self._head = None
            return text
        match = self._head.match(text)
        if match:
            return text[match.end() :]
        if _FILE.match(text) or text[:1].isspace():
            self._head = None  # the head stood before the first line alone
        return text

    def _place(self, text: bytes) -> tuple[Place, int]:
        continues = self._continues(text)
        self._blank = not text.strip()
        return continues or self._begin(text)

    def _enter(self, state: _State, place: Place = Place.BEGINS) -> tuple[Place, int]:
        if place is Place.BEGINS:
            self._noise = False
            self._kind = _KINDS[state]
        self.state, self._count, self._blank, self._boxed = state, 0, False, False
        return place, ERROR

    def _begin(self, text: bytes) -> tuple[Place, int]:
        """Look at a line that continues nothing."""
        words = words_of(text)
        if text[:1] == b" " and _FILE.match(text):
            return self._enter(_State.FRAMES)  # a SyntaxError has no head
        if _OPENING.isdisjoint(words):
            self._head = None
            return self._begin_other(text, words)
        at = text.find(_TRACE)
        if at > 0 and text[at - 1 : at] in (b"T", b"t") and b"TraceBack" not in text:
            return self._begin_traceback(text, at - 1)
        if _IGNORED.match(text):
            self._enter(_State.OPENED)
            self._noise = True
            return Place.OUTSIDE, WARNING
        if _OPENS.match(text):
            return self._enter(_State.OPENED)
        self._head = None
        return self._begin_other(text, words)

    def _begin_traceback(self, text: bytes, at: int) -> tuple[Place, int]:
        head = text[:at]
        group = head.rstrip().endswith(b"Exception Group")
        if group:
            head = head.rstrip()[: -len(b"Exception Group")].rstrip(b"+ ")
        self._head = same_head(head.replace(b"Original ", b""))
        return self._enter(_State.GROUP if group else _State.FRAMES)

    def _begin_other(self, text: bytes, words: list[bytes]) -> tuple[Place, int]:
        found = level(text, words)
        if found < ERROR or _NOISE.search(text):
            self.state = _IDLE
            return _OUTSIDE, found
        if is_report(text):
            return self._enter(_State.REPORT)
        if is_exception(text):
            return self._enter(_State.MESSAGE)
        return self._enter(_State.SAID if is_said(text) else _State.LEVEL)

    def _continues(self, text: bytes) -> tuple[Place, int] | None:
        if self.state is _State.OPENED:
            return self._opened(text)
        if self.state is _State.FRAMES:
            return self._frames(text)
        if self.state is _State.GROUP:
            return self._group(text)
        if self.state is _State.MESSAGE:
            return self._message(text)
        return self._rest(text)

    def _opened(self, text: bytes) -> tuple[Place, int] | None:
        at = text.find(_TRACE)
        if at > 0:
            return self._enter(_State.GROUP if b"Exception Group" in text else _State.FRAMES, Place.INSIDE)
        if not text.strip() or text[:1].isspace() or text.startswith(b'"""'):
            return Place.INSIDE, ERROR
        if is_exception(text):
            return self._enter(_State.MESSAGE, Place.RAISED)
        return None

    def _frames(self, text: bytes) -> tuple[Place, int] | None:
        if text[:1].isspace() or not text or _NATIVE.match(text):
            return Place.INSIDE, ERROR
        if _RAISED.match(text) and not headed(text):
            return self._enter(_State.MESSAGE, _raised(text))
        if _TRACE in text:
            return None
        self._count += 1  # another thread's line
        if self._count > _MOST_BETWEEN:
            self.state = _State.OUTSIDE
            return None
        return Place.OUTSIDE, level(text)

    def _group(self, text: bytes) -> tuple[Place, int] | None:
        if not self._count and _IN_GROUP.match(text):
            self._count = 1  # the group; what follows is in it
            return Place.RAISED, ERROR
        if _GROUP.match(text) or text[:1].isspace() or not text:
            return Place.INSIDE, ERROR
        return self._message(text)

    def _message(self, text: bytes) -> tuple[Place, int] | None:
        """Read on after the exception: its message may have more lines, and another may be chained to it."""
        if not text.strip():
            return Place.INSIDE, ERROR
        if _CHAIN.match(text) or (self._boxed and _OPENS.match(text)):
            return self._enter(_State.OPENED, Place.INSIDE)
        if b"Original Traceback" in text:
            return self._enter(_State.FRAMES, Place.INSIDE)
        if text[:1].isspace() or text[:1] == b"|":
            return Place.INSIDE, ERROR
        if _CONTINUES.match(text):
            self._boxed = self._boxed or bool(_BOX.match(text))
            return Place.INSIDE, ERROR
        if headed(text) or _TRACE in text or (self._blank and not self._boxed) or _IGNORED.match(text):
            return None
        if is_exception(text):
            return _raised(text), ERROR
        self._count += 1
        if self._count > _MOST_AFTER * (4 if self._boxed else 1) or _PROGRESS.search(text) or is_said(text):
            return None
        return Place.MAYBE, level(text)

    def _rest(self, text: bytes) -> tuple[Place, int] | None:
        """Read on after a report or a line with a level: what is indented belongs to it."""
        if not text.strip():
            return (Place.INSIDE, ERROR) if self.state is not _State.LEVEL else None
        if text[:1].isspace():
            return Place.INSIDE, ERROR
        if self.state is _State.REPORT and (is_report(text) or text.startswith(_OF_REPORT)):
            return Place.INSIDE, ERROR
        if self.state is _State.SAID and _CONTINUES.match(text):
            return Place.INSIDE, ERROR
        if self.state is _State.LEVEL and text.startswith((b"[Error]", b"[PID:")):
            return Place.INSIDE, ERROR
        return None


def _raised(text: bytes) -> Place:
    return Place.INSIDE if text.startswith(_ENDED) else Place.RAISED


class BlockReader:
    """The lines of one file, in order."""

    def __init__(self) -> None:
        self._prefixes = PrefixReader()
        self._streams: dict[bytes, _Stream] = {}

    def learn(self, lines: Sequence[bytes]) -> None:
        """Look at the first lines for prefixes that only repetition gives away."""
        self._prefixes.learn(lines)

    def read(self, line: bytes) -> ReadLine:
        """Read the next line."""
        key, rank, text = self._prefixes.split(line.rstrip(b"\r") if line[-1:] == b"\r" else line)
        stream = self._streams.get(key)
        if stream is None:
            if len(self._streams) >= _STREAMS:
                self._streams.clear()
            stream = self._streams[key] = _Stream()
        place, kind, found, text = stream.read(text)
        return ReadLine(place, kind, found, key, rank, text)


@dataclass
class ErrorBlock:
    """Lines that report one error, without their prefixes. `number`: that of the first line, from 0."""

    kind: str
    key: bytes
    rank: int | None
    number: int
    lines: list[bytes] = field(default_factory=list)
    raised_at: int = 0  # in `lines`

    @property
    def text(self) -> str:
        """The whole block."""
        return b"\n".join(self.lines).decode("utf-8", "backslashreplace")

    @property
    def raised(self) -> str:
        """The exception that was raised last, or the first line of what is no traceback."""
        return self.lines[self.raised_at].decode("utf-8", "backslashreplace")

    @property
    def codes(self) -> tuple[str, ...]:
        """CANN's codes in it, in their order, such as EI0006."""
        return tuple(dict.fromkeys(_CODE.findall(self.text)))


_CODE = re.compile(r"(?<![0-9A-Za-z])(E[A-Z0-9][0-9]{4})(?![0-9A-Za-z])")


def error_blocks(lines: Iterable[bytes]) -> list[ErrorBlock]:
    """Find the blocks of errors in lines without their line ends, by the order of their first lines.

    What an interpreter prints as it ends (`Exception ignored in`, atexit) and what TensorFlow calls an error
    on every start are none.
    """
    rows = list(lines)
    reader = BlockReader()
    reader.learn(rows)
    found: list[ErrorBlock] = []
    open_blocks: dict[bytes, ErrorBlock] = {}
    for number, line in enumerate(rows):
        place, kind, _, key, rank, text = reader.read(line)
        if place is Place.OUTSIDE:
            continue
        block = open_blocks.get(key)
        if place is Place.BEGINS or block is None:
            block = open_blocks[key] = ErrorBlock(kind, key, rank, number)
            found.append(block)
        block.raised_at = len(block.lines) if place is Place.RAISED else block.raised_at
        block.lines.append(text)
    for block in found:
        while len(block.lines) > 1 and not block.lines[-1].strip():
            block.lines.pop()
    return found
