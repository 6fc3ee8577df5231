"""The files that a rank writes and the launcher reads while it runs.

A rank may write, replace or remove them at any time, and may leave anything in their place. What cannot be
read costs that file alone, and is named once.
"""

from __future__ import annotations

import os
from contextlib import suppress
from pathlib import Path
from typing import Callable, Generic, NamedTuple, TypeVar

from launcher.diagnosis.failure import ErrorRecord, read_error, read_torch_error
from launcher.errors import MissingFileError, ReadError
from launcher.heartbeat import Beat, read_beat
from launcher.run_dir import RunDir

T = TypeVar("T")


class RankFile(Generic[T]):
    """One file, read again when it has changed; `value` is what it last held that could be read."""

    def __init__(self, path: Path, read: Callable[[Path], T], on_fault: Callable[[str], None]) -> None:
        self._path, self._read_file, self._on_fault = path, read, on_fault
        self._stamp: tuple[int, int, int] | None = None
        self._torn = False  # what the last look found may be half of a file that is being written
        self.value: T | None = None

    def refresh(self, last: bool = False) -> bool:
        """Read the file if it has changed; tell whether it had. `last`: the rank has ended."""
        stamp = _stamp(self._path)
        changed = stamp is not None and stamp != self._stamp
        if changed or (self._torn and stamp is not None):
            self._stamp = stamp
            self._read(final=last or not changed)
        return changed

    def _read(self, final: bool) -> None:
        torn = False
        try:
            self.value = self._read_file(self._path)
        except MissingFileError:
            pass
        except ReadError as error:
            torn = not final
            if final:
                self._on_fault(str(error))
        self._torn = torn

    def clear(self) -> None:
        """Remove what is only half written (launcher/worker.py)."""
        with suppress(OSError):
            os.unlink(f"{self._path}.tmp")

    def put_away(self, attempt: int) -> None:
        """Rename what an earlier attempt has left; what cannot be renamed is ignored from now on."""
        with suppress(OSError):
            if not os.path.islink(str(self._path.parent)):
                self._path.replace(self._path.with_name(f"{self._path.name}.{attempt}"))
        self._stamp = _stamp(self._path)


def _stamp(path: Path) -> tuple[int, int, int] | None:
    """Return what changes with every writing of a file; None when there is none."""
    try:
        about = os.lstat(str(path))
    except (FileNotFoundError, NotADirectoryError):
        return None
    except OSError:  # reading it says why
        return 0, 0, 0
    return about.st_mtime_ns, about.st_ino, about.st_size


class RankFiles(NamedTuple):
    """The files of one rank."""

    error: RankFile[ErrorRecord]
    thread_error: RankFile[ErrorRecord]
    heartbeat: RankFile[Beat]
    torch_error: RankFile[ErrorRecord]

    @classmethod
    def of(cls, folder: RunDir, rank: int, on_fault: Callable[[int, Path, str], None]) -> RankFiles:
        """Name the files of a rank. `on_fault` gets rank, path and reason, more than once for one file."""

        def fault_of(path: Path) -> Callable[[str], None]:
            return lambda why: on_fault(rank, path, why)

        error, thread_error, beat = folder.error(rank), folder.thread_error(rank), folder.heartbeat(rank)
        torch = folder.torch_error(rank)
        return cls(
            RankFile(error, read_error, fault_of(error)),
            RankFile(thread_error, read_error, fault_of(thread_error)),
            RankFile(beat, read_beat, fault_of(beat)),
            RankFile(torch, read_torch_error, fault_of(torch)),
        )

    def clear(self) -> None:
        """Remove what a rank that was killed while it wrote has left."""
        for file in (self.error, self.heartbeat):
            file.clear()

    def make_room(self, folder: Path, attempt: int) -> None:
        """Rename what an earlier attempt has left in the rank's folder; make the folder if it is gone."""
        with suppress(OSError):
            folder.mkdir(mode=0o700, parents=True)
        for file in self:
            file.put_away(attempt)
