"""Read the headers of checkpoint files: names, types, shapes, and whether all bytes are there. Stdlib only.

A TensorFlow V2 index is a LevelDB table (leveldb/doc/table_format.md) whose values are BundleEntryProto
messages (tensorflow/core/protobuf/tensor_bundle.proto); a safetensors file begins with a JSON header.
"""

from __future__ import annotations

import json
import os
import re
import struct
from dataclasses import dataclass
from typing import Iterator, Tuple

from bert import files

Shape = Tuple[int, ...]
PARTS = "model.safetensors.index.json"  # names the files of a model in several safetensors
OF_PREFIX = re.compile(r"(.+)\.(?:data-\d{5}-of-\d{5}|meta|index)$")  # PREFIX, as shells complete it
_MAGIC = struct.pack("<Q", 0xDB4775248B80FB57)
_FOOTER = 48
_HEADER_LIMIT = 100 << 20
# DataType of tensorflow/core/framework/types.proto, by the names of safetensors.
_TYPES = {1: "F32", 2: "F64", 3: "I32", 9: "I64", 14: "BF16", 19: "F16"}
_WIDTHS = {1: 8, 5: 4}  # bytes of protobuf's fixed wire types


@dataclass(frozen=True)
class Entry:
    """A variable in a checkpoint; type by safetensors' names, such as F32."""

    type: str
    shape: Shape


def is_table(data: bytes) -> bool:
    """Tell whether a file that ends with these bytes is a LevelDB table: an index, or a checkpoint of V1."""
    return data.endswith(_MAGIC)


def parts(folder: str) -> list[str]:
    """List the paths that model.safetensors.index.json names. ValueError: it cannot be read, or names none.

    Only base names count: a name that leads out of the folder is not a file of this checkpoint.
    """
    held = files.read_object(os.path.join(folder, PARTS)).get("weight_map")
    if not isinstance(held, dict) or not held:
        raise ValueError("weight_map is missing; download it again")
    return [os.path.join(folder, name) for name in sorted({os.path.basename(str(n)) for n in held.values()})]


def safetensors(path: str) -> dict[str, Entry]:
    """Read the header of a safetensors file. ValueError: damaged, truncated or of another kind."""
    with open(path, "rb") as stream:
        start = stream.read(len(files.LFS_START))
        held = os.fstat(stream.fileno()).st_size
        if not start:
            raise ValueError("damaged safetensors: the file is empty; download or copy it again")
        if start == files.LFS_START:
            raise ValueError(files.LFS)
        stream.seek(0)
        size = struct.unpack("<Q", stream.read(8).ljust(8, b"\xff"))[0]
        if size > _HEADER_LIMIT:
            raise ValueError("damaged safetensors header, or not a safetensors file")
        header = stream.read(size)
    if len(header) < size:
        raise _truncated(held, 8 + size)
    try:
        values = {k: v for k, v in json.loads(header.decode()).items() if k != "__metadata__"}
        found = {k: Entry(str(v["dtype"]), tuple(map(int, v["shape"]))) for k, v in values.items()}
        end = max([int(v["data_offsets"][1]) for v in values.values()], default=0)
    except (ArithmeticError, AttributeError, LookupError, RecursionError, TypeError, ValueError):
        raise ValueError("damaged safetensors header") from None
    if held < 8 + size + end:
        raise _truncated(held, 8 + size + end)
    if held > 8 + size + end:
        raise ValueError(f"damaged safetensors: {held - 8 - size - end} bytes too long; download it again")
    return found


def _truncated(held: int, wanted: int) -> ValueError:
    return ValueError(
        f"damaged safetensors: truncated, has {held} of {wanted} bytes; download or copy it again"
    )


