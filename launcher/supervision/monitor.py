"""Checks of the ranks from outside: error files, heartbeats, memory, progress."""

from __future__ import annotations

import os
import signal
import time
from typing import Callable, NamedTuple, Sequence

from launcher.diagnosis import out_of_memory
from launcher.diagnosis.exit_codes import signal_of, signal_said
from launcher.diagnosis.failure import RankStatus
from launcher.process import procfs
from launcher.process.signals import ENDING, name
from launcher.supervision.context import RunContext
from launcher.supervision.events import Event
from launcher.supervision.rank import RankProcess

ERROR_PATIENCE = 1.0  # seconds in which a rank that wrote its error should end by itself
SAMPLE = 1.0  # seconds between samples of memory, processor time and descendants, at least
SAMPLE_COST = 500  # ... and this many times as long as a sample takes
STRAGGLE = 10  # steps before ranks are compared
BUS_ERROR = "SIGBUS is mostly a full /dev/shm (`df -h /dev/shm`) or a file cut short while it was mapped"
SHOWN = 200  # characters of a rank's error in the report
BUSY = 0.05  # of a core: a rank that uses more is at work
MOVED = 1 << 20  # bytes read or written between samples: a rank that moves more is at work


class Incident(NamedTuple):
    """A problem of a rank while processes still live. `status` is HUNG, EXITED_EARLY or RAISED."""

    status: RankStatus
    rank: RankProcess
    detail: str


class RankMonitor:
    """The checks of one attempt. `on_descendants` gets the pids of the launcher's descendants."""

    def __init__(
        self,
        context: RunContext,
        ranks: Sequence[RankProcess],
        on_descendants: Callable[[set[int]], None],
    ) -> None:
        self._events, self._policy = context.events, context.plan.policy
        self._ranks, self._on_descendants = ranks, on_descendants
        self._stragglers: set[int] = set()
        self._timed_since, self._living = 0.0, len(ranks)
        self._next_sample = 0.0
        self._sampled: float | None = None
        self.memory = out_of_memory.MemoryEvidence()

    def check(self, now: float) -> Incident | None:
        """Check every living rank; return the first problem. Called a few times a second."""
        living = [rank for rank in self._ranks if rank.alive]
        if now >= self._next_sample:
            self._sample(living, now)
        for rank in living:
            self._note_activity(rank, now)
        self._warn_of_stragglers(living)
        return (
            self._raised(living, now)
            or self._hung(living, now)
            or self._silent(living, now)
            or self._exited_early(living, now)
        )

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
            since = now - self._sampled if self._sampled is not None else 0.0
            # A rank that shows its progress by heartbeats is judged by them alone: waiting may use a core.
            if since and (used.ticks - rank.usage.ticks) / procfs.TICKS > BUSY * since:
                rank.active = rank.active if rank.heartbeat.has_stepped else now
            if self._policy.hang_timeout and not rank.heartbeat.has_stepped:
                self._note_life(rank, used, now)
            rank.usage = used
            self.memory.watch(rank.pid)
        # Daemons of the ranks are children of this process, since it adopts orphans.
        self._on_descendants(set(procfs.usage(os.getpid()).pids) - {os.getpid()})
        self._sampled = now
        self._next_sample = now + max(SAMPLE, (time.monotonic() - begin) * SAMPLE_COST)

    @staticmethod
    def _note_life(rank: RankProcess, used: procfs.Usage, now: float) -> None:
        """Note a rank that starts or ends processes, or reads and writes: it may be quiet and use no core."""
        moved = procfs.transferred(used.pids)
        if used.pids != rank.usage.pids or abs(moved - rank.moved) > MOVED:
            rank.lively = now
        rank.moved = moved

    def _warn_of_stragglers(self, living: Sequence[RankProcess]) -> None:
        """Warn once of a rank that has made less than half of the others' steps."""
        steps = sorted(rank.heartbeat.step for rank in living if rank.heartbeat.expects_beat)
        usual = steps[len(steps) // 2] if len(steps) > 1 else 0
        for rank in living:
            step = rank.heartbeat.step
            slow = rank.heartbeat.expects_beat and usual >= STRAGGLE and step * 2 < usual
            if slow and rank.rank not in self._stragglers:
                self._stragglers.add(rank.rank)
                self._events.announce(
                    f"warning: rank {rank.rank} is slow: step {step}, where others are at {usual}"
                )
                self._events.record(Event.STRAGGLER, rank.rank, step=step, usual=usual)

    def _raised(self, living: Sequence[RankProcess], now: float) -> Incident | None:
        """Find a rank that has written its error and does not end."""
        for rank in living:
            if rank.error_seen is None:
                error = rank.read_error()
                if error is not None and error.fatal:
                    rank.error, rank.error_seen = error, now
            elif now - rank.error_seen >= ERROR_PATIENCE:
                return Incident(RankStatus.RAISED, rank, "it hangs in its exit handlers")
        return None

    def _hung(self, living: Sequence[RankProcess], now: float) -> Incident | None:
        """Find a rank whose next heartbeat is overdue."""
        limit = self._policy.hang_timeout
        if any(rank.heartbeat.in_untimed_phase for rank in living) or len(living) != self._living:
            self._timed_since, self._living = now, len(living)  # ranks that waited for that one start afresh
        if not limit or now - self._timed_since < limit:
            return None
        late = [rank for rank in living if rank.heartbeat.expects_beat and now - rank.heartbeat.seen >= limit]
        if not late:
            return None
        first = min(late, key=lambda rank: (rank.heartbeat.step, rank.heartbeat.seen))
        beat = first.heartbeat
        detail = f"no heartbeat for {now - beat.seen:.1f} s, the last in step {beat.step} ({beat.phase})"
        return Incident(RankStatus.HUNG, first, detail)

    def _silent(self, living: Sequence[RankProcess], now: float) -> Incident | None:
        """Find a run whose ranks write no heartbeats, where for hang_timeout none has shown a sign of life.

        One rank may well wait for another that works, so all must be silent.
        """
        limit, beats = self._policy.hang_timeout, [rank.heartbeat for rank in living]
        told = any(beat.has_stepped or beat.in_untimed_phase for beat in beats)
        if not limit or not living or told or now - self._timed_since < limit:
            return None
        since = {rank.rank: max(rank.active, rank.lively) for rank in living}
        silence = (self._sampled or 0.0) - max(since.values())  # of a later time nothing is known yet
        if silence < limit:
            return None
        detail = (
            f"it has written nothing and used no processor for {silence:.1f} s; "
            "it writes no heartbeat, so hang_timeout goes by that"
        )
        return Incident(RankStatus.HUNG, min(living, key=lambda rank: since[rank.rank]), detail)

    def _exited_early(self, living: Sequence[RankProcess], now: float) -> Incident | None:
        """Find a rank that exited with 0 while all the others wait."""
        limit = self._policy.early_exit_grace
        gone = [rank for rank in self._ranks if rank.code == 0]
        if not limit or not gone or not living:
            return None
        first = min(gone, key=lambda rank: rank.ended_ns)
        since = max([first.started + first.seconds, *(rank.active for rank in living)])
        if now - since < limit:
            return None
        step = first.heartbeat.step
        detail = f"the others have been idle for {now - since:.1f} s since it ended, after step {step}"
        return Incident(RankStatus.EXITED_EARLY, first, detail)

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

    def close(self) -> None:
        """Close what is open."""
        self.memory.close()
