"""One attempt at a run: start the ranks, watch them in one selector loop, end them, leave nothing behind.

RUNNING ─► ENDING (SIGTERM sent; `grace` runs) ─► SWEEPING (SIGKILL to whatever is left) ─► DONE
"""

from __future__ import annotations

import enum
import os
import selectors
import signal
import time
from contextlib import suppress
from dataclasses import dataclass
from typing import Dict, FrozenSet, Iterator, List, Optional, Set, Tuple

from launcher import processes, spawn
from launcher.capture import RankLog, Reader
from launcher.clock import Clock
from launcher.console import Console, ranges
from launcher.errors import LauncherError
from launcher.failure import ErrorRecord, RankEnd, State, judge, read_error, waits_for_others
from launcher.journal import Journal
from launcher.plan import Plan, RankSpec
from launcher.run_dir import RunDir
from launcher.signals import ENDING, FORWARDED, Signals, name

POLL = 0.25  # seconds between looks at the ranks' files
ERROR_PATIENCE = 1.0  # a rank that wrote its error has this long to end by itself
SETTLE = 1.0  # after a victim's failure: time for the others to tell more
LEFTOVER_GRACE = 2.0  # for processes that ranks which ended well have left behind
GIVE_UP = 5.0  # seconds after SIGKILL
DRAIN = 2.0  # for output that is still in a pipe


class Phase(enum.Enum):
    """Where an attempt stands."""

    RUNNING = "running"
    ENDING = "ending"
    SWEEPING = "sweeping"
    DONE = "done"


@dataclass
class Running:
    """Hold what the loop knows of a rank."""

    spec: RankSpec
    started: float = 0.0
    child: Optional[spawn.Child] = None
    log: Optional[RankLog] = None
    code: Optional[int] = None
    seconds: float = 0.0
    ended_ns: int = 0
    state: State = State.FINISHED
    error: Optional[ErrorRecord] = None
    error_seen: Optional[float] = None
    step: int = 0
    detail: str = ""
    group: bool = False  # processes may be left in its group

    @property
    def alive(self) -> bool:
        return self.child is not None and self.code is None

    def end(self) -> RankEnd:
        """Give the facts, unjudged."""
        return RankEnd(
            self.spec.rank,
            self.spec.device_id,
            self.child.pid if self.child else 0,
            self.code,
            self.seconds,
            self.ended_ns,
            self.state,
            self.error,
            self.step,
            self.detail,
            self.log.tail if self.log else b"",
        )


@dataclass(frozen=True)
class Result:
    """Hold how an attempt ended. `interrupted`: the signal that the launcher got, 0 for none."""

    ends: Tuple[RankEnd, ...]
    culprit: Optional[RankEnd]
    interrupted: int
    problem: Optional[LauncherError]
    seconds: float


