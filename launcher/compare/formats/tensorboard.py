"""TensorBoard's event files: TFRecords of Event messages.

A record is its length (8 bytes, little endian), a masked CRC-32C of the length, the data, one of the data
(tensorflow/core/lib/io/record_writer.h). Event, Summary and TensorProto: tensorflow/core/util/event.proto and
framework/{summary,tensor}.proto, in the wire format of protocol buffers.
"""

from __future__ import annotations

import struct
from functools import lru_cache
from pathlib import Path
from typing import BinaryIO, Dict, Iterator, List, Tuple, Union

from launcher import foreign
from launcher.compare.formats import scores
from launcher.compare.formats.log import Line, Log
from launcher.compare.formats.stream import Entry

KIND = "TensorBoard events"
_LARGEST = 1 << 30  # bytes of a record
_READ = 1 << 20  # bytes of a record with scalars at most: larger ones hold graphs and pictures
_LOSS = ("loss", "train/loss", "total_loss", "loss_1", "loss/train", "train_loss", "epoch_loss", "batch_loss")
_RATES = ("learning_rate", "train/learning_rate", "lr", "train/lr", "learning_rate_1")
_EXAMPLES = ("examples_per_second", "examples/sec", "train/samples_per_second")
_SPEEDS = ("global_step/sec", "train/steps_per_second")
Field = Union[int, bytes]
Scalars = Dict[str, List[Tuple[int, float, float]]]  # tag: step, time, value


def is_events(head: bytes) -> bool:
    """Tell whether a file begins with a TFRecord."""
    return len(head) >= 12 and _crc(head[:8]) == struct.unpack("<I", head[8:12])[0]


def read(path: Path, log: Log) -> None:
    """Read a file. ReadError. What lies behind a damaged record is not read."""
    log.kind = KIND
    found: Scalars = {}
    with foreign.open_regular(path, follow=True) as stream:
        for data in _records(stream, log):
            try:
                _event(data, found)
            except (ValueError, struct.error, IndexError):
                log.note("a record is no event")
    loss = _chosen(found, _LOSS) or next((tag for tag in found if _is_loss(tag)), None)
    speeds = _by_step(found, _SPEEDS)
    rates = _by_step(found, _EXAMPLES)
    lrs = _by_step(found, _RATES)
    curve = log.stream(KIND, Line(""))
    curve.rate_is = "device or global" if "examples/sec" in found else "global"
    if loss is not None:
        log.note(f"its loss is the scalar {loss}")
    tag = loss or _chosen(found, _EXAMPLES) or _chosen(found, _SPEEDS) or ""
    for step, time, value in found.get(tag, ()):
        own = value if loss is not None else None
        curve.add(Entry(step, own, lrs.get(step), rates.get(step), speeds.get(step), time))
    last = ((tag.replace("eval/", "eval_"), rows[-1][2]) for tag, rows in found.items())
    scores.take(last, log, "share")


def _by_step(found: Scalars, names: tuple[str, ...]) -> dict[int, float]:
    return {step: value for step, _, value in found.get(_chosen(found, names) or "", ())}


def _chosen(found: Scalars, names: tuple[str, ...]) -> str | None:
    lower = {tag.lower(): tag for tag in reversed(list(found))}
    return next((lower[name] for name in names if name in lower), None)


def _is_loss(tag: str) -> bool:
    lower = tag.lower()
    return (
        "loss" in lower
        and "scale" not in lower
        and not any(word in lower for word in ("eval", "val", "test"))
    )


def _records(stream: BinaryIO, log: Log) -> Iterator[bytes]:
    while True:
        head = stream.read(12)
        if not head:
            return
        if len(head) < 12:
            log.note("its last record is cut off")
            return
        size = struct.unpack("<Q", head[:8])[0]
        if _crc(head[:8]) != struct.unpack("<I", head[8:])[0] or size > _LARGEST:
            log.note("a record is damaged: what lies behind it is not read")
            return
        if size > _READ:
            stream.seek(size + 4, 1)
            continue
        data = stream.read(size + 4)
        if len(data) < size + 4:
            log.note("its last record is cut off")
            return
        if _crc(data[:-4]) == struct.unpack("<I", data[-4:])[0]:
            yield data[:-4]
        else:
            log.note("a record is damaged and left out")


def _event(data: bytes, found: Scalars) -> None:
    """Add the scalars of an event to those found: tag to (step, time, value)."""
    time, step = 0.0, 0
    summaries: list[bytes] = []
    for number, value in _fields(data):
        if number == 1 and isinstance(value, bytes):
            time = struct.unpack("<d", value)[0]
        elif number == 2 and isinstance(value, int):
            step = value
        elif number == 5 and isinstance(value, bytes):
            summaries.append(value)
    for summary in summaries if 0 <= step < 10**15 else ():
        for number, value in _fields(summary):
            if number == 1 and isinstance(value, bytes):
                tag, scalar = _value(value)
                if scalar is not None:
                    found.setdefault(tag, []).append((step, time, scalar))


def _value(data: bytes) -> tuple[str, float | None]:
    tag, scalar = "", None
    for number, value in _fields(data):
        if number == 1 and isinstance(value, bytes):
            tag = value.decode("utf-8", "replace")
        elif number == 2 and isinstance(value, bytes):
            scalar = struct.unpack("<f", value)[0]
        elif number == 8 and isinstance(value, bytes):
            scalar = _tensor(value)
    return tag, scalar


def _tensor(data: bytes) -> float | None:
    """Return the number of a TensorProto that holds one float (TF 2's tf.summary.scalar)."""
    kind, content, plain = 0, b"", b""
    for number, value in _fields(data):
        if number == 1 and isinstance(value, int):
            kind = value
        elif number == 4 and isinstance(value, bytes):
            content = value
        elif number in (5, 6) and isinstance(value, bytes):
            plain = value
    form = {1: "<f", 2: "<d"}.get(kind)
    raw = content or plain
    return struct.unpack(form, raw)[0] if form and len(raw) == struct.calcsize(form) else None


def _fields(data: bytes) -> Iterator[tuple[int, Field]]:
    """Yield the fields of a message: number and a varint, or the bytes of anything else."""
    at = 0
    while at < len(data):
        key, at = _varint(data, at)
        kind = key & 7
        if kind == 0:
            value, at = _varint(data, at)
            yield key >> 3, value
            continue
        size = 8 if kind == 1 else 4 if kind == 5 else 0
        if kind == 2:
            size, at = _varint(data, at)
        elif not size:
            raise ValueError(f"wire type {kind}")
        if at + size > len(data):
            raise ValueError("cut off")
        yield key >> 3, data[at : at + size]
        at += size


def _varint(data: bytes, at: int) -> tuple[int, int]:
    value = shift = 0
    while True:
        byte = data[at]
        value |= (byte & 0x7F) << shift
        at += 1
        if byte < 0x80:
            return value, at
        shift += 7
        if shift > 63:
            raise ValueError("no varint")


@lru_cache(maxsize=1)
def _table() -> tuple[int, ...]:
    found = []
    for value in range(256):
        for _ in range(8):
            value = value >> 1 ^ (0x82F63B78 if value & 1 else 0)
        found.append(value)
    return tuple(found)


def _crc(data: bytes) -> int:
    """Compute the masked CRC-32C."""
    table, value = _table(), 0xFFFFFFFF
    for byte in data:
        value = table[(value ^ byte) & 0xFF] ^ value >> 8
    value ^= 0xFFFFFFFF
    return ((value >> 15 | value << 17) + 0xA282EAD8) & 0xFFFFFFFF
