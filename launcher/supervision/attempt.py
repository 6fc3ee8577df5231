"""One attempt at a run: start the ranks and watch them in one selector loop until nothing of them is left."""

from __future__ import annotations

import os
import selectors
import signal
import time
from contextlib import suppress
from dataclasses import dataclass

from launcher.diagnosis.failure import RankEnd, State, judge, read_error, waits_for_others
from launcher.diagnosis.hang import RollCall, roll_call
from launcher.errors import LauncherError
from launcher.plan.model import Plan
from launcher.process import procfs, spawn
from launcher.process.signals import ENDING, FORWARDED, Signals, name
from launcher.process.watchdog import Guardian
from launcher.run_dir import RunDir
from launcher.supervision.capture import RankLog, Reader
from launcher.supervision.events import Journal
from launcher.supervision.monitor import Trouble, Watch
from launcher.supervision.rank import Running
from launcher.supervision.run_clock import Clock
from launcher.supervision.teardown import LOOK, Ending, Phase
from launcher.ui.console import Console

AT_ONCE = 8  # ranks that start side by side
POLL = 0.3  # seconds between looks at the ranks' files
SETTLE = 1.0  # after a victim's failure: time for the others to tell more
DRAIN = 2.0  # of silence in a pipe that somebody still holds open
NEVER = float("inf")


@dataclass(frozen=True)
class Result:
    """Hold how an attempt ended. `interrupted`: the signal that the launcher got, 0 for none."""

    ends: tuple[RankEnd, ...]
    culprit: RankEnd | None
    interrupted: int
    calls: RollCall | None
    seconds: float