class Attempt:
    """Run the local ranks of a plan once."""

    def __init__(
        self, plan: Plan, run: RunDir, console: Console, journal: Journal, watched: Signals, number: int
    ) -> None:
        self.plan, self.run_dir, self.console, self.journal = plan, run, console, journal
        self.policy, self.signals, self.number = plan.policy, watched, number
        self.clock = Clock()
        self.ranks = [Running(spec) for spec in plan.local_ranks]
        self.phase = Phase.RUNNING
        self.teardown_ns: Optional[int] = None
        self.interrupted = 0
        self.problem: Optional[LauncherError] = None
        self._deadline = self._settle_at = float("inf")
        self._interrupts = 0
        self._by_pid: Dict[int, Running] = {}
        self._selector = selectors.DefaultSelector()
        self._reader = Reader()
        self._pipes: Set[int] = set()
        self._limits: Optional[Tuple[int, int]] = None
        self._next_poll = 0.0
        self._console_turn = 0.0
        self._console_descriptor: Optional[int] = None
        self._spared: FrozenSet[int] = frozenset()

    def run(self, spared: FrozenSet[int], limits: Tuple[int, int]) -> Result:
        """Run to the end. `spared`: children of this process that are no part of the run."""
        self._spared, self._limits = spared, limits
        begin = self.clock.now()
        self._selector.register(self.signals.descriptor, selectors.EVENT_READ)
        try:
            self._start()
            while self.phase is not Phase.DONE:
                self._turn()
            self._drain()
        finally:
            self._close()
        ends, culprit = judge([rank.end() for rank in self.ranks], self.teardown_ns)
        return Result(ends, culprit, self.interrupted, self.problem, self.clock.now() - begin)

    # Start.

    def _start(self) -> None:
        self.console.expect([rank.spec.rank for rank in self.ranks])
        for rank in self.ranks:
            if self.phase is Phase.RUNNING:
                self._spawn(rank)
            self._take_signals()

    def _spawn(self, rank: Running) -> None:
        number = rank.spec.rank
        self._clear(number)
        rank.log = RankLog(self.run_dir, number, self.console)
        rank.started = self.clock.now()
        try:
            rank.child = child = spawn.spawn(rank.spec, number == self.policy.stdin_rank, self._limits)
        except LauncherError as error:
            rank.state, rank.detail, rank.code = State.NOT_STARTED, str(error), error.exit_code
            rank.ended_ns = time.monotonic_ns()
            self.problem = error
            self.journal.event("not_started", number, error=str(error))
            self.end_ranks("rank %d could not be started" % number)
            return
        rank.group = True
        self._by_pid[child.pid] = rank
        for stream, descriptor in (("o", child.stdout), ("e", child.stderr)):
            self._selector.register(descriptor, selectors.EVENT_READ, (rank, stream))
            self._pipes.add(descriptor)
        self.journal.event("started", number, pid=child.pid, start=processes.start_of(child.pid))

    def _clear(self, rank: int) -> None:
        """Put away what an earlier attempt has left in the rank's folder."""
        for path in (self.run_dir.error(rank), self.run_dir.heartbeat(rank)):
            with suppress(OSError):
                path.replace(path.with_name("%s.%d" % (path.name, self.number - 1)))

    # The loop.

    def _turn(self) -> None:
        timeout = self._timeout()
        asleep = self.clock.now()
        ready = self._selector.select(timeout)
        late = self.clock.woke(asleep, timeout)
        if late:
            self.journal.event("launcher_was_stopped", seconds=round(late, 3))
        for key, _ in ready:
            if key.data is not None:
                self._read(key.fd, *key.data)
        self._take_signals()
        now = self.clock.now()
        if now >= self._next_poll:
            self._next_poll = now + POLL
            self._poll(now)
        self._advance(now)
        self._serve_console()

    def _timeout(self) -> float:
        now = self.clock.now()
        due = min(self._deadline, self._settle_at, self._next_poll, self._console_turn)
        if self.phase is not Phase.RUNNING:
            due = min(due, now + 0.02)
        return max(0.0, due - now)

    def _read(self, descriptor: int, rank: Running, stream: str) -> None:
        data = self._reader.read(descriptor)
        if data is None:
            return
        if len(data) == 0:
            self._unregister(descriptor)
        elif rank.log is not None:
            rank.log.feed(stream, data)

    def _unregister(self, descriptor: int) -> None:
        if descriptor in self._pipes:
            self._pipes.discard(descriptor)
            self._selector.unregister(descriptor)
            os.close(descriptor)

    def _serve_console(self) -> None:
        self._console_turn = self.clock.now() + self.console.turn()
        wanted = self.console.descriptor
        if wanted == self._console_descriptor:
            return
        if self._console_descriptor is not None:
            self._selector.unregister(self._console_descriptor)
        self._console_descriptor = None
        if wanted is not None:
            with suppress(OSError, ValueError):  # epoll takes no regular file; they never wait
                self._selector.register(wanted, selectors.EVENT_WRITE)
                self._console_descriptor = wanted

    # Signals.

    def _take_signals(self) -> None:
        for number in self.signals.take():
            if number == signal.SIGCHLD:
                self._reap()
            elif number in ENDING:
                self._interrupt(number)
            elif number in FORWARDED:
                self._forward(number)
            elif number == signal.SIGTSTP:
                self._stop_all()
            elif number == signal.SIGCONT:
                self._signal_groups(signal.SIGCONT)

    def _interrupt(self, number: int) -> None:
        self._interrupts += 1
        self.journal.event("signal", signal=name(number))
        if self.phase is Phase.RUNNING:
            self.interrupted = number
            self.end_ranks("%s" % name(number))
        elif number == signal.SIGINT and self.phase is Phase.ENDING:
            self.journal.say("%s again: killing the ranks" % name(number))
            self._deadline = self.clock.now()
        elif number == signal.SIGINT and self._interrupts > 2:
            self._deadline = self.clock.now()  # give up

    def _forward(self, number: int) -> None:
        for rank in self.living():
            pid = rank.child.pid if rank.child else 0
            if processes.handles(pid, number):  # a rank that does not would die of it
                with suppress(ProcessLookupError, PermissionError):
                    os.kill(pid, number)

    def _stop_all(self) -> None:
        """Stop with the ranks; go on when somebody continues this process."""
        self._signal_groups(signal.SIGSTOP)
        before = self.clock.now()
        os.kill(os.getpid(), signal.SIGSTOP)
        self._signal_groups(signal.SIGCONT)
        self.clock.woke(before, 0.0)

    def _signal_groups(self, number: int) -> None:
        for rank in self.ranks:
            if rank.child is not None and rank.group:
                rank.group = spawn.kill_group(rank.child.pid, number) or rank.alive

    def living(self) -> List[Running]:
        """Give the ranks whose process has not ended."""
        return [rank for rank in self.ranks if rank.alive]

    def _reap(self) -> None:
        ended = list(iter_reaped())
        for pid, code in ended:
            rank = self._by_pid.get(pid)
            if rank is not None and rank.code is None:
                self._ended(rank, code)
        self.console.expect([rank.spec.rank for rank in self.living()])

    def _ended(self, rank: Running, code: int) -> None:
        rank.code, rank.ended_ns = code, time.monotonic_ns()
        rank.seconds = self.clock.now() - rank.started
        rank.error = read_error(self.run_dir.error(rank.spec.rank))
        self.journal.event("ended", rank.spec.rank, code=code, seconds=round(rank.seconds, 3))
        if code != 0 and self.phase is Phase.RUNNING:
            self._failed(rank)

    def _failed(self, rank: Running) -> None:
        """Begin the teardown: at once, or a moment later when this rank only waited for another."""
        if waits_for_others(rank.end()) and len(self.living()) > 0:
            if self._settle_at == float("inf"):
                self._settle_at = self.clock.now() + min(SETTLE, self.policy.grace)
        else:
            self.end_ranks("rank %d failed" % rank.spec.rank)

    # Looks at the ranks' files.

    def _poll(self, now: float) -> None:
        if self.phase is not Phase.RUNNING:
            return
        for rank in self.living():
            self._look_for_error(rank, now)

    def _look_for_error(self, rank: Running, now: float) -> None:
        if rank.error_seen is None:
            error = read_error(self.run_dir.error(rank.spec.rank))
            if error is not None and error.fatal:
                rank.error, rank.error_seen = error, now
                self.journal.event("error", rank.spec.rank, type=error.kind)
        elif now - rank.error_seen >= ERROR_PATIENCE:
            rank.detail = "it hangs in its exit handlers"
            self._failed(rank)

    # The end.

    def end_ranks(self, why: str) -> None:
        """Ask every rank to end; what has not after the grace period is killed."""
        if self.phase is not Phase.RUNNING:
            return
        self.phase = Phase.ENDING
        self.teardown_ns = time.monotonic_ns()
        self._settle_at = float("inf")
        self._deadline = self.clock.now() + self.policy.grace
        living = [rank.spec.rank for rank in self.living()]
        self._signal_groups(signal.SIGTERM)
        self._signal_groups(signal.SIGCONT)
        self.journal.event("teardown", why=why, ranks=living)
        if living:
            text = "%s; ending rank%s %s (grace %g s)"
            self.journal.say(text % (why, "s" if len(living) > 1 else "", ranges(living), self.policy.grace))

    def _advance(self, now: float) -> None:
        if self.phase is Phase.RUNNING:
            if now >= self._settle_at:
                self.end_ranks("a rank waited in vain for others")
            elif not self.living():
                self._all_ended(now)
        elif self.phase is Phase.ENDING:
            if now >= self._deadline or not (self.living() or self._groups()):
                self._begin_sweep(now)
        if self.phase is Phase.SWEEPING:
            self._sweep(now)

    def _all_ended(self, now: float) -> None:
        """Go on when every rank has ended by itself: what they left behind gets a short grace."""
        if self._groups():
            self.phase = Phase.ENDING
            self._signal_groups(signal.SIGTERM)
            self._deadline = now + min(self.policy.grace, LEFTOVER_GRACE)
        else:
            self._begin_sweep(now)

    def _groups(self) -> bool:
        """Tell whether any rank's process group still has members."""
        for rank in self.ranks:
            if rank.group and rank.child is not None and not rank.alive:
                rank.group = spawn.kill_group(rank.child.pid, 0)
        return any(rank.group for rank in self.ranks)

    def _begin_sweep(self, now: float) -> None:
        self.phase = Phase.SWEEPING
        self._deadline = now + GIVE_UP
        self._signal_groups(signal.SIGKILL)

    def _sweep(self, now: float) -> None:
        found = processes.freeze_and_kill(self.plan.run_id, self._spared, os.getpid())
        self._reap()
        if not found and not self.living():
            self.phase = Phase.DONE
        elif now >= self._deadline:
            self._give_up(found)

    def _give_up(self, found: Set[int]) -> None:
        pids = sorted(found | {rank.child.pid for rank in self.living() if rank.child})
        for pid in pids:
            where = processes.waits_in(pid)
            self.journal.say("cannot kill process %d%s" % (pid, " (waits in %s)" % where if where else ""))
        self.journal.event("survivors", pids=pids)
        self.phase = Phase.DONE

    def _drain(self) -> None:
        """Take what is still in the pipes, until their ends or for DRAIN seconds."""
        end = time.monotonic() + DRAIN
        while self._pipes and time.monotonic() < end:
            for key, _ in self._selector.select(0.05):
                if key.data is not None:
                    self._read(key.fd, *key.data)
            self._serve_console()

    def _close(self) -> None:
        for descriptor in list(self._pipes):
            self._unregister(descriptor)
        for rank in self.ranks:
            if rank.log is not None:
                rank.log.finish()
        self.console.finish()
        self._selector.close()


def iter_reaped() -> Iterator[Tuple[int, int]]:
    """Collect the children that have ended."""
    while True:
        ended = spawn.reap()
        if ended is None:
            return
        yield ended
