"""What the supervisor knows of each rank, from its start to its end."""

from __future__ import annotations

import json
import os
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

from launcher.diagnosis.failure import ErrorRecord, RankEnd, RankStatus
from launcher.plan.model import RankSpec
from launcher.process import spawn
from launcher.process.procfs import Usage
from launcher.supervision.capture import RankLog


@dataclass
class Heartbeat:
    """The last heartbeat that was read of a rank. Times are those of the run's clock."""

    stamp: tuple[int, int] = (0, 0)  # of the file: ns, inode
    step: int = 0  # of its phase
    train_step: int = 0  # the last one of training
    phase: str = ""
    seen: float = 0.0
    has_stepped: bool = False  # it has beaten with a step once: it trains

    @property
    def expects_beat(self) -> bool:
        """Whether the next beat is due within hang_timeout."""
        return self.step > 0

    @property
    def in_untimed_phase(self) -> bool:
        """Whether the program is in a phase without steps, which may take any time."""
        return self.step == 0 and self.phase not in ("", "start")

    def refresh(self, path: Path, now: float) -> bool:
        """Read the file if it has changed; tell whether it had."""
        try:
            about = os.stat(str(path))
            stamp = (about.st_mtime_ns, about.st_ino)
        except OSError:
            return False
        if stamp == self.stamp:
            return False
        self.stamp, self.seen = stamp, now
        with suppress(OSError, ValueError, TypeError, AttributeError):
            value = json.loads(path.read_text(encoding="utf-8"))
            self.step, self.phase = int(value.get("step", 0)), str(value.get("phase", ""))
            self.train_step = int(value.get("train_step", self.step) or 0)
        self.has_stepped = self.has_stepped or self.step > 0
        return True


@dataclass
class RankProcess:
    """A rank of one attempt: not yet started, alive, or ended."""

    spec: RankSpec
    started: float = 0.0
    child: spawn.Child | None = None
    log: RankLog | None = None
    code: int | None = None
    seconds: float = 0.0
    ended_ns: int = 0
    status: RankStatus = RankStatus.FINISHED
    error: ErrorRecord | None = None
    thread_error: ErrorRecord | None = None
    error_seen: float | None = None
    detail: str = ""
    has_group: bool = False  # processes may be left in its process group
    heartbeat: Heartbeat = field(default_factory=Heartbeat)
    usage: Usage = field(default_factory=Usage)  # at the last sample
    output: int = 0  # bytes written
    active: float = 0.0  # when it was last seen to do anything

    @property
    def rank(self) -> int:
        return self.spec.rank

    @property
    def pid(self) -> int:
        return self.child.pid if self.child else 0

    @property
    def alive(self) -> bool:
        return self.child is not None and self.code is None

    def end(self) -> RankEnd:
        """Collect what is known of its end, before any judgement."""
        return RankEnd(
            rank=self.rank,
            device_id=self.spec.device_id,
            pid=self.pid,
            code=self.code,
            seconds=self.seconds,
            ended_ns=self.ended_ns,
            status=self.status,
            error=self.error,
            thread_error=self.thread_error,
            step=self.heartbeat.train_step,
            detail=self.detail,
            tail=self.log.tail if self.log else b"",
        )
