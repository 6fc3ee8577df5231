"""Write pieces for a person or for a program."""

from __future__ import annotations

import json
import time
from typing import Any, Dict, List

from launcher.console import printable
from launcher.log_pieces import Block

_PLAIN = bytes(range(0x20, 0x7F)) + b"\t\n"
_STREAMS = {b"o": "stdout", b"e": "stderr", b"f": "file"}


class Text:
    """Prefix each line with time of day and label: `10:21:35.118 3| text`."""

    def __init__(self, date: bool = False, width: int = 0) -> None:
        self._format = "%Y-%m-%d %H:%M:%S" if date else "%H:%M:%S"
        self._width = width
        self._second, self._clock = -1, b""

    def __call__(self, block: Block) -> bytes:
        """Render a block."""
        text = b"".join(self._parts(block))
        if text.translate(None, _PLAIN):  # something is no plain ASCII: look at each piece
            block = [(when, label, stream, clean(data)) for when, label, stream, data in block]
            text = b"".join(self._parts(block))
        return text

    def _parts(self, block: Block) -> List[bytes]:
        parts: List[bytes] = []
        for when, label, _, data in block:
            second, below = divmod(when, 1000000000)
            if second != self._second:
                self._second = second
                self._clock = time.strftime(self._format, time.localtime(second)).encode()
            prefix = b"%s.%03d %s| " % (self._clock, below // 1000000, label.rjust(self._width))
            parts.append(prefix)
            parts.append(data.replace(b"\n", b"\n" + prefix) if b"\n" in data else data)
            parts.append(b"\n")
        return parts


def clean(data: bytes) -> bytes:
    """Keep escape sequences and bad bytes of a rank from steering the terminal."""
    text = data.decode("utf-8", "backslashreplace")
    return "\n".join(map(printable, text.split("\n"))).encode("utf-8", "backslashreplace")


def as_json(block: Block) -> bytes:
    """Render one JSON object a line: time (s), time_ns, rank or source, stream, text."""
    rows: List[str] = []
    for when, label, stream, data in block:
        name = label.decode("utf-8", "backslashreplace")
        where: Dict[str, Any] = {"rank": int(name)} if name.isdigit() else {"source": name}
        row = {"time": when / 1e9, "time_ns": when, **where, "stream": _STREAMS.get(stream, "?"), "text": ""}
        for line in data.split(b"\n"):
            row["text"] = line.decode("utf-8", "backslashreplace")
            rows.append(json.dumps(row, ensure_ascii=False) + "\n")
    return "".join(rows).encode("utf-8")
