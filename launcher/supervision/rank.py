"""What the supervisor knows of each rank, from its start to its end."""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from pathlib import Path

from launcher.diagnosis.failure import ErrorRecord, RankEnd, RankStatus
from launcher.heartbeat import Beat, Counters
from launcher.plan.model import RankSpec
from launcher.process import spawn
from launcher.process.procfs import Usage
from launcher.supervision.capture import RankLog
from launcher.supervision.rank_files import RankFiles
from launcher.text import SCHEDULER


@dataclass
class Heartbeat:
    """The last heartbeat that was read of a rank. Times are those of the run's clock."""

    step: int = 0  # of its phase
    train_step: int = 0  # the last one of training
    phase: str = ""
    total_steps: int = 0
    counters: Counters | None = None
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

    def take(self, beat: Beat) -> None:
        """Take down what the file holds."""
        self.step, self.train_step, self.phase = beat.step, beat.train_step, beat.phase
        self.total_steps, self.counters = beat.total_steps, beat.counters
        self.has_stepped = self.has_stepped or self.step > 0


@dataclass
class RankProcess:
    """A rank of one attempt: not yet started, alive, or ended."""

    spec: RankSpec
    files: RankFiles
    started: float = 0.0
    child: spawn.Child | None = None
    log: RankLog | None = None
    code: int | None = None
    seconds: float = 0.0
    ended_ns: int = 0
    status: RankStatus = RankStatus.FINISHED
    error: ErrorRecord | None = None
    error_seen: float | None = None
    detail: str = ""
    peak_bytes: int = 0
    has_group: bool = False  # processes may be left in its process group
    heartbeat: Heartbeat = field(default_factory=Heartbeat)
    usage: Usage = field(default_factory=Usage)  # at the last sample
    output: int = 0  # bytes written
    active: float = 0.0  # when it was last seen to do anything
    lively: float = 0.0  # when it last started or ended a process, or moved data
    moved: int = 0  # bytes that its processes had read and written at the last sample

    @property
    def rank(self) -> int:
        return self.spec.rank

    @property
    def is_scheduler(self) -> bool:
        """Whether it is the one process beside the ranks, which serves them and trains nothing."""
        return self.rank == SCHEDULER

    @property
    def pid(self) -> int:
        return self.child.pid if self.child else 0

    @property
    def alive(self) -> bool:
        return self.child is not None and self.code is None

    def read_heartbeat(self, now: float) -> bool:
        """Read the heartbeat if its file has changed; tell whether it had, also when it cannot be read."""
        beaten = self.files.heartbeat.refresh()
        if self.files.heartbeat.value is not None:
            self.heartbeat.take(self.files.heartbeat.value)
        if beaten:
            self.heartbeat.seen = now
        return beaten

    def read_error(self) -> ErrorRecord | None:
        """Return what error.json says; None when there is none that can be read."""
        self.files.error.refresh()
        return self.files.error.value

    def read_last(self) -> None:
        """Read what the rank has left, once it has ended."""
        for file in self.files:
            file.refresh(last=True)
        # A process that the rank has started may have recorded its own: what the rank raised comes first.
        self.error = self.files.error.value or self.files.torch_error.value
        if self.files.heartbeat.value is not None:
            self.heartbeat.take(self.files.heartbeat.value)

    def end(self) -> RankEnd:
        """Collect what is known of its end, before any judgement."""
        failed = self.code not in (0, None) or self.error is not None
        return RankEnd(
            rank=self.rank,
            device_id=self.spec.device_id,
            pid=self.pid,
            code=self.code,
            seconds=self.seconds,
            ended_ns=self.ended_ns,
            status=self.status,
            error=self.error,
            thread_error=self.files.thread_error.value,
            step=self.heartbeat.train_step,
            detail=self.detail,
            tail=(self.log.last() if failed else self.log.tail) if self.log else b"",
            plog=self._plog() if failed else b"",
            peak_bytes=self.peak_bytes,
        )

    def _plog(self) -> bytes:
        """Read the end of CANN's log, in the rank's folder or in one that ranks share."""
        from launcher.diagnosis import plog

        folder = self.spec.env.get("ASCEND_PROCESS_LOG_PATH", "")
        own = os.path.join(self.spec.env.get("NPU_LAUNCH_RANK_DIR", ""), "plog")
        # Later attempts find files of earlier ones there, too.
        first = self.spec.env.get("NPU_LAUNCH_ATTEMPT", "0") == "0"
        pids = frozenset() if folder == own and first else self.usage.pids | {self.pid}
        return plog.end_of(Path(folder), pids) if folder else b""