def tensor_bundle(path: str) -> dict[str, Entry]:
    """Read PREFIX.index. ValueError: damaged, or its data files are missing or truncated."""
    with open(path, "rb") as stream:
        data = stream.read(_HEADER_LIMIT)
    if data.startswith(files.LFS_START):
        raise ValueError(files.LFS)
    if len(data) < _FOOTER or not is_table(data):
        problem = "" if data else ": the file is empty; copy it again"
        raise ValueError(f"damaged or not a TensorFlow checkpoint index{problem}")
    try:
        messages = {key: dict(_fields(value)) for key, value in _table(data)}
        result = {key.decode(): _entry(fields) for key, fields in messages.items() if key}
    except (IndexError, KeyError, struct.error, UnicodeDecodeError, ValueError):
        raise ValueError("damaged TensorFlow checkpoint index") from None
    _check_shards(path[: -len(".index")], messages)
    return result


def _table(data: bytes) -> Iterator[tuple[bytes, bytes]]:
    """Yield keys and values of a LevelDB table."""
    footer = data[-_FOOTER:]
    _, position = _varint(footer, 0)
    _, position = _varint(footer, position)
    offset, position = _varint(footer, position)
    size, _ = _varint(footer, position)
    for _, handle in _entries(data[offset : offset + size]):
        start, position = _varint(handle, 0)
        length, _ = _varint(handle, position)
        yield from _entries(data[start : start + length])


def _entry(fields: dict[int, object]) -> Entry:
    """Read a BundleEntryProto: dtype (field 1) and shape (field 2, TensorShapeProto)."""
    kind, shape = fields.get(1, 0), fields.get(2, b"")
    sizes: list[int] = []
    for number, dim in _fields(shape) if isinstance(shape, bytes) else ():
        if number == 2 and isinstance(dim, bytes):
            sizes.append(next((int(v) for n, v in _fields(dim) if n == 1 and isinstance(v, int)), 0))
    return Entry(_TYPES.get(kind, f"type {kind}") if isinstance(kind, int) else "", tuple(sizes))


def _check_shards(prefix: str, messages: dict[bytes, dict[int, object]]) -> None:
    """Look whether each PREFIX.data-* is there and as long as the index says (num_shards, offset + size)."""
    shards = _number(messages.get(b"", {}), 1) or 1
    ends = [0] * min(shards, 100000)
    for key, fields in messages.items():
        if key and _number(fields, 3) < len(ends):
            end = _number(fields, 4) + _number(fields, 5)
            ends[_number(fields, 3)] = max(end, ends[_number(fields, 3)])
    for number, end in enumerate(ends):
        path = f"{prefix}.data-{number:05d}-of-{shards:05d}"
        if not os.path.isfile(path):
            raise ValueError(f"{os.path.basename(path)}: missing; copy all files of the checkpoint")
        if os.path.getsize(path) < end:
            raise ValueError(f"{os.path.basename(path)}: {_short(path, end)}")


def _short(path: str, end: int) -> str:
    with open(path, "rb") as stream:
        if stream.read(len(files.LFS_START)) == files.LFS_START:
            return files.LFS
    return f"truncated, has {os.path.getsize(path)} of {end} bytes; download or copy it again"


def _number(fields: dict[int, object], number: int) -> int:
    value = fields.get(number, 0)
    return value if isinstance(value, int) else 0


def _varint(data: bytes, position: int) -> tuple[int, int]:
    value = shift = 0
    while True:
        byte = data[position]
        position += 1
        value |= (byte & 127) << shift
        if byte < 128:
            return value, position
        shift += 7


def _entries(block: bytes) -> Iterator[tuple[bytes, bytes]]:
    """Yield a block's keys and values; each key shares a prefix with the one before."""
    restarts = struct.unpack("<I", block[-4:])[0]
    end, position, key = len(block) - 4 - 4 * restarts, 0, b""
    while position < end:
        shared, position = _varint(block, position)
        fresh, position = _varint(block, position)
        size, position = _varint(block, position)
        key = key[:shared] + block[position : position + fresh]
        position += fresh
        yield key, block[position : position + size]
        position += size


def _fields(message: bytes) -> Iterator[tuple[int, object]]:
    position = 0
    while position < len(message):
        tag, position = _varint(message, position)
        kind = tag & 7
        value: object
        if kind == 0:
            value, position = _varint(message, position)
        elif kind == 2:
            size, position = _varint(message, position)
            value, position = message[position : position + size], position + size
        else:
            width = _WIDTHS[kind]
            value, position = message[position : position + width], position + width
        yield tag >> 3, value
