"""The search for what is not as it should be in a run that goes on (rules: launcher/metrics/alerts.py).

What the leading rank writes is read as it comes, each byte once. A disk is asked for its free space only
where that cannot wait for ever: the run folder's, on which the launcher writes itself, and local ones.
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
from launcher.heartbeat import Beat, read_beat
from launcher.metrics import series
from launcher.metrics.appended import Appended
from launcher.metrics.leading import Leader
from launcher.process import mounts
from launcher.text import label

if TYPE_CHECKING:
    from launcher.metrics.alerts import Alert, Disk
    from launcher.supervision.context import RunContext

KEPT = 20  # checkpoints whose files are looked at
TRAIN = "train"  # the phase of a heartbeat in which steps are due
UNTOLD = ("", "start", TRAIN, "save")  # what launcher/worker.py tells of a program that calls step() alone
CHUNK, MOST = 1 << 20, 64  # bytes that are read of a file in one look; such readings in the last look


class Alerts:
    """The alerts of one run, over all its attempts.

    unseen: ranks that write on a disk of another host only.
    """

    def __init__(self, context: RunContext, unseen: frozenset[int] = frozenset()) -> None:
        from launcher.metrics import alerts

        self._policy, self._new_rules, self._new_disk = context.plan.policy, alerts.Rules, alerts.Disk
        self._folder, self._events = context.folder, context.events
        self._ranks = {spec.rank: spec for spec in context.plan.ranks if spec.rank not in unseen}
        self._leader = Leader(self._folder, [*self._ranks])
        self._phases = False  # whether the program has told what it does beside training
        self._disks: dict[str, Disk] = {}  # by mount point
        self._reports: dict[int, Appended] = {}  # of the ranks that may save: the first, and the leading one
        self._saved = ""  # folder of the newest checkpoint
        self._checkpoints: deque[list[str]] = deque(maxlen=KEPT)  # their files
        self._follow(next(iter(self._ranks), None))
        if not self._ranks:
            text = "no alerts on loss and throughput: the ranks write their metrics on other hosts' disks"
            self._events.announce(text)
        elif unseen:
            self._events.debug(f"no alerts on what rank {label(set(unseen))} writes: on other hosts' disks")

    def _follow(self, rank: int | None) -> None:
        """Go by the rows of a rank from now on."""
        self._rank = rank
        self._rules = self._new_rules(self._policy.alert_loss, self._policy.alert_throughput)
        self._began: tuple[float, float] | None = None  # time and step of the first row of this attempt
        self._last = (0.0, 0.0)
        self._metrics: Appended | None = None
        if rank is not None:
            self._metrics = Appended(self._folder.metrics(rank), CHUNK)
            self._reports.setdefault(rank, Appended(self._folder.artifacts(rank), CHUNK))

    def look(self, now: float, last: bool = False) -> None:
        """Look at what is new, and at the disks. now: seconds of one clock; last: an attempt is over."""
        if self._leader.look() and self._leader.rank != self._rank:
            self._follow(self._leader.rank)
        if self._rank is not None and self._metrics is not None:
            with self._named(self._rank, self._folder.metrics(self._rank)):
                for _ in range(MOST if last else 1):
                    for line in self._metrics.lines():
                        self._row(line, now)
            self._tell(self._rules.look(now, None if last else self._training(), self._phases))
            if last:
                self._rules.ended()
            self._look_for_checkpoints()
        self._look_at_disks(time.monotonic())

    def _tell(self, alert: Alert | None) -> None:
        if alert is not None:
            self._events.alert(alert.kind, alert.step, alert.text)

    def _training(self) -> int | None:
        """Return the step of the leading rank; None: it saves, evaluates, is done, or does not say."""
        beat = self._beat()
        self._phases = self._phases or (beat is not None and beat.phase not in UNTOLD)
        if beat is None or beat.phase != TRAIN or (beat.total_steps and beat.train_step >= beat.total_steps):
            return None
        return beat.train_step

    def _beat(self) -> Beat | None:
        with suppress(ReadError):
            return read_beat(self._folder.heartbeat(self._rank)) if self._rank is not None else None
        return None

    def _row(self, line: bytes, now: float) -> None:
        record = series.record(line)
        if record is None:
            return
        self._rules.came(now)
        step, when = float(record["step"]), series.numbers(record).get("time", time.time())
        if self._began is None or step <= self._last[1] or when < self._last[0]:
            self._began = when, step
        self._last = when, step
        for alert in self._rules.add(record):
            self._tell(alert)

    def _look_for_checkpoints(self) -> None:
        """Find out where checkpoints go, and what the next one needs: as much as the last."""
        before = self._saved
        for rank, reports in self._reports.items():
            with suppress(ReadError):  # gathering names it
                for line in reports.lines():
                    self._report(line, self._ranks[rank].cwd)
        if self._saved and self._saved != before and not self._may_ask(self._saved):
            text = f"the free space for checkpoints in {self._saved} is not watched"
            self._events.debug(f"{text}: another disk, over the network")
            self._checkpoints.clear()

    def _report(self, line: bytes, cwd: str) -> None:
        """Take a line of artifacts.jsonl (launcher/runs/artifacts.py), whose files are not touched here."""
        with suppress(ReadError):
            record = foreign.parse_json(line, "artifacts.jsonl")
            if record.get("kind").text() == "checkpoint":
                files = [os.path.join(cwd, item.text()) for item in record.get("files").items()]
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
                self._tell(disk.add(now, free, self._left(), *sizes))

    def _sizes(self) -> list[int]:
        """Return the bytes of the newest checkpoint, and of all that are there."""
        sizes = {path: _size(path) for files in self._checkpoints for path in files}
        return [sum(sizes[path] for path in [*self._checkpoints][-1]), sum(sizes.values())]

    def _left(self) -> float | None:
        """Estimate the seconds to the end of the training; None: not known."""
        began, (when, step), beat = self._began, self._last, self._beat()
        if began is None or beat is None or not beat.total_steps or step <= began[1] or when <= began[0]:
            return None
        return max(0.0, beat.total_steps - step) * (when - began[0]) / (step - began[1])

    @contextmanager
    def _named(self, rank: int, path: Path) -> Iterator[None]:
        try:
            yield
        except MissingFileError:
            pass
        except ReadError as error:
            self._events.unreadable(rank, path, str(error))


def _size(path: str) -> int:
    try:
        return os.lstat(path).st_size
    except OSError:
        return 0
