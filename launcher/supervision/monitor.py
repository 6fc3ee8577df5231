"""Look at the ranks from outside: error files, heartbeats, memory, progress. Decides what is wrong."""

from __future__ import annotations

import os
import time
from dataclasses import dataclass
from typing import Callable, Sequence

from launcher.diagnosis import out_of_memory
from launcher.diagnosis.failure import State, read_error
from launcher.plan.model import Policy
from launcher.process import procfs
from launcher.run_dir import RunDir
from launcher.supervision.events import Journal
from launcher.supervision.rank import Running

ERROR_PATIENCE = 1.0  # a rank that wrote its error has this long to end by itself
SAMPLE = 1.0  # seconds between looks at memory, processor time and descendants, at least
THRIFT = 500  # times as long as such a look takes
STRAGGLE = 10  # steps before ranks are compared
BUSY = 0.05  # of a core: a rank that uses more is at work


@dataclass(frozen=True)
class Trouble:
    """Say what is wrong while processes still live. `state` is HUNG, EARLY or RAISED."""

    state: State
    rank: Running
    detail: str


class Watch:
    """Keep an eye on the ranks of one attempt; `look` is called a few times a second."""

    def __init__(
        self,
        run: RunDir,
        policy: Policy,
        ranks: Sequence[Running],
        journal: Journal,
        seen: Callable[[set[int]], None],
    ) -> None:
        self._run, self._policy, self._ranks, self._journal = run, policy, ranks, journal
        self._seen = seen
        self._stragglers: set[int] = set()
        self._at_ease, self._living = 0.0, len(ranks)
        self._next_sample = 0.0
        self._sampled: float | None = None
        self.memory = out_of_memory.MemoryEvidence()

    def look(self, now: float) -> Trouble | None:
        """Look at every living rank; return the first trouble."""
        living = [rank for rank in self._ranks if rank.alive]
        sampled = now >= self._next_sample
        if sampled:
            self._sample(living, now)
        for rank in living:
            self._pulse(rank, now)
        self._compare(living)
        return self._errors(living, now) or self._hang(living, now) or self._early(living, now)

    def _pulse(self, rank: Running, now: float) -> None:
        beaten = rank.pulse.look(self._run.heartbeat(rank.rank), now)
        written = rank.log.size if rank.log else 0
        if beaten or written != rank.output:
            rank.active, rank.output = now, written

    def _sample(self, living: Sequence[Running], now: float) -> None:
        """Note what each rank uses: evidence, should the kernel end it."""
        begin = time.monotonic()
        available = out_of_memory.memory().get("MemAvailable", 0)
        for rank in living:
            used = procfs.usage(rank.pid, available)
            since = now - self._sampled if self._sampled is not None else 0.0
            # A rank that shows its progress by heartbeats is judged by them alone: waiting may be busy.
            if since and (used.ticks - rank.usage.ticks) / procfs.TICKS > BUSY * since:
                rank.active = rank.active if rank.pulse.paced else now
            rank.usage = used
            self.memory.watch(rank.pid)
        # Daemons of the ranks are this process's own children, since it adopts orphans.
        self._seen(set(procfs.usage(os.getpid()).pids) - {os.getpid()})
        self._sampled = now
        self._next_sample = now + max(SAMPLE, (time.monotonic() - begin) * THRIFT)

    def _compare(self, living: Sequence[Running]) -> None:
        """Warn, once, of a rank that has made less than half of the others' steps."""
        steps = sorted(rank.pulse.step for rank in living if rank.pulse.armed)
        usual = steps[len(steps) // 2] if len(steps) > 1 else 0
        for rank in living:
            slow = rank.pulse.armed and usual >= STRAGGLE and rank.pulse.step * 2 < usual
            if slow and rank.rank not in self._stragglers:
                self._stragglers.add(rank.rank)
                text = "warning: rank %d is slow: step %d, where others are at %d"
                self._journal.say(text % (rank.rank, rank.pulse.step, usual))
                self._journal.event("straggler", rank.rank, step=rank.pulse.step, usual=usual)

    def _errors(self, living: Sequence[Running], now: float) -> Trouble | None:
        """Find a rank that has written its error and does not end."""
        for rank in living:
            if rank.error_seen is None:
                error = read_error(self._run.error(rank.rank))
                if error is not None and error.fatal:
                    rank.error, rank.error_seen = error, now
            elif now - rank.error_seen >= ERROR_PATIENCE:
                return Trouble(State.RAISED, rank, "it hangs in its exit handlers")
        return None

    def _hang(self, living: Sequence[Running], now: float) -> Trouble | None:
        """Find a rank whose next heartbeat is overdue."""
        limit = self._policy.hang_timeout
        if any(rank.pulse.resting for rank in living) or len(living) != self._living:
            self._at_ease, self._living = now, len(living)  # what waited for that one starts afresh
        if not limit or now - self._at_ease < limit:
            return None
        late = [rank for rank in living if rank.pulse.armed and now - rank.pulse.seen >= limit]
        if not late:
            return None
        odd = min(late, key=lambda rank: (rank.pulse.step, rank.pulse.seen))
        text = "no heartbeat for %.1f s, the last in step %d (%s)"
        return Trouble(State.HUNG, odd, text % (now - odd.pulse.seen, odd.pulse.step, odd.pulse.phase))

    def _early(self, living: Sequence[Running], now: float) -> Trouble | None:
        """Find a rank that ended with 0 while all the others wait."""
        limit = self._policy.early_exit_grace
        gone = [rank for rank in self._ranks if rank.code == 0]
        if not limit or not gone or not living:
            return None
        first = min(gone, key=lambda rank: rank.ended_ns)
        since = max([first.started + first.seconds, *(rank.active for rank in living)])
        if now - since < limit:
            return None
        text = "the others have done nothing for %.1f s since it ended, after step %d"
        return Trouble(State.EARLY, first, text % (now - since, first.pulse.step))

    def explain_end(self, rank: Running) -> None:
        """Add what is known about a rank's end that its exit status does not say."""
        if rank.code in (-9, 137):
            evidence = self.memory.killed({rank.pid, *rank.usage.pids}, rank.usage)
        else:
            words = rank.log.tail[-4096:] if rank.log and rank.code and not rank.error else b""
            evidence = out_of_memory.said(words)
        if evidence:
            rank.state, rank.detail = State.OUT_OF_MEMORY, evidence

    def close(self) -> None:
        """Close what is open."""
        self.memory.close()
