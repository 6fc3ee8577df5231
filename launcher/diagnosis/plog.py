"""The end of what CANN logged of a rank (plog): its newest files, bounded, read once the rank has ended."""

from __future__ import annotations

import os
from contextlib import suppress
from pathlib import Path
from typing import AbstractSet, Iterable, Iterator

from launcher import foreign
from launcher.errors import ReadError

FILES = 4  # the newest that are read
BYTES = 1 << 16  # of the end of each
ALL = 64  # the newest that are searched for codes
LOOKED_AT = 2000  # files and folders, at most
DEPTH = 5  # of folders: a program may have made any tree there


def end_of(folder: Path, pids: AbstractSet[int] = frozenset()) -> bytes:
    """Return the ends of the newest plog files in a folder, the newest last; of some processes where named.

    A file is called plog-PID_TIME.log or device-ID_TIME.log (CANN 8.0, "Log Reference").
    """
    found = [item for item in sorted(_files(folder)) if not pids or _pid(item[1].name) in pids]
    return b"\n".join(_ends(found[-FILES:], []))


def read_all(folder: Path) -> tuple[list[str], list[str]]:
    """Return the ends of all plog files, the newest last, and what is wrong with the others."""
    faults: list[str] = []
    texts = [end.decode("utf-8", "replace") for end in _ends(sorted(_files(folder))[-ALL:], faults)]
    return texts, faults


def _pid(name: str) -> int:
    word = name.partition("_")[0].rpartition("-")[2]
    return int(word) if word.isdecimal() else 0


def _files(folder: Path) -> Iterator[tuple[int, Path]]:
    """Yield (time of the last writing, path) of the logs below a folder; no link to one is followed."""
    pending = [] if os.path.islink(str(folder)) else [(str(folder), 0)]
    seen = 0
    while pending:
        where, depth = pending.pop()
        with suppress(OSError), os.scandir(where) as entries:
            for entry in entries:
                seen += 1
                if seen > LOOKED_AT:
                    return
                if entry.is_dir(follow_symlinks=False):
                    pending += [(entry.path, depth + 1)] if depth < DEPTH else []
                elif entry.name.endswith(".log"):
                    yield entry.stat(follow_symlinks=False).st_mtime_ns, Path(entry.path)


def _ends(found: Iterable[tuple[int, Path]], faults: list[str]) -> Iterator[bytes]:
    for _, path in found:
        try:
            with foreign.open_regular(path) as stream, suppress(OSError):
                stream.seek(max(0, os.fstat(stream.fileno()).st_size - BYTES))
                yield stream.read(BYTES)
        except ReadError as error:
            faults.append(str(error))
