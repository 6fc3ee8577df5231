"""Frames: the messages between head and agents, as lines that survive the stdio of srun and mpirun.

A line is `ESC N <host> <kind> <flags> <payload> RS LF`. The payload is JSON, or for `log` and `file` a JSON
header and the bytes after it. Bytes that would end or tear a line are escaped, so that neither LF nor RS is
in a payload. Flags: `.` the whole body or its last part, `+` a part that another follows, `z` deflated.

srun passes lines of at most 1,024 bytes of several tasks on whole, and tears longer ones (Slurm 22.05,
slurmstepd's MAX_MSG_LEN): hence the parts. mpirun (Open MPI 4.1) passes on chunks cut anywhere, but with
--tag-output says before each chunk and line whose it is: `TaggedDecoder` joins the chunks of each rank.
"""

from __future__ import annotations

import json
import re
import zlib
from typing import Any, Callable, Iterator, NamedTuple

ALL = -1  # the addressee of a frame to every host
LINE = 1000  # bytes of a line that srun passes on whole
BINARY = frozenset(("log", "file"))  # kinds whose body is (header, bytes)
LONGEST = 256 << 20  # bytes of a body that is put together: more is no message of ours
LONGEST_LINE = 4 << 20  # bytes: more without a line end is no line of ours
DEFLATED = 4096  # bytes from which a body is deflated
_DENSE = "file"  # not deflated: checkpoints hardly become smaller
_LOG = "log"  # deflated for srun, which takes longer for four times the bytes; mpirun does not

_START, _END = b"\x1bN ", b"\x1e\n"
_ESCAPE = b"\x1d"
# LF is so common in logs that it changes places with US (0x1f), at the cost of one translation; what would be
# mistaken for a mark is escaped, and CR, as a terminal in between may add or drop it.
_SWAP = bytes.maketrans(b"\n\x1f", b"\x1f\n")
_MARKS, _TAG_WORD = b"\n\r\0\x1b\x1d\x1e", b"]<std"
_CODES = {
    b"\n": b"n", b"\r": b"r", b"\0": b"0", b"\x1b": b"e", b"\x1e": b"s", _TAG_WORD: b"t",
}  # fmt: skip
_ESCAPED = _ESCAPE + b"g"  # the escape itself
_PLAIN = {**{code: text for text, code in _CODES.items()}, b"g": _ESCAPE}
_TAG = rb"\[[^\[\]\n]{1,80},(\d+)\]<std(?:out|err)>:"
_CUT_TAG = re.compile(rb"\[[^\[\]\n\x1d\x1e]{0,80}(?:\](?:<[a-z]{0,6}(?:>:?)?)?)?\Z")  # its first part

Noise = Callable[[bytes], None]


class Frame(NamedTuple):
    """A message. host: its sender's index on the way to the head, its addressee's on the way back.

    body: a JSON value; of the kinds in BINARY (header, bytes), which costs less the more bytes there are.
    """

    host: int
    kind: str
    body: Any = None


def encode(frame: Frame, most: int = LINE) -> list[bytes]:
    """Write a frame as lines of at most `most` bytes; `most` must be 200 or more."""
    data = _body(frame)
    packed = zlib.compress(data, 1) if len(data) > DEFLATED and _shrinks(frame.kind, most) else data
    deflate = len(packed) < len(data)
    payload = _escaped(packed if deflate else data)
    head = b"%s%d %s " % (_START, frame.host, frame.kind.encode())
    flag = b"z" if deflate else b""
    room = most - len(head) - len(flag) - 2 - len(_END)
    parts = list(_parts(payload, room))
    marks = [b"+"] * (len(parts) - 1) + [b"."]
    return [b"".join((head, mark, flag, b" ", part, _END)) for mark, part in zip(marks, parts)]


def _shrinks(kind: str, most: int) -> bool:
    return kind != _DENSE and (kind != _LOG or most <= LINE)


def _body(frame: Frame) -> bytes:
    if frame.kind not in BINARY:
        return _json(frame.body)
    header, data = frame.body
    return b"%s\n%s" % (_json(header), data)


def _json(value: Any) -> bytes:
    return json.dumps(value, separators=(",", ":")).encode()


def _escaped(data: bytes) -> bytes:
    swapped = data.translate(_SWAP)
    if len(swapped.translate(None, _MARKS)) == len(swapped) and _TAG_WORD not in swapped:
        return swapped
    swapped = swapped.replace(_ESCAPE, _ESCAPED)
    for text, code in _CODES.items():
        swapped = swapped.replace(text, _ESCAPE + code)
    return swapped


def _parts(payload: bytes, room: int) -> Iterator[bytes]:
    """Cut a payload into parts, never within an escape."""
    at = 0
    while True:
        end = min(at + room, len(payload))
        if end < len(payload) and payload[end - 1 : end] == _ESCAPE:
            end -= 1
        yield payload[at:end]
        at = end
        if at >= len(payload):
            return


