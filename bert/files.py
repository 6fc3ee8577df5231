"""Read the small files of a model: regular, bounded, UTF-8 with or without a byte order mark. Stdlib only.

What a folder of a model contains was written by others: a file may be a FIFO (opening it waits for ever), a
pointer of Git LFS, empty, or JSON that no parser survives. Each fault is one line without the path.
"""

from __future__ import annotations

import json
import os
import stat
from typing import Any

LIMIT = 64 << 20  # bytes of a vocabulary, a configuration or a tokenizer.json; the largest known have 17 MB
LFS_START = b"version https://git-lfs.github.com/spec/"
LFS = "a Git LFS pointer, not the file itself; run `git lfs pull` in its folder, or download the file"
_KINDS = {stat.S_IFIFO: "a FIFO", stat.S_IFDIR: "a folder", stat.S_IFSOCK: "a socket"}
_MOST_DIGITS = 1000  # of a whole number: int() needs minutes for a megabyte of them


def irregular(path: str) -> str:
    """Describe what stands in place of a regular file (links are followed); "" if it is one.

    Raises:
        OSError: there is none, or its folder cannot be read.
    """
    mode = os.stat(path).st_mode
    if stat.S_ISREG(mode):
        return ""
    return f"{_KINDS.get(stat.S_IFMT(mode), 'a device')} (expected a regular file)"


def read_bytes(path: str, limit: int = LIMIT) -> bytes:
    """Read a regular file. ValueError: there is none, or it is empty, too large or a Git LFS pointer."""
    try:
        problem = irregular(path)
        if problem:
            raise ValueError(problem)
        with open(os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC), "rb") as stream:
            data = stream.read(limit + 1)
    except OSError as error:
        raise ValueError(error.strerror or str(error)) from None
    if not data:
        raise ValueError("empty; download or copy it again")
    if data.startswith(LFS_START):
        raise ValueError(LFS)
    if len(data) > limit:
        raise ValueError(f"more than {limit >> 20} MiB; give another file")
    return data


def read_text(path: str, limit: int = LIMIT) -> str:
    """Read a text in UTF-8, without its byte order mark. ValueError: as read_bytes, or not UTF-8."""
    try:
        return read_bytes(path, limit).decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise ValueError(f"not UTF-8 at byte {error.start}") from None


def read_object(path: str, limit: int = LIMIT) -> dict[str, Any]:
    """Read a JSON object. ValueError: as read_text, or the place at which it is none."""
    text = read_text(path, limit)
    try:
        value = json.loads(text, parse_int=_whole)
    except json.JSONDecodeError as error:
        place = f"line {error.lineno} column {error.colno}"
        raise ValueError(f"{place}: invalid JSON: {error.msg}") from None
    except RecursionError:
        raise ValueError("invalid JSON: nested too deeply") from None
    if not isinstance(value, dict):
        raise ValueError("not a JSON object")
    return value


def _whole(digits: str) -> int | float:
    return int(digits) if len(digits) <= _MOST_DIGITS else float("inf")
