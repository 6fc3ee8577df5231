"""What the loop knows of each running rank."""

from __future__ import annotations

import json
import os
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

from launcher.diagnosis.failure import ErrorRecord, RankEnd, State
from launcher.plan.model import RankSpec
from launcher.process import spawn
from launcher.process.procfs import Usage
from launcher.supervision.capture import RankLog


@dataclass
class Pulse:
    """Hold a rank's heartbeat as it was seen. Times are those of the run's clock."""

    stamp: tuple[int, int] = (0, 0)  # of the file: ns, inode
    step: int = 0
    phase: str = ""
    seen: float = 0.0
    paced: bool = False  # it has beaten with a step once: it trains

    @property
    def armed(self) -> bool:
        """Tell whether the next beat is due in time."""
        return self.step > 0

    @property
    def resting(self) -> bool:
        """Tell whether the program is in a phase that has no steps: it takes as long as it takes."""
        return self.step == 0 and self.phase not in ("", "start")

    def look(self, path: Path, now: float) -> bool:
        """Read the file when it is new; tell whether it was."""
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
        self.paced = self.paced or self.step > 0
        return True


@dataclass
class Running:
    """Hold a rank between its start and its end."""

    spec: RankSpec
    started: float = 0.0
    child: spawn.Child | None = None
    log: RankLog | None = None
    code: int | None = None
    seconds: float = 0.0
    ended_ns: int = 0
    state: State = State.FINISHED
    error: ErrorRecord | None = None
    thread_error: ErrorRecord | None = None
    error_seen: float | None = None
    detail: str = ""
    group: bool = False  # processes may be left in its group
    pulse: Pulse = field(default_factory=Pulse)
    usage: Usage = field(default_factory=Usage)  # when last looked at
    output: int = 0  # bytes written
    active: float = 0.0  # when it last did anything

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
        """Give the facts, unjudged."""
        return RankEnd(
            rank=self.rank,
            device_id=self.spec.device_id,
            pid=self.pid,
            code=self.code,
            seconds=self.seconds,
            ended_ns=self.ended_ns,
            state=self.state,
            error=self.error,
            thread_error=self.thread_error,
            step=self.pulse.step,
            detail=self.detail,
            tail=self.log.tail if self.log else b"",
        )
