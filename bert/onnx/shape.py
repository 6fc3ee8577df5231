"""The shape of an .onnx file's rows, before onnxruntime or onnx is imported. Stdlib only.

An .onnx file is a message of protobuf (https://protobuf.dev/programming-guides/encoding). The numbers of its
fields are those of onnx.proto (https://github.com/onnx/onnx/blob/main/onnx/onnx.proto). Weights are skipped.
"""

from __future__ import annotations

import os
from contextlib import suppress
from typing import IO, Iterator, Tuple

_IDS = b"input_ids"
_GRAPH, _INPUT = 7, 11  # of ModelProto, of GraphProto
_NAME = 1  # of ValueInfoProto
_DIMS = (2, 1, 2, 1)  # ValueInfoProto.type, TypeProto.tensor_type, Tensor.shape, TensorShapeProto.dim
_VALUE = 1  # Dimension.dim_value; a size by name is another field
_MOST = (1 << 31) - 1
_Span = Tuple[int, int]  # where a message begins and ends


def columns(path: str) -> int | None:
    """Read the fixed number of tokens in a row; None: it is free, or the file is not of this kind."""
    with suppress(OSError, ValueError), open(path, "rb") as stream:
        whole = (0, os.fstat(stream.fileno()).st_size)
        for entry in _below(stream, whole, _GRAPH, _INPUT):
            if any(_bytes(stream, name) == _IDS for name in _below(stream, entry, _NAME)):
                sizes = [_size(stream, dim) for dim in _below(stream, entry, *_DIMS)]
                return sizes[1] if len(sizes) == 2 else None
    return None


def _below(stream: IO[bytes], span: _Span, *path: int) -> Iterator[_Span]:
    """Yield the messages that a path of field numbers leads to."""
    if not path:
        yield span
        return
    for number, first, end in _fields(stream, span):
        if number == path[0] and end >= 0:
            yield from _below(stream, (first, end), *path[1:])


def _size(stream: IO[bytes], span: _Span) -> int | None:
    sizes = [value for number, value, end in _fields(stream, span) if number == _VALUE and end < 0]
    return sizes[-1] if sizes and 0 < sizes[-1] <= _MOST else None


def _bytes(stream: IO[bytes], span: _Span) -> bytes:
    stream.seek(span[0])
    return stream.read(min(span[1] - span[0], 100))


def _fields(stream: IO[bytes], span: _Span) -> Iterator[tuple[int, int, int]]:
    """Yield each field: its number, and the span of a message or text, or a whole number and -1."""
    place, end = span
    while place < end:
        stream.seek(place)
        number, kind = divmod(_varint(stream), 8)
        if kind == 0:
            value, place = _varint(stream), stream.tell()
            yield number, value, -1
        elif kind == 2:
            length, first = _varint(stream), stream.tell()
            place = first + length
            if place > end:
                raise ValueError("cut off")
            yield number, first, place
        elif kind in (1, 5):
            place = stream.tell() + (8 if kind == 1 else 4)
        else:
            raise ValueError("no protobuf")


def _varint(stream: IO[bytes]) -> int:
    value = 0
    for shift in range(0, 70, 7):
        byte = ord(stream.read(1) or b"\xff")  # past the end a number never ends
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value
    raise ValueError("no protobuf")
