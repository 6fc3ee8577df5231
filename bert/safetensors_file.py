"""Read and write safetensors files: 8 bytes of header length, a JSON header, the values. numpy alone.

The format: github.com/huggingface/safetensors, README. BF16, which numpy lacks, is read as float32.
"""

from __future__ import annotations

import json
import os
import struct
from typing import Dict, Iterator, Mapping, Tuple

import numpy as np

_TYPES = {
    "F64": "<f8", "F32": "<f4", "F16": "<f2", "BF16": "<u2", "I64": "<i8", "I32": "<i4", "I16": "<i2",
    "I8": "i1", "U8": "u1", "BOOL": "?",
}  # fmt: skip
_HEADER_LIMIT = 100 << 20


def read(path: str) -> Iterator[Tuple[str, np.ndarray]]:
    """Yield (name, value) in the file's order. ValueError: it is damaged, or has a type unknown here."""
    with open(path, "rb") as stream:
        size = struct.unpack("<Q", stream.read(8).ljust(8, b"\xff"))[0]
        if size > _HEADER_LIMIT:
            raise ValueError("not a safetensors file")
        try:
            header = json.loads(stream.read(size).decode())
        except ValueError:
            raise ValueError("damaged safetensors header") from None
    header.pop("__metadata__", None)
    data = (
        np.memmap(path, np.uint8, "r", 8 + size)
        if os.path.getsize(path) > 8 + size
        else np.zeros(0, np.uint8)
    )
    for name, entry in header.items():
        yield name, _value(name, entry, data)


def _value(name: str, entry: Mapping[str, object], data: np.ndarray) -> np.ndarray:
    try:
        kind, shape, (start, end) = str(entry["dtype"]), list(entry["shape"]), entry["data_offsets"]  # type: ignore
        flat = np.frombuffer(data[start:end].tobytes(), _TYPES[kind])
        if kind == "BF16":
            flat = (flat.astype(np.uint32) << 16).view(np.float32)
        return flat.reshape(shape)
    except (KeyError, TypeError, ValueError) as error:
        raise ValueError("%s: damaged or of a type unknown here (%s)" % (name, error)) from None


def write(path: str, values: Mapping[str, np.ndarray], metadata: Mapping[str, str]) -> None:
    """Write float32 values in the order of their names."""
    header: Dict[str, object] = {"__metadata__": dict(metadata)}
    offset = 0
    for name, value in sorted(values.items()):
        span = [offset, offset + 4 * value.size]
        header[name] = {"dtype": "F32", "shape": list(value.shape), "data_offsets": span}
        offset = span[1]
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    with open(path, "wb") as stream:
        stream.write(struct.pack("<Q", len(text)) + text)
        for _, value in sorted(values.items()):
            stream.write(np.ascontiguousarray(value, "<f4").tobytes())
