"""Read the names and shapes in a checkpoint without TensorFlow. Stdlib only.

A TensorFlow V2 index is a LevelDB table (leveldb/doc/table_format.md) whose values are BundleEntryProto
messages (tensorflow/core/protobuf/tensor_bundle.proto); a safetensors file begins with a JSON header.
"""

from __future__ import annotations

import json
import os
import struct
from typing import Iterator, Tuple

Shape = Tuple[int, ...]
_MAGIC = 0xDB4775248B80FB57
_FOOTER = 48
_HEADER_LIMIT = 100 << 20
NO_CHECKPOINT = "no checkpoint; give a prefix (PREFIX.index exists) or safetensors"


def find(path: str) -> str | None:
    """Find the file that describes the checkpoint at `path`; None if there is none."""
    found = files(path)
    return found[0] if found else None


def files(path: str) -> list[str]:
    """List the files that describe a checkpoint: one .index, or one or more of safetensors."""
    if os.path.isdir(path):
        return _in_folder(path)
    candidates = [path] if path.endswith((".safetensors", ".index")) else []
    candidates.append(path + ".index")
    return [name for name in candidates if os.path.isfile(name)][:1]


def _in_folder(folder: str) -> list[str]:
    """Prefer model.safetensors, then the files named by an index, then the only checkpoint."""
    whole = os.path.join(folder, "model.safetensors")
    index = whole + ".index.json"
    if os.path.isfile(whole):
        return [whole]
    if os.path.isfile(index):
        return _listed(folder, index)
    names = sorted(name for name in os.listdir(folder) if name.endswith((".safetensors", ".index")))
    return [os.path.join(folder, names[0])] if len(names) == 1 else []


def _listed(folder: str, index: str) -> list[str]:
    try:
        with open(index, encoding="utf-8") as stream:
            names = sorted({str(name) for name in json.load(stream)["weight_map"].values()})
    except (ValueError, KeyError, TypeError, AttributeError):
        return []
    # Only base names: a name that leads out of the folder is not a file of this checkpoint.
    paths = [os.path.join(folder, os.path.basename(name)) for name in names]
    return paths if all(map(os.path.isfile, paths)) else []


def describe(path: str) -> dict[str, Shape]:
    """Read names and shapes. ValueError: the file is damaged or of another kind."""
    found = files(path)
    if not found:
        raise ValueError(NO_CHECKPOINT)
    if not found[0].endswith(".safetensors"):
        return _tensor_bundle(found[0])
    result: dict[str, Shape] = {}
    for name in found:
        result.update(_safetensors(name))
    return result


def _safetensors(path: str) -> dict[str, Shape]:
    with open(path, "rb") as stream:
        size = struct.unpack("<Q", stream.read(8).ljust(8, b"\xff"))[0]
        if size > _HEADER_LIMIT:
            raise ValueError("not a safetensors file")
        try:
            header = json.loads(stream.read(size).decode())
            return {k: tuple(v["shape"]) for k, v in header.items() if k != "__metadata__"}
        except (ValueError, KeyError, TypeError, AttributeError):
            raise ValueError("damaged safetensors header") from None


def _tensor_bundle(path: str) -> dict[str, Shape]:
    with open(path, "rb") as stream:
        data = stream.read()
    if len(data) < _FOOTER or struct.unpack("<Q", data[-8:])[0] != _MAGIC:
        raise ValueError("damaged or not a TensorFlow checkpoint index")
    try:
        footer = data[-_FOOTER:]
        _, position = _varint(footer, 0)
        _, position = _varint(footer, position)
        offset, position = _varint(footer, position)
        size, _ = _varint(footer, position)
        result: dict[str, Shape] = {}
        for _, handle in _entries(data[offset : offset + size]):
            start, position = _varint(handle, 0)
            length, _ = _varint(handle, position)
            for key, value in _entries(data[start : start + length]):
                if key:
                    result[key.decode()] = _shape(value)
        return result
    except (IndexError, struct.error, UnicodeDecodeError):
        raise ValueError("damaged TensorFlow checkpoint index") from None


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
            width = {1: 8, 5: 4}[kind]
            value, position = message[position : position + width], position + width
        yield tag >> 3, value


def _shape(entry: bytes) -> Shape:
    """Read field 2 (TensorShapeProto) of a BundleEntryProto: its dims' sizes."""
    sizes: list[int] = []
    for number, value in _fields(entry):
        if number == 2 and isinstance(value, bytes):
            for inner, dim in _fields(value):
                if inner == 2 and isinstance(dim, bytes):
                    sizes.append(next((int(v) for n, v in _fields(dim) if n == 1 and isinstance(v, int)), 0))
    return tuple(sizes)