class Attempt:
    """Run the local ranks of a plan once."""

    def __init__(
        self,
        plan: Plan,
        run: RunDir,
        console: Console,
        journal: Journal,
        watched: Signals,
        guardian: Guardian,
        number: int,
    ) -> None:
        self._plan, self._run, self._console, self._journal = plan, run, console, journal
        self._signals, self._guardian, self._number = watched, guardian, number
        self._clock = Clock()
        self._ranks = [Running(spec) for spec in plan.local_ranks]
        self._by_pid: dict[int, Running] = {}
        self._ending = Ending(plan, self._ranks, journal, self._clock)
        self._watch = Watch(run, plan.policy, self._ranks, journal, guardian.seen)
        self._calls: RollCall | None = None
        self._interrupted = self._interrupts = 0
        self._settle_at = NEVER
        self._next_poll = self._console_turn = 0.0
        self._selector = selectors.DefaultSelector()
        self._reader = Reader()
        self._pipes: set[int] = set()
        self._console_descriptor: int | None = None

    def run(self, spared: frozenset[int], limits: tuple[int, int]) -> Result:
        """Run to the end. `spared`: children of this process that are no part of the run."""
        self._ending.spared = spared
        begin = self._clock.now()
        self._selector.register(self._signals.descriptor, selectors.EVENT_READ)
        try:
            self._start(limits)
            while self._ending.phase is not Phase.DONE:
                self._turn()
            self._drain()
        finally:
            self._close()
        ends, culprit = judge([rank.end() for rank in self._ranks], self._ending.began_ns)
        return Result(ends, culprit, self._interrupted, self._calls, self._clock.now() - begin)

    # Start.

    def _start(self, limits: tuple[int, int]) -> None:
        self._console.expect([rank.rank for rank in self._ranks])
        for first in range(0, len(self._ranks), AT_ONCE):
            if self._ending.phase is Phase.RUNNING:
                self._spawn(self._ranks[first : first + AT_ONCE], limits)
            self._take_signals()

    def _spawn(self, ranks: list[Running], limits: tuple[int, int]) -> None:
        """Fork some ranks, then see that each has become its program: they do so side by side."""
        failed: Running | None = None
        forked: list[tuple[Running, spawn.Forked]] = []
        for rank in ranks:
            self._clear(rank.rank)
            rank.log = RankLog(self._run, rank.rank, self._console, self._plan.policy.log_max)
            rank.started = rank.active = self._clock.now()
            try:
                stdin = rank.rank == self._plan.policy.stdin_rank
                forked.append((rank, spawn.fork(rank.spec, stdin, limits)))
            except LauncherError as error:
                failed = self._not_started(rank, error)
                break
        for rank, process in forked:
            try:
                self._started(rank, spawn.started(process))
            except LauncherError as error:
                failed = failed or self._not_started(rank, error)
        if failed is not None:
            self._ending.begin(f"rank {failed.rank} could not be started")

    def _not_started(self, rank: Running, error: LauncherError) -> Running:
        rank.state, rank.detail, rank.code = State.NOT_STARTED, str(error), error.exit_code
        rank.ended_ns = time.monotonic_ns()
        self._journal.event("not_started", rank.rank, error=str(error))
        return rank

    def _started(self, rank: Running, child: spawn.Child) -> None:
        rank.child, rank.group = child, True
        self._by_pid[child.pid] = rank
        self._guardian.started(child)
        for stream, descriptor in (("o", child.stdout), ("e", child.stderr)):
            self._selector.register(descriptor, selectors.EVENT_READ, (rank, stream))
            self._pipes.add(descriptor)
        self._journal.event("started", rank.rank, pid=child.pid, start=procfs.start_of(child.pid))

    def _clear(self, rank: int) -> None:
        """Put away what an earlier attempt has left in the rank's folder."""
        if self._number:
            files = (self._run.error(rank), self._run.thread_error(rank), self._run.heartbeat(rank))
            for path in files:
                with suppress(OSError):
                    path.replace(path.with_name(f"{path.name}.{self._number - 1}"))

    # The loop.

    def _turn(self) -> None:
        timeout = self._timeout()
        asleep = self._clock.now()
        ready = self._selector.select(timeout)
        late = self._clock.woke(asleep, timeout)
        if late:
            self._journal.event("launcher_was_stopped", seconds=round(late, 3))
        for key, _ in ready:
            if key.data is not None:
                self._read(key.fd, *key.data)
        self._take_signals()
        now = self._clock.now()
        if now >= self._next_poll:
            self._next_poll = now + POLL
            self._poll(now)
        if now >= self._settle_at:
            self._begin("a rank waited in vain for others")
        self._ending.advance(now)
        self._serve_console()

    def _timeout(self) -> float:
        now = self._clock.now()
        due = min(self._ending.deadline, self._settle_at, self._next_poll, self._console_turn)
        if self._ending.phase is not Phase.RUNNING:
            due = min(due, now + LOOK)
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
        self._pipes.discard(descriptor)
        self._selector.unregister(descriptor)
        os.close(descriptor)

    def _serve_console(self) -> None:
        """Print what is due; wait for a slow console as for everything else."""
        self._console_turn = self._clock.now() + self._console.turn()
        wanted = self._console.descriptor
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
        for number in self._signals.take():
            if number == signal.SIGCHLD:
                self._reap()
            elif number in ENDING:
                self._interrupt(number)
            elif number in FORWARDED:
                self._forward(number)
            elif number == signal.SIGTSTP:
                self._stop_all()
            elif number == signal.SIGCONT:
                self._ending.send(signal.SIGCONT)

    def _interrupt(self, number: int) -> None:
        """End the ranks; a second Ctrl-C kills them at once, a third waits for nothing any more."""
        self._interrupts += 1
        self._journal.event("signal", signal=name(number))
        if self._ending.phase is Phase.RUNNING:
            self._interrupted = number
            self._begin(name(number))
        elif number == signal.SIGINT and (self._ending.phase is Phase.ENDING or self._interrupts > 2):
            self._ending.hurry()

    def _forward(self, number: int) -> None:
        for rank in self._ending.living():
            if procfs.handles(rank.pid, number):  # a rank that does not would die of it
                with suppress(ProcessLookupError, PermissionError):
                    os.kill(rank.pid, number)

    def _stop_all(self) -> None:
        """Stop with the ranks; go on when somebody continues this process."""
        self._ending.send(signal.SIGSTOP)
        before = self._clock.now()
        os.kill(os.getpid(), signal.SIGSTOP)
        self._ending.send(signal.SIGCONT)
        self._clock.woke(before, 0.0)

    def _reap(self) -> None:
        ended: list[Running] = []
        for pid, code in spawn.reaped(self._by_pid, self._ending.spared):
            rank = self._by_pid.get(pid)
            if rank is not None and rank.code is None:
                self._ended(rank, code)
                ended.append(rank)
        if ended:
            self._console.expect([rank.rank for rank in self._ending.living()])
        for rank in ended:
            if rank.code != 0 and self._ending.phase is Phase.RUNNING:
                self._failed(rank)

    def _ended(self, rank: Running, code: int) -> None:
        rank.code, rank.ended_ns = code, time.monotonic_ns()
        rank.seconds = self._clock.now() - rank.started
        rank.error = read_error(self._run.error(rank.rank)) or rank.error
        rank.thread_error = read_error(self._run.thread_error(rank.rank))
        if self._ending.phase is Phase.RUNNING:
            self._watch.explain_end(rank)
        self._journal.event("ended", rank.rank, code=code, seconds=round(rank.seconds, 3))

    # Trouble.

    def _failed(self, rank: Running) -> None:
        """Begin the teardown: at once, or a moment later when this rank only waited for another."""
        if not waits_for_others(rank.end()) or not self._ending.living():
            self._begin(f"rank {rank.rank} failed")
        elif self._settle_at == NEVER:
            self._settle_at = self._clock.now() + min(SETTLE, self._plan.policy.grace)
            self._calls = roll_call(self._run, {rank.rank: rank.pid for rank in self._ranks if rank.alive})

    def _begin(self, why: str) -> None:
        self._settle_at = NEVER
        self._ending.begin(why)

    def _poll(self, now: float) -> None:
        if self._ending.phase is Phase.RUNNING and self._settle_at == NEVER:
            trouble = self._watch.look(now)
            if trouble is not None:
                self._troubled(trouble)

    def _troubled(self, trouble: Trouble) -> None:
        rank = trouble.rank
        if trouble.state is State.RAISED:
            rank.detail = trouble.detail
            self._failed(rank)
            return
        self._journal.event(trouble.state.name.lower(), rank.rank, detail=trouble.detail)
        self._calls = roll_call(self._run, {rank.rank: rank.pid for rank in self._ranks if rank.alive})
        if trouble.state is State.HUNG and self._calls.odd is not None:
            rank = next(rank for rank in self._ranks if rank.rank == self._calls.odd)
        rank.state, rank.detail = trouble.state, trouble.detail
        rank.ended_ns = rank.ended_ns or time.monotonic_ns()
        what = "hangs" if trouble.state is State.HUNG else "ended while others wait for it"
        self._begin(f"rank {rank.rank} {what}")

    # The end.

    def _drain(self) -> None:
        """Take what is still in the pipes, until their ends, or until nothing has come for DRAIN seconds."""
        end = time.monotonic() + DRAIN
        while self._pipes and time.monotonic() < end:
            for key, _ in self._selector.select(0.05):
                if key.data is not None:
                    self._read(key.fd, *key.data)
                    end = time.monotonic() + DRAIN
            self._serve_console()

    def _close(self) -> None:
        for descriptor in list(self._pipes):
            self._unregister(descriptor)
        for rank in self._ranks:
            for path in (self._run.error(rank.rank), self._run.heartbeat(rank.rank)):
                with suppress(OSError):
                    os.unlink(f"{path}.tmp")  # it was killed while it wrote
            if rank.log is not None:
                rank.log.finish()
                if rank.log.trouble:
                    text = "rank %d: %d bytes of its output are not in %s: %s"
                    path = self._run.log(rank.rank)
                    self._journal.say(text % (rank.rank, rank.log.lost, path, rank.log.trouble))
        self._watch.close()
        self._console.finish()
        self._selector.close()
