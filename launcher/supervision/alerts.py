"""The search for what is not as it should be in a run that goes on (rules: launcher/metrics/alerts.py).

What rank 0 writes is read as it comes, each byte once. A disk is asked for its free space only where that
cannot wait for ever: the run folder's, on which the launcher writes itself, and local ones.
"""

from __future__ import annotations

import os
import time
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Iterator

from launcher import foreign
from launcher.errors import MissingFileError, ReadError
from launcher.heartbeat import read_beat
from launcher.metrics import series
from launcher.process import mounts
from launcher.runs import artifacts

if TYPE_CHECKING:
    from launcher.metrics.alerts import Disk
    from launcher.supervision.context import RunContext

KEPT = 100  # reports of checkpoints whose files are looked at
CHUNK, MOST = 1 << 20, 64  # bytes that are read of a file in one look; such readings in the last look


class Appended:
    """The new lines of a file that a rank appends to; one that has become shorter is read anew."""

    def __init__(self, path: Path) -> None:
        self._path, self._offset, self._rest = path, 0, b""

    def lines(self) -> list[bytes]:
        """Return the whole lines that have come, up to CHUNK. ReadError: it cannot be read."""
        if os.path.islink(str(self._path.parent)):
            raise ReadError(f"{self._path.parent}: a link (expected a folder)")
        try:
            size = os.lstat(str(self._path)).st_size
        except OSError:
            return []
        if size == self._offset:
            return []
        if size < self._offset:
            self._offset, self._rest = 0, b""
        with foreign.open_regular(self._path) as stream:
            stream.seek(self._offset)
            data = stream.read(CHUNK)
        self._offset += len(data)
        *lines, rest = (self._rest + data).split(b"\n")
        self._rest = rest if len(rest) <= CHUNK else b""
        return lines


class Alerts:
    """The alerts of one run, over all its attempts. sees: whether rank 0 writes on this host's disk."""

    def __init__(self, context: RunContext, sees: bool) -> None:
        from launcher.metrics import alerts

        policy = context.plan.policy
        self._rules, self._new_disk = alerts.Rules(policy.alert_loss, policy.alert_throughput), alerts.Disk
        self._folder, self._events = context.folder, context.events
        self._rank = context.plan.ranks[0]
        self._path = self._folder.rank_dir(self._rank.rank) / "metrics.jsonl"
        self._metrics = Appended(self._path) if sees else None
        self._disks: dict[str, Disk] = {}  # by mount point
        self._reports = (0, 0)  # size and time of artifacts.jsonl when it was read
        self._saved, self._needs = "", 0  # folder of the newest checkpoint; its bytes
        self._holds = 0  # bytes of all checkpoints that are there
        self._began: tuple[float, float] | None = None  # time and step of the first row of this attempt
        self._last = (0.0, 0.0)
        if not sees:
            text = "no alerts on loss and throughput: rank 0 writes its metrics on another host's disk"
            self._events.announce(text)

    def look(self, last: bool = False) -> None:
        """Look at what is new, and at the disks. last: nothing more is written for now."""
        if self._metrics is not None:
            with self._named(self._path):
                for _ in range(MOST if last else 1):
                    for line in self._metrics.lines():
                        self._row(line)
            self._look_for_checkpoints()
        self._look_at_disks(time.monotonic())

    def _row(self, line: bytes) -> None:
        record = series.record(line)
        if record is None:
            return
        step, when = float(record["step"]), series.numbers(record).get("time", time.time())
        if self._began is None or step <= self._last[1] or when < self._last[0]:
            self._began = when, step
        self._last = when, step
        for alert in self._rules.add(record):
            self._events.alert(alert.kind, alert.step, alert.text)

    def _look_for_checkpoints(self) -> None:
        """Find out where checkpoints go, and what the next one needs: as much as the last."""
        with suppress(OSError):
            about = os.lstat(str(self._folder.artifacts(self._rank.rank)))
            if (about.st_size, about.st_mtime_ns) == self._reports:
                return
            self._reports = about.st_size, about.st_mtime_ns
            found = artifacts.Artifacts()
            artifacts.read(self._folder, self._rank.rank, self._rank.cwd, found, ended_well=False)
            if found.checkpoints:
                last = found.checkpoints[-1]
                self._saved = os.path.dirname(last.prefix or last.files[0])
                known = found.checkpoints[-KEPT:] if self._may_ask(self._saved) else []
                sizes = {path: _size(path) for item in known for path in item.files}
                self._needs = sum(sizes.get(path, 0) for path in last.files)
                self._holds = sum(sizes.values())

    def _may_ask(self, folder: str) -> bool:
        """Tell whether a question about a folder is answered: a server that is gone lets one wait."""
        point, kind = mounts.mount_of(folder)
        return kind in mounts.OWN or point == mounts.mount_of(str(self._folder.path))[0]

    def _look_at_disks(self, now: float) -> None:
        folders = {mounts.mount_of(str(self._folder.path))[0]: str(self._folder.path)}
        saved = mounts.mount_of(self._saved)[0] if self._saved else ""
        if self._saved and self._may_ask(self._saved):
            folders.setdefault(saved, self._saved)
        for point, folder in folders.items():
            disk = self._disks.setdefault(point, self._new_disk(folder))
            with suppress(OSError):
                status = os.statvfs(folder)
                free = status.f_bavail * status.f_frsize
                needs, holds = (self._needs, self._holds) if point == saved else (0, 0)
                alert = disk.add(now, free, self._left(), needs, holds)
                if alert is not None:
                    self._events.alert(alert.kind, alert.step, alert.text)

    def _left(self) -> float | None:
        """Estimate the seconds to the end of the training; None: not known."""
        began, (when, step) = self._began, self._last
        with suppress(ReadError):
            total = read_beat(self._folder.heartbeat(self._rank.rank)).total_steps
            if began is not None and total and step > began[1] and when > began[0]:
                return max(0.0, total - step) * (when - began[0]) / (step - began[1])
        return None

    @contextmanager
    def _named(self, path: Path) -> Iterator[None]:
        try:
            yield
        except MissingFileError:
            pass
        except ReadError as error:
            self._events.unreadable(self._rank.rank, path, str(error))


def _size(path: str) -> int:
    try:
        return os.lstat(path).st_size
    except OSError:
        return 0
