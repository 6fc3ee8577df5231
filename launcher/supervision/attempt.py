"""One attempt at a run: start the ranks and serve them in one selector loop until nothing of them is left."""

from __future__ import annotations

import os
import selectors
import signal
import time
from typing import TYPE_CHECKING

from launcher.diagnosis.exit_codes import AGAIN
from launcher.diagnosis.failure import RankEnd, RankStatus
from launcher.diagnosis.verdict import judge
from launcher.errors import LauncherError
from launcher.process import procfs, spawn
from launcher.process.signals import ENDING, FORWARDED, Signals, name
from launcher.process.watchdog import Watchdog
from launcher.supervision.capture import RankLog, close_logs
from launcher.supervision.context import RunContext
from launcher.supervision.events import Event
from launcher.supervision.link import Link
from launcher.supervision.monitor import RankMonitor
from launcher.supervision.pipes import Pipes
from launcher.supervision.progress import Incident, RunProgress
from launcher.supervision.rank import RankProcess
from launcher.supervision.rank_files import RankFiles
from launcher.supervision.result import Result
from launcher.supervision.run_clock import PausableClock
from launcher.supervision.teardown import POLL as TEARDOWN_POLL
from launcher.supervision.teardown import Phase, Teardown
from launcher.supervision.waits import Waits
from launcher.text import named

if TYPE_CHECKING:  # loaded on a failure, not at every start
    from launcher.diagnosis.hang import StackSnapshot

PARALLEL = 8  # ranks that are started side by side
POLL = 0.3  # seconds between checks of the ranks' files
SETTLE = 2.0  # seconds after a victim's failure in which another rank may report the cause
DRAIN = 2.0  # seconds of silence in a pipe that some process still holds open
FIRST_SIGNAL = 0.5  # seconds after a rank's end in which Ctrl-C may have reached both
NEVER = float("inf")


