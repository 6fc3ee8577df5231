"""Files that are read in turns, more of them than a process may have open at once."""

from __future__ import annotations

import errno
import resource
from collections import OrderedDict
from importlib import import_module
from pathlib import Path
from typing import BinaryIO, cast

from launcher import foreign
from launcher.errors import ReadError

_OTHERS = 24  # descriptors that are for other uses
_UNPACK = {".gz": "gzip", ".bz2": "bz2", ".xz": "lzma"}  # modules, which few need
PACKED = (*_UNPACK, ".zst", ".lz4", ".zip")  # endings of packed files; the last three are not read


def is_packed(path: Path) -> bool:
    """Tell whether a file is packed, by its name."""
    return path.suffix in PACKED


def _limit() -> int:
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return 1024 if soft <= 0 else max(4, min(1024, (soft - _OTHERS) // 2))


class OpenFiles:
    """Open files by their users; the one that was used least recently is closed for another.

    What is closed so is opened again at its next use, so every user seeks to its own place.
    """

    def __init__(self) -> None:
        self._most = _limit()
        self._open: OrderedDict[object, tuple[BinaryIO, BinaryIO]] = OrderedDict()

    def get(self, user: object, path: Path, *, follow: bool = False) -> BinaryIO:
        """Return a user's open file, unpacked. `follow`: it may be a link to one.

        Raises:
            ReadError: it is missing, no regular file, unreadable, or packed as nothing here can unpack.
        """
        found = self._open.get(user)
        if found is None:
            while len(self._open) >= self._most:
                self._close(next(iter(self._open)))
            found = self._open[user] = self._opened(path, follow)
        self._open.move_to_end(user)
        return found[1]

    def _opened(self, path: Path, follow: bool) -> tuple[BinaryIO, BinaryIO]:
        if path.suffix in PACKED and path.suffix not in _UNPACK:
            raise ReadError(f"{path}: packed (expected plain text, gz, bz2 or xz); unpack it first")
        raw = self._raw(path, follow)
        module = _UNPACK.get(path.suffix)
        return raw, cast(BinaryIO, import_module(module).open(raw)) if module else raw

    def _raw(self, path: Path, follow: bool) -> BinaryIO:
        while True:
            try:
                return foreign.open_regular(path, follow=follow)
            except ReadError as error:
                cause = error.__context__
                many = isinstance(cause, OSError) and cause.errno in (errno.EMFILE, errno.ENFILE)
                if not many or not self._open:
                    raise
                self._close(next(iter(self._open)))

    def _close(self, user: object) -> None:
        for stream in self._open.pop(user)[::-1]:
            stream.close()

    def close(self, user: object) -> None:
        """Close a user's file, where it is open."""
        if user in self._open:
            self._close(user)


FILES = OpenFiles()  # the limit is one of the process
