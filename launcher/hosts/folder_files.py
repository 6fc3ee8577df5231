"""A stream of lines over files of a folder that several hosts see, as a volume of pods; NFS is enough.

Each stream has one writer. It opens and closes its file for each write, and the reader for each read: NFS
(close-to-open) then carries what was written. Both ends create the file, since NFS remembers for up to 60 s
that a name was not there (acdirmax), and forgets only what it has not looked up. For the same reason the
reader learns from the last line of a file that the next one is there, and looks for no file before.
"""

from __future__ import annotations

import os
from contextlib import suppress
from pathlib import Path

SEGMENT = 16 << 20  # bytes after which a stream goes on in the next file
CHUNK = 1 << 20  # bytes of one read
WORD = 64  # bytes of a file of one word: always the same, so that another word replaces all of it
_NEXT = b"\x1eNEXT\n"  # the last line of a file; no frame has RS at its beginning
_FLAGS = os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK


def _path(folder: Path, name: str, number: int) -> str:
    return str(folder / f"{name}.{number}")


class StreamWriter:
    """The writing end. What cannot be written now, as on a full disk, is written at a later flush.

    keep: how many full files to keep for readers that are behind; 0: readers remove them.
    """

    def __init__(self, folder: Path, name: str, segment: int = SEGMENT, keep: int = 0) -> None:
        self._folder, self._name, self._segment, self._keep = folder, name, segment, keep
        self._number = self._size = 0
        self._lines: list[bytes] = []
        self.last_error = ""

    def put(self, lines: list[bytes]) -> None:
        """Take whole lines, which the next flush writes."""
        self._lines += lines

    @property
    def pending(self) -> int:
        """Count the bytes that wait for a flush."""
        return sum(map(len, self._lines))

    def flush(self) -> bool:
        """Write what is there; return False where nothing could be written (`last_error` says why)."""
        try:
            if self._lines:
                self._append(b"".join(self._lines))
                self._lines = []
            if self._size >= self._segment:
                self._turn()
        except OSError as error:
            self.last_error = f"{_path(self._folder, self._name, self._number)}: {error.strerror}"
            return False
        self.last_error = ""
        return True

    def _append(self, data: bytes) -> None:
        """Write at the end that is known: a second try writes the same bytes to the same place."""
        descriptor = os.open(_path(self._folder, self._name, self._number), _FLAGS | os.O_WRONLY, 0o600)
        try:
            at = 0
            while at < len(data):
                at += os.pwrite(descriptor, data[at : at + CHUNK], self._size + at)
        finally:
            os.close(descriptor)  # NFS writes here, and says here that its disk is full
        self._size += len(data)

    def _turn(self) -> None:
        descriptor = os.open(_path(self._folder, self._name, self._number + 1), _FLAGS | os.O_WRONLY, 0o600)
        os.close(descriptor)
        self._append(_NEXT)
        self._number, self._size = self._number + 1, 0
        if self._keep and self._number > self._keep:
            with suppress(OSError):
                os.unlink(_path(self._folder, self._name, self._number - self._keep - 1))


def read_word(path: Path) -> str:
    """Return the content of a small file; "" when it is not there yet, or only as a name."""
    try:
        descriptor = os.open(str(path), _FLAGS | os.O_RDONLY, 0o600)
    except OSError:
        return ""
    try:
        text = os.read(descriptor, WORD)
    except OSError:
        return ""
    finally:
        os.close(descriptor)
    return text[:-1].decode("ascii", "replace").rstrip() if text.endswith(b"\n") else ""


def write_word(path: Path, word: str) -> None:
    """Write a small file that `read_word` reads, in place: NFS may know a replaced one for a minute more.

    Raises:
        OSError: it cannot be written.
    """
    descriptor = os.open(str(path), _FLAGS | os.O_WRONLY, 0o600)
    try:
        os.write(descriptor, f"{word:{WORD - 1}}\n".encode())
    finally:
        os.close(descriptor)


class StreamReader:
    """The reading end. `alone`: there is no other reader, so that files which were read are removed."""

    def __init__(self, folder: Path, name: str, alone: bool = False) -> None:
        self._folder, self._name, self._alone = folder, name, alone
        self._number = self._offset = 0
        self.last_error = ""

    def skip(self) -> None:
        """Begin behind what is there now."""
        with suppress(OSError):
            names = os.listdir(str(self._folder))
            numbers = [name[len(self._name) + 1 :] for name in names if name.startswith(self._name + ".")]
            self._number = max((int(number) for number in numbers if number.isdigit()), default=0)
            self._offset = os.stat(_path(self._folder, self._name, self._number)).st_size

    def read(self) -> bytes:
        """Return the whole lines that have come; an error counts as none (`last_error`)."""
        path = _path(self._folder, self._name, self._number)
        try:
            data = self._whole_lines(path)
        except OSError as error:
            self.last_error = f"{path}: {error.strerror}"
            return b""
        self.last_error = ""
        if not data.endswith(_NEXT):
            return data
        self._number, self._offset = self._number + 1, 0
        if self._alone:
            with suppress(OSError):
                os.unlink(path)
        return data[: -len(_NEXT)]

    def _whole_lines(self, path: str) -> bytes:
        """Read on; bytes that NFS knows the number of but not yet the content read as NUL, and wait."""
        descriptor = os.open(path, _FLAGS | os.O_RDONLY, 0o600)
        try:
            data = self._up_to_line_end(descriptor, CHUNK)
        finally:
            os.close(descriptor)
        self._offset += len(data)
        return data

    def _up_to_line_end(self, descriptor: int, most: int) -> bytes:
        data = os.pread(descriptor, most, self._offset)
        hole = data.find(b"\0")
        found = data if hole < 0 else data[:hole]
        end = found.rfind(b"\n") + 1
        if not end and hole < 0 and len(data) == most:  # one line that is longer than a chunk
            return self._up_to_line_end(descriptor, 2 * most)
        return found[:end]
