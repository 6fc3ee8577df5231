"""The processes of runs, found in one look at /proc by what their environment says.

Only what processes of the same user say is read: the environment of others may name any run and any folder.
"""

from __future__ import annotations

import os
from typing import Iterator, NamedTuple

from launcher.process import procfs


class RunProcess(NamedTuple):
    """A living process of a run; `rank` is None for a process that is not itself a rank."""

    pid: int
    rank: int | None
    host: str = ""  # of several


class ProcessTable:
    """The processes of this user that belong to runs."""

    def __init__(self) -> None:
        self._found: dict[tuple[str, str], list[RunProcess]] = {}
        self._paths: dict[str, str] = {}
        for pid in procfs.pids():
            said = procfs.marks(pid) if pid != os.getpid() else None
            if said:
                rank = said.rank if _leads(pid) else None  # a rank leads its own session
                self._found.setdefault((said.run_id, said.folder), []).append(
                    RunProcess(pid, rank, said.host)
                )

    def of(self, run_id: str, folders: frozenset[str], host: str = "") -> tuple[RunProcess, ...]:
        """Return the processes of a run that name one of its folders (and the host, if given), by pid."""
        found = [
            process
            for (name, folder), some in self._found.items()
            if name == run_id and folders & {folder, self._path(folder)}
            for process in some
            if host in ("", process.host)
        ]
        return tuple(sorted(found))

    def folders(self) -> Iterator[str]:
        """Yield the folders of the runs that have processes."""
        for _, folder in self._found:
            if os.path.isabs(folder):
                yield self._path(folder)

    def _path(self, folder: str) -> str:
        if folder not in self._paths:
            self._paths[folder] = os.path.realpath(folder)
        return self._paths[folder]


def _leads(pid: int) -> bool:
    try:
        return os.getsid(pid) == pid
    except OSError:
        return False