class Attempt:
    """The local processes of a plan, run once. `number`: 0 for the first one. `link`: to the head, if any."""

    def __init__(
        self,
        context: RunContext,
        signals: Signals,
        watchdog: Watchdog,
        number: int,
        link: Link | None = None,
    ) -> None:
        self._context, self._signals, self._watchdog, self.number = context, signals, watchdog, number
        self._folder, self._console, self._events = context.folder, context.console, context.events
        self._policy = context.plan.policy
        self._clock = PausableClock()
        self._began = self._clock.now()
        self._ranks = [
            RankProcess(spec, RankFiles.of(context.folder, spec.rank, context.events.unreadable))
            for spec in context.plan.local_processes
        ]
        self._by_pid: dict[int, RankProcess] = {}
        self._teardown = Teardown(context, self._ranks, self._clock)
        self._teardown.elsewhere = link is not None
        self._link = link
        workers = [rank for rank in self._ranks if not rank.is_scheduler]
        progress = None if link else RunProgress(self._policy, workers, self._events)
        self._monitor = RankMonitor(context, self._ranks, watchdog.add_pids, progress)
        self._snapshot: StackSnapshot | None = None
        self._interrupted = self._interrupts = self._interrupted_ns = 0
        self._settle_at = NEVER
        self._next_poll = self._console_due = self._link_due = 0.0
        self._selector = selectors.DefaultSelector()
        self._pipes = Pipes(self._selector)
        self._console_waits, self._link_waits = Waits(self._selector), Waits(self._selector)

    def run(self, foreign_children: frozenset[int], limits: tuple[int, int]) -> Result:
        """Run to the end. `foreign_children`: children of this process that do not belong to the run."""
        self._teardown.foreign_children = foreign_children
        self._selector.register(self._signals.descriptor, selectors.EVENT_READ)
        try:
            self._start(limits)
            while self._teardown.phase is not Phase.DONE:
                self._turn()
            self._drain()
            self._context.look(self._clock.now(), last=True)
            self._await_signal()
        finally:
            self._close()
        return self._result()

    def _result(self) -> Result:
        ends, culprit = self._judge()
        seconds = self._clock.now() - self._began
        return Result(ends, culprit, self._interrupted, self._snapshot, seconds, self._teardown.began_ns)

    @property
    def ends(self) -> list[RankEnd]:
        """The ends of the ranks, before any judgement."""
        return [rank.end() for rank in self._ranks]

    def broken_off(self) -> Result:
        """Return what is known of an attempt that a bug in the launcher has ended; its ranks were killed."""
        if self._teardown.began_ns is None:
            self._teardown.began_ns = time.monotonic_ns()
        return self._result()

    def kill(self) -> None:
        """Kill the ranks at once."""
        self._teardown.send(signal.SIGKILL)

    def _judge(self) -> tuple[tuple[RankEnd, ...], RankEnd | None]:
        """Judge the ends; nobody failed where the launcher's own signal explains them."""
        ends, culprit = judge(self.ends, self._teardown.began_ns)
        if culprit is not None and self._interrupted:
            from launcher.diagnosis import interruption

            culprit = None if interruption.explains(ends, culprit, self._interrupted_ns) else culprit
        return ends, culprit

    # Start.

    def _start(self, limits: tuple[int, int]) -> None:
        self._console.expect([rank.rank for rank in self._ranks])
        order = sorted(self._ranks, key=lambda rank: rank.rank)  # the scheduler first: others look for it
        for first in range(0, len(order), PARALLEL):
            if self._teardown.phase is Phase.RUNNING:
                self._spawn(order[first : first + PARALLEL], limits)
            self._take_signals()

    def _spawn(self, ranks: list[RankProcess], limits: tuple[int, int]) -> None:
        """Fork some ranks, then wait until each executes its program: they do so side by side."""
        failed: RankProcess | None = None
        forked: list[tuple[RankProcess, spawn.ForkedRank]] = []
        for rank in ranks:
            if self._folder.earlier + self.number:
                rank.files.make_room(self._folder.rank_dir(rank.rank), self._folder.earlier + self.number - 1)
            rank.log = RankLog(self._folder, rank.rank, self._console, self._policy.max_log_bytes)
            rank.started = rank.active = self._clock.now()
            try:
                forked.append(
                    (rank, spawn.fork(rank.spec, 0 <= rank.rank == self._policy.stdin_rank, limits))
                )
            except LauncherError as error:
                failed = self._not_started(rank, error)
                break
        for rank, process in forked:
            try:
                self._started(rank, spawn.wait_for_exec(process))
            except LauncherError as error:
                failed = failed or self._not_started(rank, error)
        if failed is not None:
            self._teardown.begin(f"{named(failed.rank)} could not be started")

    def _not_started(self, rank: RankProcess, error: LauncherError) -> RankProcess:
        rank.status, rank.detail, rank.code = RankStatus.NOT_STARTED, str(error), error.exit_code
        rank.ended_ns = time.monotonic_ns()
        self._events.record(Event.NOT_STARTED, rank.rank, error=str(error))
        return rank

    def _started(self, rank: RankProcess, child: spawn.Child) -> None:
        rank.child, rank.has_group = child, True
        self._by_pid[child.pid] = rank
        self._watchdog.add_rank(child)
        self._pipes.add(rank)
        self._events.record(Event.STARTED, rank.rank, pid=child.pid, start=procfs.start_of(child.pid))

    # The loop.

    def _turn(self) -> None:
        timeout = self._timeout()
        waiting_since = self._clock.now()
        ready = self._selector.select(timeout)
        pause = self._clock.discount_pause(waiting_since, timeout)
        if pause:
            self._events.record(Event.LAUNCHER_WAS_STOPPED, seconds=round(pause, 3))
        for key, _ in ready:
            if key.data is not None:
                self._pipes.read(key)
        self._take_signals()
        now = self._clock.now()
        if now >= self._next_poll:
            self._next_poll = now + POLL
            self._check_ranks(now)
            self._context.look(now)
        if now >= self._settle_at:
            self._begin_teardown("a rank waited in vain for others, or left before them")
        self._serve_link()
        self._teardown.advance(now)
        self._serve_console()

    def _timeout(self) -> float:
        now = self._clock.now()
        due = min(
            self._teardown.deadline, self._settle_at, self._next_poll, self._console_due, self._link_due
        )
        if self._teardown.phase is not Phase.RUNNING:
            due = min(due, now + TEARDOWN_POLL)
        return max(0.0, due - now)

    def _serve_console(self) -> None:
        """Print what is due; wait for a slow console in the selector, like for everything else."""
        self._console_due = self._clock.now() + self._console.turn()
        wanted = self._console.descriptor
        self._console_waits.update({} if wanted is None else {wanted: selectors.EVENT_WRITE})

    def _serve_link(self) -> None:
        """Do what the head asks for, and let the link send what it has."""
        if self._link is None:
            self._link_due = NEVER
            return
        for kind, value in self._link.take():
            if kind == "signal":
                self._teardown.forward(int(value))
            elif kind == "stacks":
                self._link.stacks(self._monitor.stacks())
            elif kind == "alone":
                self._teardown.elsewhere = False
            elif self._teardown.phase is Phase.RUNNING:
                self._begin_teardown(value)
            if kind == "kill":
                self._teardown.expire()
        now = self._clock.now()
        self._link_due = now + self._link.turn(self._ranks, now, self._monitor.sampled)
        self._link_waits.update(self._link.waits)

    # Signals.

    def _take_signals(self) -> None:
        for number in self._signals.take():
            if number == signal.SIGCHLD:
                self._reap()
            elif number in ENDING:
                self._reap()  # what ended before it
                self._interrupt(number)
            elif number in FORWARDED:
                self._teardown.forward(number)
            elif number == signal.SIGTSTP:
                self._stop_all()
            elif number == signal.SIGCONT:
                self._teardown.send(signal.SIGCONT)

    def _interrupt(self, number: int) -> None:
        """End the ranks; a second Ctrl-C kills them at once, a third ends the launcher without waiting."""
        self._interrupts += 1
        self._events.record(Event.SIGNAL, signal=name(number))
        if not self._interrupted:
            self._interrupted, self._interrupted_ns = number, time.monotonic_ns()
        if self._teardown.phase is Phase.RUNNING:
            self._begin_teardown(name(number))
        elif number == signal.SIGINT and self._is_impatient():
            self._teardown.expire()

    def _is_impatient(self) -> bool:
        """Tell whether a Ctrl-C means to wait no longer; the first one may be what has ended ranks, too."""
        if self._interrupts > 1:
            return self._teardown.phase is Phase.ENDING or self._interrupts > 2
        since = time.monotonic_ns() - (self._teardown.began_ns or 0)
        return self._teardown.phase is Phase.ENDING and since > FIRST_SIGNAL * 1e9

    def _stop_all(self) -> None:
        """Stop the ranks and this process; go on with them when somebody continues it."""
        self._teardown.send(signal.SIGSTOP)
        before = self._clock.now()
        os.kill(os.getpid(), signal.SIGSTOP)
        self._teardown.send(signal.SIGCONT)
        self._clock.discount_pause(before, 0.0)

    def _reap(self) -> None:
        ended: list[RankProcess] = []
        for pid, code, peak in spawn.reaped(self._by_pid, self._teardown.foreign_children):
            rank = self._by_pid.get(pid)
            if rank is not None and rank.code is None:
                rank.peak_bytes = peak
                self._ended(rank, code)
                ended.append(rank)
        if ended:
            self._console.expect([rank.rank for rank in self._teardown.living()])
        for rank in ended:
            if rank.code != 0 and self._teardown.phase is Phase.RUNNING and self._teardown.needs(rank):
                self._failed(rank)

    def _ended(self, rank: RankProcess, code: int) -> None:
        rank.code, rank.ended_ns = code, time.monotonic_ns()
        rank.seconds = self._clock.now() - rank.started
        self._pipes.read_rest(rank)
        rank.read_last()
        if self._teardown.phase is Phase.RUNNING:
            with self._events.surviving("the search for lack of memory"):
                self._monitor.explain_end(rank)
        self._events.record(Event.ENDED, rank.rank, code=code, seconds=round(rank.seconds, 3))

    # Failures.

    def _failed(self, rank: RankProcess) -> None:
        """Begin the teardown: at once, or a moment later when this rank only waited for another."""
        from launcher.diagnosis.victims import waits_for_others

        leaves = rank.code == AGAIN  # as the others will, which may still save
        victim = leaves or waits_for_others(rank.end())
        if self._link is not None:
            self._link.failed(rank.end(), victim)
        if not victim or not (self._teardown.living() or self._link):
            self._begin_teardown(f"{named(rank.rank)} failed")
        elif self._settle_at == NEVER:
            patience = self._policy.grace if leaves else min(SETTLE, self._policy.grace)
            self._settle_at = self._clock.now() + patience
            self._snapshot = None if self._link else self._monitor.snapshot()  # the head asks all hosts

    def _begin_teardown(self, why: str) -> None:
        self._settle_at = NEVER
        self._teardown.begin(why)

    def _check_ranks(self, now: float) -> None:
        if self._teardown.phase is Phase.RUNNING and self._settle_at == NEVER:
            incident: Incident | None = None
            with self._events.surviving("a check of the ranks"):
                incident = self._monitor.check(now)
            if incident is not None:
                self._react(incident)

    def _react(self, incident: Incident) -> None:
        rank = next(rank for rank in self._ranks if rank.rank == incident.rank)
        if incident.status is RankStatus.RAISED:
            rank.detail = incident.detail
            self._failed(rank)
            return
        hung = incident.status is RankStatus.HUNG
        self._events.record(Event.HUNG if hung else Event.EXITED_EARLY, rank.rank, detail=incident.detail)
        self._snapshot = self._monitor.snapshot()
        outlier = self._snapshot.outlier if hung and self._snapshot else None
        rank = next((rank for rank in self._ranks if rank.rank == outlier), rank)
        rank.status, rank.detail = incident.status, incident.detail
        rank.ended_ns = rank.ended_ns or time.monotonic_ns()
        self._begin_teardown(f"rank {rank.rank} {'hangs' if hung else 'exited while others wait for it'}")

    # The end.

    def _drain(self) -> None:
        """Read the rest of the pipes: up to their ends, or until nothing has come for DRAIN seconds."""
        end = time.monotonic() + DRAIN
        while self._pipes and time.monotonic() < end:
            if self._pipes.receive(0.05):
                end = time.monotonic() + DRAIN
            self._serve_link()
            self._serve_console()

    def _await_signal(self) -> None:
        """Wait a moment for the signal that ended ranks: the launcher may get it after them."""
        if self._interrupted or not any(rank.code for rank in self._ranks):
            return
        from launcher.diagnosis import interruption

        end = interruption.wait_until(*self._judge())
        while not self._interrupted and time.monotonic_ns() < end:
            self._pipes.receive(max(0.0, (end - time.monotonic_ns()) / 1e9))
            self._take_signals()
            self._serve_link()
            self._serve_console()

    def _close(self) -> None:
        self._pipes.close()
        for rank in self._ranks:
            rank.files.clear()
        close_logs(self._folder, [rank.log for rank in self._ranks if rank.log], self._events.announce)
        self._monitor.close()
        self._console.finish()
        self._selector.close()
