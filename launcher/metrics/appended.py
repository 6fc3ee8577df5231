"""A file that others append lines to, read as it grows."""

from __future__ import annotations

import os
from pathlib import Path

from launcher import foreign
from launcher.errors import ReadError


class Appended:
    """The new lines of a file in a run's folder; one that was exchanged or has become shorter is read anew.

    most: bytes of one reading, and of a line. last: of what was there before, read no more than as much.
    """

    def __init__(self, path: Path, most: int, last: bool = False) -> None:
        self._path, self._most, self._last = path, most, last
        self._inode, self._offset, self._rest = 0, 0, b""

    def lines(self) -> list[bytes]:
        """Return the whole lines that have come. ReadError: it cannot be read."""
        if os.path.islink(str(self._path.parent)):
            raise ReadError(f"{self._path.parent}: a link (expected a folder)")
        try:
            about = os.lstat(str(self._path))
        except (OSError, ValueError):
            return []
        if about.st_ino != self._inode or about.st_size < self._offset:
            begin = max(0, about.st_size - self._most) if self._last else 0
            self._inode, self._offset, self._rest = about.st_ino, begin, b""
        if about.st_size == self._offset:
            return []
        data = self._next()
        *lines, rest = (self._rest + data).split(b"\n")
        self._rest = rest if len(rest) <= self._most else b""
        return lines

    def _next(self) -> bytes:
        with foreign.open_regular(self._path) as stream:
            try:
                stream.seek(self._offset)
                data = stream.read(self._most)
            except OSError as error:
                raise ReadError(f"{self._path}: {error.strerror}") from None
        self._offset += len(data)
        return data

    @property
    def torn(self) -> bool:
        """Whether it ended within a line when it was read last."""
        return bool(self._rest.strip())

    def skip(self) -> None:
        """Pass over what is there, such as what cannot be read."""
        try:
            self._offset, self._rest = os.lstat(str(self._path)).st_size, b""
        except (OSError, ValueError):
            pass
