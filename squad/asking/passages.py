"""Read the text of a passage from a file or a stream."""

from __future__ import annotations

import os
from typing import BinaryIO

from bert import files
from squad.errors import DataError

LARGEST = 64 << 20  # bytes


def read(path: str) -> str:
    """Read a text file. DataError: it cannot be read, is not UTF-8, or is empty."""
    path = os.path.expanduser(path)
    try:
        text = files.read_text(path, LARGEST)
    except ValueError as error:
        raise DataError(f"{path}: {error}") from None
    return _checked(path, text)


def from_stream(stream: BinaryIO) -> str:
    """Read what is piped in. DataError: as `read`."""
    raw = stream.read(LARGEST + 1)
    if len(raw) > LARGEST:
        raise DataError(f"standard input: more than {LARGEST >> 20} MiB; give a shorter passage")
    try:
        text = raw.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise DataError(f"standard input: not UTF-8 at byte {error.start}; convert it to UTF-8") from None
    return _checked("standard input", text)


def _checked(where: str, text: str) -> str:
    if not text.strip():
        raise DataError(f"{where}: empty; give a passage")
    return text
