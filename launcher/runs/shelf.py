"""Folders of gathered files: linked where that is safe, copied where not; no name is given twice."""

from __future__ import annotations

import hashlib
import os
import shutil
import stat
import tempfile
from pathlib import Path
from typing import BinaryIO, Iterable, NamedTuple, Sequence, Tuple

from launcher import foreign
from launcher.errors import ReadError

_LARGE = 64 << 20  # bytes, from which a file outside the run folder is linked, too
_MOST_PLACES = 100
State = Tuple[int, ...]


class Item(NamedTuple):
    """A file to be placed under a name; `state` tells whether it is still the one that was read."""

    path: str  # without links
    name: str
    state: State
    size: int
    may_link: bool


def _state(about: os.stat_result) -> State:
    return about.st_dev, about.st_ino, about.st_size, about.st_mtime_ns


class Shelf:
    """A folder in which files are placed, in the run folder."""

    def __init__(self, run: Path, folder: Path, reserved: Iterable[str] = ()) -> None:
        self._run, self._folder, self._reserved = os.path.realpath(str(run)), folder, frozenset(reserved)
        self._digests: dict[State, str] = {}

    def examine(self, path: str, name: str) -> Item:
        """Look at a file that is to be placed. ReadError: it is missing, or no regular file.

        A link is resolved. What lies outside the run folder is copied if it is small (programs write such
        files anew in their place), was found by a link, or belongs to another user.
        """
        real = os.path.realpath(path)
        with foreign.open_regular(Path(real)) as stream:
            about = os.fstat(stream.fileno())
        may_link = self._is_within(real) or (about.st_size >= _LARGE and not os.path.islink(path))
        return Item(real, name, _state(about), about.st_size, may_link and about.st_uid == os.geteuid())

    def _is_within(self, real: str) -> bool:
        """Tell whether a path without links is the run folder, or leads into it."""
        return (real + os.sep).startswith(self._run + os.sep)

    def digest(self, item: Item) -> str:
        """Return the sha256 of a file."""
        if item.state not in self._digests:
            with _open(item) as stream:
                self._digests[item.state] = sha256_of(stream)
        return self._digests[item.state]

    def choose(self, items: Sequence[Item], spare: str) -> str:
        """Choose the folder where every name is free or has these contents: "", `spare`, `spare`.2 and so on.

        Raises:
            ReadError: there is none.
        """
        for number in range(_MOST_PLACES if spare else 1):
            base = "" if number == 0 else spare if number == 1 else f"{spare}.{number}"
            if all(self._fits(item, base) for item in items):
                return base
        raise ReadError(f"{self._folder / items[0].name}: exists with other contents; left as it is")

    def _fits(self, item: Item, base: str) -> bool:
        target = self._folder / base / item.name
        if os.path.join(base, item.name) in self._reserved:
            return False
        try:
            about = os.lstat(str(target))
        except FileNotFoundError:
            return True
        except OSError:  # a file where a folder should be
            return False
        if not stat.S_ISREG(about.st_mode):
            return False
        there = Item(str(target), item.name, _state(about), about.st_size, False)
        if there.state[:2] == item.state[:2]:
            return True
        return there.size == item.size and self.digest(there) == self.digest(item)

    def put(self, item: Item, base: str) -> str:
        """Place a file; return its name on the shelf. ReadError, OSError: it cannot be."""
        target = self._folder / base / item.name
        if not self._is_within(os.path.realpath(str(target.parent))):
            raise ReadError(f"{target.parent}: leads out of the run folder")
        target.parent.mkdir(parents=True, exist_ok=True)
        if not os.path.lexists(str(target)) and not (item.may_link and _linked(item, target)):
            _copy(item, target)
        return os.path.join(base, item.name)


def sha256_of(stream: BinaryIO) -> str:
    """Hash what is left of a stream."""
    digest = hashlib.sha256()
    for block in iter(lambda: stream.read(1 << 20), b""):
        digest.update(block)
    return digest.hexdigest()


def _open(item: Item) -> BinaryIO:
    stream = foreign.open_regular(Path(item.path))
    if _state(os.fstat(stream.fileno())) != item.state:
        stream.close()
        raise ReadError(f"{item.path}: changed while it was gathered")
    return stream


def _linked(item: Item, target: Path) -> bool:
    """Make `target` a second name of the file; False where that cannot be, or it has been exchanged."""
    try:
        os.link(item.path, str(target), follow_symlinks=False)
    except OSError:
        return False
    if _state(os.lstat(str(target))) == item.state:
        return True
    target.unlink()
    return False


def _copy(item: Item, target: Path) -> None:
    with _open(item) as source:
        handle, fresh = tempfile.mkstemp(dir=str(target.parent), prefix=".gathering.")
        try:
            with os.fdopen(handle, "wb") as stream:
                shutil.copyfileobj(source, stream, 1 << 20)
            os.replace(fresh, str(target))
        except BaseException:
            os.unlink(fresh)
            raise
