"""Checks of this host's ranks from outside: error files, heartbeats, memory, signs of life."""

from __future__ import annotations

import os
import signal
import time
from typing import TYPE_CHECKING, Callable, Mapping, Sequence

from launcher.diagnosis import out_of_memory
from launcher.diagnosis.exit_codes import signal_of, signal_said
from launcher.diagnosis.failure import RankStatus
from launcher.process import procfs
from launcher.process.signals import ENDING, name
from launcher.supervision.context import RunContext
from launcher.supervision.progress import Incident, RunProgress
from launcher.supervision.rank import RankProcess

if TYPE_CHECKING:  # loaded on a failure, not at every start
    from launcher.diagnosis.hang import StackSnapshot

ERROR_PATIENCE = 1.0  # seconds in which a rank that wrote its error should end by itself
LEAVE_PATIENCE = 10.0  # ... and one that called sys.exit(), which need not be in a hurry
SAMPLE = 1.0  # seconds between samples of memory, processor time and descendants, at least
SAMPLE_COST = 500  # ... and this many times as long as a sample takes
BUS_ERROR = "SIGBUS is mostly a full /dev/shm (`df -h /dev/shm`) or a file cut short while it was mapped"
SHOWN = 200  # characters of a rank's error in the report
BUSY = 0.05  # of a core: a rank that uses more is at work
MOVED = 1 << 20  # bytes read or written between samples: a rank that moves more is at work


def _is_leaving(rank: RankProcess) -> bool:
    return rank.error is not None and rank.error.kind == "SystemExit"


