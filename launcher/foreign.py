"""The one reader of files that a rank, a neighbour or an earlier run may have written.

Whoever may write into a folder can put there a FIFO (opening it waits for ever), a link to another's file,
a device, gigabytes, or JSON that no parser survives. Every such fault costs the one file and is named.
"""

from __future__ import annotations

import errno
import os
import stat
from pathlib import Path
from typing import Any, BinaryIO

from launcher import typed_json
from launcher.errors import MissingFileError, ReadError

RECORD = 1 << 20  # bytes: the most that a record (heartbeat, error, result) may hold
DOCUMENT = 64 << 20  # bytes: the most that a plan or a list of artifacts may hold

_KINDS = {
    stat.S_IFIFO: "a FIFO",
    stat.S_IFDIR: "a folder",
    stat.S_IFLNK: "a link",
    stat.S_IFSOCK: "a socket",
    stat.S_IFCHR: "a device",
    stat.S_IFBLK: "a device",
}


def open_regular(path: Path, *, follow: bool = False) -> BinaryIO:
    """Open a regular file for reading, without waiting; `follow` says that it may be a link to one.

    Raises:
        MissingFileError: there is none.
        ReadError: it is no regular file, or may not be read.
    """
    flags = os.O_RDONLY | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC | (0 if follow else os.O_NOFOLLOW)
    try:
        _refuse_irregular(path, (os.stat if follow else os.lstat)(path))  # opening a device may act on it
        descriptor = os.open(path, flags)
    except (OSError, ValueError) as error:
        raise _read_error(path, error) from None
    try:
        _refuse_irregular(path, os.fstat(descriptor))  # it may have been exchanged in between
    except BaseException:
        os.close(descriptor)
        raise
    return os.fdopen(descriptor, "rb")


def _refuse_irregular(path: Path, about: os.stat_result) -> None:
    if not stat.S_ISREG(about.st_mode):
        kind = _KINDS.get(stat.S_IFMT(about.st_mode), "no file")
        raise ReadError(f"{path}: {kind} (expected a regular file)")


def _read_error(path: Path, error: Exception) -> ReadError:
    if isinstance(error, OSError) and error.errno in (errno.ENOENT, errno.ENOTDIR):
        return MissingFileError(f"{path}: no such file")
    if isinstance(error, OSError) and error.errno == errno.ELOOP:
        return ReadError(f"{path}: a link (expected a regular file)")
    return ReadError(f"{path}: {getattr(error, 'strerror', None) or error}")


def read_bytes(path: Path, limit: int = RECORD, *, follow: bool = False) -> bytes:
    """Return the bytes of a regular file. ReadError: as open_regular says, or it has more than `limit`."""
    with open_regular(path, follow=follow) as stream:
        try:
            data = stream.read(limit + 1)
        except OSError as error:
            raise _read_error(path, error) from None
    if len(data) > limit:
        raise ReadError(f"{path}: more than {limit >> 10} KiB (expected a small file)")
    return data


def read_json(path: Path, limit: int = RECORD, *, follow: bool = False) -> typed_json.Value:
    """Return the document of a JSON file, to be read by types; each fault is a ReadError with its place."""
    return parse_json(read_bytes(path, limit, follow=follow), str(path))


def read_object(path: Path) -> dict[str, Any]:
    """Return the object that a JSON document is. ReadError: it cannot be read, or is something else."""
    value = read_json(path, DOCUMENT).value
    if not isinstance(value, dict):
        raise ReadError(f"{path}: no JSON object")
    return value


def read_of_rank(path: Path, limit: int = RECORD) -> bytes:
    """Return the bytes of a file in a rank's folder, which is no link to another folder itself."""
    if os.path.islink(str(path.parent)):
        raise ReadError(f"{path.parent}: a link (expected a folder)")
    return read_bytes(path, limit)


def read_record(path: Path) -> typed_json.Value:
    """Return the JSON document of a file in a rank's folder."""
    return parse_json(read_of_rank(path), str(path))


def parse_json(data: bytes, name: str) -> typed_json.Value:
    """Parse one JSON document in UTF-8; `name` says in errors where it stands."""
    try:
        return typed_json.parse(data.decode(), name)
    except UnicodeDecodeError:
        raise ReadError(f"{name}: not UTF-8") from None