def _unescaped(payload: bytes) -> bytes:
    if _ESCAPE in payload:
        first, *others = payload.split(_ESCAPE)
        payload = first + b"".join([_PLAIN[part[:1]] + part[1:] for part in others])
    return payload.translate(_SWAP)


class Decoder:
    """The frames in a stream of lines. `on_noise` gets each line that is none, as an engine's own words."""

    def __init__(self, on_noise: Noise = lambda line: None) -> None:
        self._on_noise = on_noise
        self._rest = b""
        self._unfinished: dict[tuple[int, str], list[bytes]] = {}

    def feed(self, data: bytes) -> list[Frame]:
        """Take a chunk, cut anywhere; return the frames that it completes."""
        *lines, self._rest = (self._rest + data).split(b"\n") if b"\n" in data else (self._rest + data,)
        if len(self._rest) > LONGEST_LINE:
            self.finish()
        frames = (self.line(line) for line in lines)
        return [frame for frame in frames if frame is not None]

    def finish(self) -> None:
        """Pass on what is left without a line end."""
        rest, self._rest = self._rest, b""
        if rest:
            self._on_noise(rest)

    def line(self, line: bytes) -> Frame | None:
        """Take one line without its end; return the frame that it completes."""
        begin = line.find(_START)
        if begin < 0 or not line.rstrip(b"\r").endswith(b"\x1e"):
            self._noise(line)
            return None
        if begin:  # words without a line end came before
            self._on_noise(line[:begin])
        try:
            return self._frame(line[begin + len(_START) :].rstrip(b"\r")[:-1])
        except (ValueError, KeyError, IndexError, zlib.error, RecursionError):
            self._noise(line)
            return None

    def _noise(self, line: bytes) -> None:
        if line.strip():
            self._on_noise(line)

    def _frame(self, content: bytes) -> Frame | None:
        host, kind, flags, part = content.split(b" ", 3)
        key = (int(host), kind.decode("ascii"))
        if flags[:1] == b"+":
            parts = self._unfinished.setdefault(key, [])
            parts.append(part)
            if len(parts) * len(part) > LONGEST:
                del self._unfinished[key]
            return None
        data = b"".join((*self._unfinished.pop(key, ()), part))
        data = _unescaped(data)
        if flags[1:] == b"z":
            data = _inflated(data)
        return Frame(*key, _value(key[1], data))


def _inflated(data: bytes) -> bytes:
    inflater = zlib.decompressobj()
    found = inflater.decompress(data, LONGEST)
    if not inflater.eof:
        raise ValueError("a body that is cut off, or too long")
    return found


def _value(kind: str, data: bytes) -> Any:
    if kind not in BINARY:
        return json.loads(data.decode())
    header, _, content = data.partition(b"\n")
    return json.loads(header.decode()), content


class TaggedDecoder:
    """The frames in the output of `mpirun --tag-output`: `[JOB,RANK]<stdout>:` stands before each piece.

    A rank's pieces are joined again. What stands before the first tag of a chunk is mpirun's own. after: what
    follows a tag: nothing in Open MPI 4, a space in 5 (OpenPMIx, src/common/pmix_iof.c).
    """

    def __init__(self, on_noise: Noise = lambda line: None, after: bytes = b"") -> None:
        self._on_noise, self._tag = on_noise, re.compile(_TAG + re.escape(after))
        self._decoders: dict[int, Decoder] = {}
        self._rest = b""
        self._rank: int | None = None

    def feed(self, data: bytes) -> list[Frame]:
        """Take a chunk, cut anywhere; return the frames that it completes."""
        data = self._rest + data
        cut = self._uncertain(data)
        data, self._rest = data[:cut], data[cut:]
        frames: list[Frame] = []
        at = 0
        for tag in self._tag.finditer(data):
            frames += self._piece(data[at : tag.start()])
            self._rank, at = int(tag.group(1)), tag.end()
        return frames + self._piece(data[at:])

    @staticmethod
    def _uncertain(data: bytes) -> int:
        """Return where the last piece begins that may be the beginning of a tag."""
        begin = data.rfind(b"[", max(0, len(data) - 120))
        return begin if begin >= 0 and _CUT_TAG.match(data, begin) else len(data)

    def _piece(self, piece: bytes) -> list[Frame]:
        if not piece:
            return []
        if self._rank is None:
            self._on_noise(piece)
            return []
        return self._decoders.setdefault(self._rank, Decoder(self._on_noise)).feed(piece)

    def finish(self) -> None:
        """Pass on what is left."""
        rest, self._rest = self._rest, b""
        self._piece(rest)
        for decoder in self._decoders.values():
            decoder.finish()
