"""Render records for a person or for a program."""

from __future__ import annotations

import json
import time
from typing import Any, Dict

from launcher.logs.records import RecordBatch
from launcher.text import printable, printable_json

_PLAIN = bytes(range(0x20, 0x7F)) + b"\t\n"
_MILLI = [b"%03d" % number for number in range(1000)]
_STREAMS = {b"o": "stdout", b"e": "stderr", b"f": "file"}


class _Stamps(Dict[int, bytes]):
    """Line ends and times of day by millisecond: ranks share many, and seconds are slow to render."""

    def __init__(self, form: str) -> None:
        super().__init__()
        self._form, self._second, self._clock = form, -1, b""

    def __missing__(self, milli: int) -> bytes:
        second = milli // 1000
        if second != self._second:
            self._second = second
            self._clock = time.strftime(self._form, time.localtime(second)).encode()
        stamp = self[milli] = b"\n" + self._clock + _MILLI[milli % 1000]
        return stamp


class TextFormat:
    """Lines with time of day and label: `10:21:35.118 3| text`."""

    def __init__(self, date: bool = False, width: int = 0) -> None:
        self._stamps = _Stamps("%Y-%m-%d %H:%M:%S." if date else "%H:%M:%S.")
        self._width = width

    def __call__(self, batch: RecordBatch) -> bytes:
        """Render a batch."""
        text = self._render(batch)
        if text.count(b"\n") > len(batch):  # records of many lines
            text = self._render(batch, many=True)
        if text.translate(None, _PLAIN):  # something is not plain ASCII: look at each record
            batch = [(when, label, stream, clean(data)) for when, label, stream, data in batch]
            text = self._render(batch, many=True)
        self._stamps.clear()
        return text

    def _render(self, batch: RecordBatch, many: bool = False) -> bytes:
        """Join columns: at 2,000 records a batch this is four times as fast as a loop over the records."""
        times, labels, _, texts = zip(*batch)
        stamps = [self._stamps[when // 1000000] for when in times]
        shown = {label: b" %s| " % clean(label).rjust(self._width) for label in set(labels)}
        names = [shown[label] for label in labels]
        if many:
            texts = tuple(
                data.replace(b"\n", stamp + name) for stamp, name, data in zip(stamps, names, texts)
            )
        parts = [b""] * (3 * len(batch))
        parts[0::3], parts[1::3], parts[2::3] = stamps, names, texts
        parts[0] = stamps[0][1:]
        parts.append(b"\n")
        return b"".join(parts)


def clean(data: bytes) -> bytes:
    """Keep escape sequences and bad bytes of a rank from steering the terminal."""
    text = data.decode("utf-8", "backslashreplace")
    return "\n".join(map(printable, text.split("\n"))).encode("utf-8", "backslashreplace")


def as_json(batch: RecordBatch) -> bytes:
    """Render one JSON object a line: time (s), time_ns, rank or source, stream, text."""
    rows: list[str] = []
    for when, label, stream, data in batch:
        name = label.decode("utf-8", "backslashreplace")
        where: dict[str, Any] = {"rank": int(name)} if name.isdigit() else {"source": name}
        row = {"time": when / 1e9, "time_ns": when, **where, "stream": _STREAMS.get(stream, "?"), "text": ""}
        for line in data.split(b"\n"):
            row["text"] = line.decode("utf-8", "backslashreplace")
            rows.append(json.dumps(row, ensure_ascii=False) + "\n")
    return printable_json("".join(rows)).encode("utf-8")
