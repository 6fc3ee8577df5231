"""Files on their way from a host to the head: the agent's end (launcher/hosts/files.py is the head's).

A thread gathers and reads, so that the agent goes on hearing and answering; large files cost no memory.
"""

from __future__ import annotations

import hashlib
import os
import queue
import threading
from pathlib import Path
from typing import Any, Iterator, Mapping, Sequence

from launcher import foreign
from launcher.errors import LauncherError, ReadError, describe
from launcher.hosts.frames import Frame
from launcher.hosts.probe import is_own
from launcher.run_dir import HostRunDir
from launcher.runs.artifacts import Artifacts, FileSet
from launcher.runs.gather import Arrived, Gathered, gather, read_reports
from launcher.typed_json import Value

PIECE = 64 << 10  # bytes of a file in one frame
_AHEAD = 64  # pieces that are read before they are sent


class Offer:
    """What a host sends after `fetch`. `finished`: all of it has been handed over."""

    def __init__(
        self, index: int, run: HostRunDir, cwds: Mapping[int, str], fetch: object, window: int
    ) -> None:
        self._index, self._run, self._cwds, self._window = index, run, cwds, max(window, PIECE)
        self._body = Value(fetch, "fetch")
        self._queue: queue.Queue[Frame | None] = queue.Queue(_AHEAD)
        self._next: Frame | None = None
        self._sent = self._took = 0
        self._closed = threading.Event()
        self.finished = False
        threading.Thread(target=self._work, name="files", daemon=True).start()

    def took(self, total: int) -> None:
        """Hear how many bytes the head has written."""
        self._took = max(self._took, total)

    def close(self) -> None:
        """End early."""
        self._closed.set()
        self.finished = True

    def frames(self) -> Iterator[Frame]:
        """Yield what may be sent now; never wait."""
        while not self.finished and self._sent - self._took < self._window:
            try:
                frame = self._queue.get_nowait()
            except queue.Empty:
                return
            if frame is None:
                self.finished = True
                return
            self._sent += len(frame.body[1]) if frame.kind == "file" else 0
            yield frame

    def _work(self) -> None:
        problems: list[str] = []
        try:
            for frame in self._read(problems):
                self._put(frame)
        except Exception as error:
            problems.append(describe(error))
        self._put(Frame(self._index, "files_done", {"problems": problems}))
        self._put(None)

    def _put(self, frame: Frame | None) -> None:
        while not self._closed.is_set():
            try:
                return self._queue.put(frame, timeout=0.5)
            except queue.Full:
                continue

    def _read(self, problems: list[str]) -> Iterator[Frame]:
        """Gather on this host, then yield the offer and the pieces of each file."""
        ranks, ended_well = self._body.get("ranks").wholes(), self._body.get("ended_well").flag()
        if self._body.get("shared").flag():
            yield Frame(self._index, "offer", of_own_disks(self._run, ranks, self._cwds, ended_well))
            return
        patterns = self._body.get("patterns").texts()
        found = gather(self._run, ranks, patterns, ended_well=ended_well, cwds=self._cwds)
        offer = described(self._run.path, found)
        sets = [*offer["checkpoints"], *offer["predictions"]]
        paths = dict.fromkeys([path for item in sets for path in item["files"]] + offer["files"])
        size = sum(os.path.getsize(path) for path in map(self._run.path.joinpath, paths) if path.exists())
        yield Frame(self._index, "offer", {**offer, "bytes": size})
        for path in paths:
            try:
                yield from self._pieces(path)
            except (OSError, LauncherError) as error:
                problems.append(f"{path}: {getattr(error, 'strerror', None) or error}")

    def _pieces(self, path: str) -> Iterator[Frame]:
        """Yield the pieces of a file. ReadError: it is none, or it changed meanwhile."""
        digest, offset = hashlib.sha256(), 0
        with foreign.open_regular(Path(self._run.path, path)) as stream:
            before = os.fstat(stream.fileno())
            about: dict[str, Any] = {"path": path, "size": before.st_size, "mode": before.st_mode & 0o777}
            while True:
                data = stream.read(min(PIECE, before.st_size - offset))
                digest.update(data)
                last = offset + len(data) >= before.st_size
                if (not data and not last) or (last and _changed(before, os.fstat(stream.fileno()))):
                    raise ReadError(f"{path}: changed while it was sent")
                ending = {"sha256": digest.hexdigest()} if last else {}
                yield Frame(self._index, "file", ({**about, "offset": offset, "last": last, **ending}, data))
                offset += len(data)
                if last:
                    return


def _changed(before: os.stat_result, now: os.stat_result) -> bool:
    return (before.st_size, before.st_mtime_ns) != (now.st_size, now.st_mtime_ns)


class _Staging(HostRunDir):
    """The place on a shared disk where the head expects the files of a host."""

    @property
    def checkpoints(self) -> Path:
        return self.own / "files" / "checkpoints"

    @property
    def predictions(self) -> Path:
        return self.own / "files" / "predictions"


def of_own_disks(
    run: HostRunDir, ranks: Sequence[int], cwds: Mapping[int, str], ended_well: bool
) -> dict[str, Any]:
    """Bring files that ranks reported on disks of this host to the shared one; return the body of `offer`."""

    def is_here(path: str) -> bool:
        inside = path.startswith(f"{run.path}/")
        return not inside and os.path.lexists(path) and is_own(os.path.dirname(path))

    reported = read_reports(run, ranks, cwds, [], ended_well)
    own = reported.without(lambda item: not any(map(is_here, item.files)))
    place = _Staging(run.path, run.own.name)
    found = gather(place, (), arrived=Arrived(reported=Artifacts(own.checkpoints, own.predictions)))
    origins: dict[str, list[str]] = {}
    for item in (*own.checkpoints, *own.predictions):
        origins.setdefault(str(item.rank), []).extend(item.files)
    return {**described(place.own / "files", found), "elsewhere": origins}


def described(folder: Path, found: Gathered) -> dict[str, Any]:
    """Describe what was gathered, by paths in a folder: the body of `offer`."""

    def inside(path: str) -> str:
        return os.path.relpath(path, str(folder)) if path else ""

    def group(item: FileSet) -> dict[str, Any]:
        paths = [inside(path) for path in item.files]
        return {
            "rank": item.rank, "step": item.step, "prefix": inside(item.prefix), "files": paths,
            "complete": item.complete,
        }  # fmt: skip

    return {
        "checkpoints": [group(item) for item in found.placed.checkpoints],
        "predictions": [group(item) for item in found.placed.predictions],
        "files": [inside(path) for path in found.files],
        "metrics": dict(found.metrics or {}),
        "problems": list(found.problems),
        "notes": list(found.notes),
        "elsewhere": {},
    }
