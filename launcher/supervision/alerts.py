"""The search for what is not as it should be in a run that goes on (rules: launcher/metrics/alerts.py).

What rank 0 writes is read as it comes, each byte once. A disk is asked for its free space only where that
cannot wait for ever: the run folder's, on which the launcher writes itself, and local ones.
"""

from __future__ import annotations

import os
import time
from collections import deque
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Iterator

from launcher import foreign
from launcher.errors import MissingFileError, ReadError
from launcher.heartbeat import read_beat
from launcher.metrics import series
from launcher.metrics.appended import Appended
from launcher.process import mounts

if TYPE_CHECKING:
    from launcher.metrics.alerts import Disk
    from launcher.supervision.context import RunContext

KEPT = 20  # checkpoints whose files are looked at
CHUNK, MOST = 1 << 20, 64  # bytes that are read of a file in one look; such readings in the last look


class Alerts:
    """The alerts of one run, over all its attempts. sees: whether rank 0 writes on this host's disk."""

    def __init__(self, context: RunContext, sees: bool) -> None:
        from launcher.metrics import alerts

        policy = context.plan.policy
        self._rules, self._new_disk = alerts.Rules(policy.alert_loss, policy.alert_throughput), alerts.Disk
        self._folder, self._events = context.folder, context.events
        self._rank = context.plan.ranks[0]
        self._path = self._folder.rank_dir(self._rank.rank) / "metrics.jsonl"
        self._metrics = Appended(self._path, CHUNK) if sees else None
        self._disks: dict[str, Disk] = {}  # by mount point
        self._reports = Appended(self._folder.artifacts(self._rank.rank), CHUNK)
        self._saved = ""  # folder of the newest checkpoint
        self._checkpoints: deque[list[str]] = deque(maxlen=KEPT)  # their files
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
        before = self._saved
        with suppress(ReadError):  # gathering names it
            for line in self._reports.lines():
                self._report(line)
        if self._saved and self._saved != before and not self._may_ask(self._saved):
            text = f"the free space for checkpoints in {self._saved} is not watched"
            self._events.debug(f"{text}: another disk, over the network")
            self._checkpoints.clear()

    def _report(self, line: bytes) -> None:
        """Take a line of artifacts.jsonl (launcher/runs/artifacts.py), whose files are not touched here."""
        with suppress(ReadError):
            record = foreign.parse_json(line, "artifacts.jsonl")
            if record.get("kind").text() == "checkpoint":
                files = [os.path.join(self._rank.cwd, item.text()) for item in record.get("files").items()]
                self._saved = os.path.dirname(files[0]) if files else self._saved
                self._checkpoints.append(files)

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
                sizes = self._sizes() if point == saved and self._checkpoints else []
                alert = disk.add(now, free, self._left(), *sizes)
                if alert is not None:
                    self._events.alert(alert.kind, alert.step, alert.text)

    def _sizes(self) -> list[int]:
        """Return the bytes of the newest checkpoint, and of all that are there."""
        sizes = {path: _size(path) for files in self._checkpoints for path in files}
        return [sum(sizes[path] for path in [*self._checkpoints][-1]), sum(sizes.values())]

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
