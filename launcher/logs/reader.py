"""What all readers of logs have in common."""

from __future__ import annotations

from abc import ABC, abstractmethod
from pathlib import Path

from launcher.logs.records import Batches, RecordBatch


class LogReader(ABC):
    """One log in batches; a later call of `batches` goes on where it ended."""

    def __init__(self, path: Path, label: bytes, rank: int | None) -> None:
        self.path, self.label, self.rank = path, label, rank
        self.problems: list[str] = []  # what could not be read, or was read by a guess
        self.identities: set[tuple[int, int]] = set()  # device and inode of others' files that were read

    @abstractmethod
    def batches(self) -> Batches:
        """Yield what is there now, to its last whole line."""

    @abstractmethod
    def finish(self) -> RecordBatch:
        """Return what has no line end."""

    @abstractmethod
    def close(self) -> None:
        """Close the files."""

    def whole(self) -> Batches:
        """Yield all that is there, and close the files."""
        yield from self.batches()
        yield self.finish()
        self.close()