class RankMonitor:
    """The checks of one attempt on this host. `on_descendants` gets the pids of the launcher's descendants.

    `progress` compares ranks, where these are all that the run has; of several hosts the head does.
    """

    def __init__(
        self,
        context: RunContext,
        ranks: Sequence[RankProcess],
        on_descendants: Callable[[set[int]], None],
        progress: RunProgress | None = None,
    ) -> None:
        self._context, self._policy, self._progress = context, context.plan.policy, progress
        self._ranks, self._on_descendants = ranks, on_descendants
        self._next_sample = 0.0
        self.sampled = 0.0  # when the ranks' use of memory and processors was looked at last; 0: never
        self.memory = out_of_memory.MemoryEvidence()

    def check(self, now: float) -> Incident | None:
        """Check every living rank; return the first problem. Called a few times a second."""
        living = [rank for rank in self._ranks if rank.alive]
        if now >= self._next_sample:
            self._sample(living, now)
        for rank in living:
            self._note_activity(rank, now)
        incident = self._raised(living, now)
        if incident is None and self._progress is not None:
            incident = self._progress.check(now, self.sampled)
        return incident

    def _note_activity(self, rank: RankProcess, now: float) -> None:
        beaten = rank.read_heartbeat(now)
        written = rank.log.size if rank.log else 0
        if beaten or written != rank.output:
            rank.active, rank.output = now, written

    def _sample(self, living: Sequence[RankProcess], now: float) -> None:
        """Record what each rank uses: evidence in case the kernel kills it."""
        begin = time.monotonic()
        available = out_of_memory.memory().get("MemAvailable", 0)
        for rank in living:
            used = procfs.usage(rank.pid, available)
            since = now - self.sampled if self.sampled else 0.0
            # A rank that shows its progress by heartbeats is judged by them alone: waiting may use a core.
            if since and (used.ticks - rank.usage.ticks) / procfs.TICKS > BUSY * since:
                rank.active = rank.active if rank.heartbeat.has_stepped else now
            if self._policy.hang_timeout and not rank.heartbeat.has_stepped:
                self._note_life(rank, used, now)
            rank.usage = used
            self.memory.watch(rank.pid)
        # Daemons of the ranks are children of this process, since it adopts orphans.
        self._on_descendants(set(procfs.usage(os.getpid()).pids) - {os.getpid()})
        known, self.sampled = self.sampled, now
        self._next_sample = now + max(SAMPLE, (time.monotonic() - begin) * SAMPLE_COST)
        if known:  # the ranks run: load what would hold up the end of the others after a failure
            from launcher.diagnosis import victims  # noqa: F401  # takes 50 ms, which are no cost of a sample

    @staticmethod
    def _note_life(rank: RankProcess, used: procfs.Usage, now: float) -> None:
        """Note a rank that starts or ends processes, or reads and writes: it may be quiet and use no core."""
        moved = procfs.transferred(used.pids)
        if used.pids != rank.usage.pids or abs(moved - rank.moved) > MOVED:
            rank.lively = now
        rank.moved = moved

    def _raised(self, living: Sequence[RankProcess], now: float) -> Incident | None:
        """Find a rank that has written its error and does not end."""
        for rank in living:
            if rank.error_seen is None:
                error = rank.read_error()
                if error is not None and error.fatal:
                    rank.error, rank.error_seen = error, now
                continue
            patience = LEAVE_PATIENCE if _is_leaving(rank) else ERROR_PATIENCE
            if now - rank.error_seen >= patience:
                self._explain_error(rank)
                late = f"it was still in its exit handlers {patience:.0f} s after that"
                return Incident(RankStatus.RAISED, rank.rank, rank.detail or late)
        return None

    def _explain_error(self, rank: RankProcess) -> None:
        """Add to the error of a rank that has not ended whether memory ran out."""
        from launcher.diagnosis import victims

        evidence = self._lack_of_memory(rank, victims.deciding_error(rank.end()), 0)
        if evidence:
            rank.status, rank.detail = RankStatus.OUT_OF_MEMORY, evidence

    def explain_end(self, rank: RankProcess) -> None:
        """Add what the exit status does not show: lack of memory, the error that the rank wrote."""
        if not rank.code or signal_of(rank.code) in ENDING:
            return
        from launcher.diagnosis import victims

        end = rank.end()
        error = victims.deciding_error(end)
        number = end.signal or signal_said(error)
        evidence = self._lack_of_memory(rank, error or victims.deciding_words(end), number)
        if evidence:
            rank.status, rank.detail = RankStatus.OUT_OF_MEMORY, evidence
        elif not (rank.error and rank.error.kind != "SystemExit"):
            first = error.strip().split("\n")[0][:SHOWN]
            facts = (
                f"it wrote: {first}" if first else "",
                f"a process that it started was killed by {name(number)}" if number != end.signal else "",
                BUS_ERROR if number == signal.SIGBUS else "",
            )
            rank.detail = rank.detail or "; ".join(filter(None, facts))

    def _lack_of_memory(self, rank: RankProcess, words: str, number: int) -> str:
        """Describe the evidence and the next step; `number`: the signal that killed it or a child of it."""
        from launcher.diagnosis import memory_words

        if number == signal.SIGKILL:
            killed = self.memory.killed({rank.pid, *rank.usage.pids}, rank.usage)
            if killed:
                return f"{killed}; {memory_words.HOST[1]}"
            if "kill" not in words.lower():
                return ""  # whoever sent it, an error before has another cause
        found = memory_words.shortage_in(words)
        if found:
            return str(found) if rank.error else f"it wrote: {found.line}; {found}"
        full = out_of_memory.shared_memory_full() if number == signal.SIGBUS else ""
        return f"{full}; {memory_words.SHARED[1]}" if full else ""

    def stacks(self) -> Mapping[int, str]:
        """Ask the living ranks where they are; return what answers, by rank."""
        from launcher.diagnosis import hang, stacks

        with self._context.events.surviving("the record of the stacks"):
            return stacks.ask(self._context.folder, self._pids(), hang.PATIENCE)
        return {}

    def snapshot(self) -> StackSnapshot | None:
        """Record where the living ranks are, and compare them."""
        from launcher.diagnosis.hang import take_snapshot

        with self._context.events.surviving("the record of the stacks"):
            return take_snapshot(self._context.folder, self._pids())
        return None

    def _pids(self) -> dict[int, int]:
        return {rank.rank: rank.pid for rank in self._ranks if rank.alive and not rank.is_scheduler}

    def close(self) -> None:
        """Close what is open."""
        self.memory.close()
