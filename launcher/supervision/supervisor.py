"""Run a plan: attempts, restarts, and the outcome. No exception comes from what ranks do."""

from __future__ import annotations

import os
import resource
import select
import threading
import time
from contextlib import contextmanager, suppress
from dataclasses import replace
from typing import TYPE_CHECKING, Callable, Iterator

from launcher.diagnosis.failure import Outcome
from launcher.diagnosis.verdict import exit_code_of
from launcher.errors import LauncherError, describe
from launcher.plan import environment
from launcher.plan.model import Plan
from launcher.process import procfs, spawn, sweep
from launcher.process.signals import ENDING, Signals, name
from launcher.process.watchdog import Watchdog
from launcher.run_dir import RunDir
from launcher.supervision.attempt import Attempt
from launcher.supervision.attempts import in_turn
from launcher.supervision.context import RunContext, Watch
from launcher.supervision.events import Event, EventLog
from launcher.supervision.result import Result
from launcher.ui.console import Console

if TYPE_CHECKING:  # loaded when an attempt has failed, not at every start
    from launcher.supervision.hook import Hook
    from launcher.supervision.restart_policy import Busy

BUG = LauncherError.exit_code
RESERVED = 1 << 18  # bytes


def supervise(
    plan: Plan, run: RunDir, console: Console, busy: Busy | None = None, hook: Hook | None = None
) -> Outcome:
    """Run every attempt of a plan in the main thread; end with no process of it left.

    `busy` names who still uses a device of the plan; a restart waits until it returns "". `hook` gets the
    events.
    """
    begin = time.monotonic()
    if threading.current_thread() is not threading.main_thread():
        # PDEATHSIG would kill the ranks as soon as this thread ends, and signals reach the main thread only.
        raise LauncherError("supervise() must be called in the main thread")
    with Signals() as signals:  # before anything is written, so that a signal leaves nothing half done
        reserve = Reserve(run)
        context = RunContext(plan, run, console, EventLog(run, console, hook), Watch())
        context.events.begin(plan.run_id)
        try:
            outcome = _outcome_of(context, busy, signals, begin)
        finally:
            reserve.release()
        return ended(context, outcome)


def ended(context: RunContext, outcome: Outcome) -> Outcome:
    """Record the end of a run; return its outcome with its alerts and verdicts."""
    events = context.events
    outcome = replace(outcome, alerts=tuple(events.alerts), verdicts=tuple(events.verdicts))
    failing = {alert["kind"] for alert in outcome.alerts} & set(context.plan.policy.fail_on_alert)
    if failing and not outcome.exit_code:
        text = f"the ranks ended well; exit code 1, as fail_on_alert names {', '.join(sorted(failing))}"
        outcome = replace(outcome, exit_code=1, report=text)
    events.record(Event.END, exit_code=outcome.exit_code, culprit=outcome.culprit)
    events.close()
    return outcome


def _outcome_of(context: RunContext, busy: Busy | None, signals: Signals, begin: float) -> Outcome:
    """Run the attempts; where the launcher itself fails, report that as an outcome too."""
    limits = spawn.raise_descriptor_limit()
    supervisor = _Supervisor(context, busy, limits)
    try:
        return supervisor.run(signals)
    except LauncherError as error:
        code, text = error.exit_code, str(error)
    except Exception as error:
        import traceback

        context.events.debug(traceback.format_exc())
        code, text = BUG, _describe(error, context.folder)
        known = supervisor.known(time.monotonic() - begin)
        if known is not None:
            return replace(known, report=f"{known.report}\n  then npu-launch failed: {text}")
    finally:
        with suppress(OSError, ValueError):
            resource.setrlimit(resource.RLIMIT_NOFILE, limits)
    return Outcome(code, (), None, text, 1, time.monotonic() - begin)


def _describe(error: Exception, folder: RunDir) -> str:
    if isinstance(error, OSError):
        hint = error.filename or "see ulimit -n, ulimit -u and the free memory"
        return f"cannot run: {error.strerror} ({hint})"
    return f"{describe(error)}; see {folder.launcher_log}"


class Reserve:
    """Some space kept free on the disk, so that a full one still takes the result and the report."""

    def __init__(self, run: RunDir) -> None:
        self._path = str(run.path / ".reserve")
        with suppress(OSError):
            with open(self._path, "wb") as stream:
                os.posix_fallocate(stream.fileno(), 0, RESERVED)

    def release(self) -> None:
        """Free the space."""
        with suppress(OSError):
            os.unlink(self._path)


@contextmanager
def guarded(
    run_id: str, attempt: Callable[[], Attempt | None], host: str = ""
) -> Iterator[tuple[Watchdog, frozenset[int]]]:
    """Leave no process of a run behind, whatever goes wrong meanwhile.

    attempt: gives the one that runs. host: this one, where the run is on several.
    Yields the watchdog, and the children of this process that do not belong to the run.
    """
    spawn.become_subreaper()
    me = os.getpid()
    foreign_children = frozenset(procfs.descendants([me], procfs.processes()))
    watchdog = Watchdog(run_id, host)
    foreign_children |= {watchdog.pid}
    try:
        yield watchdog, foreign_children
    except BaseException:
        running = attempt()
        if running is not None:
            running.kill()
        sweep.freeze_and_kill(sweep.ProcessMatcher(run_id, top=me, without=foreign_children, host=host))
        raise
    finally:
        watchdog.dismiss()


class _Supervisor:
    """What all attempts of a run share."""

    def __init__(self, context: RunContext, busy: Busy | None, limits: tuple[int, int]) -> None:
        self._context, self._plan, self._events = context, context.plan, context.events
        self._busy, self._limits = busy, limits
        self._interrupted = 0
        self._attempt: Attempt | None = None

    def known(self, seconds: float) -> Outcome | None:
        """Return the outcome of an attempt that broke off after a rank had failed; None: none had."""
        if self._attempt is None:
            return None
        with self._events.surviving("the verdict"):
            result = self._attempt.broken_off()
            if result.culprit is not None:
                return self._outcome(result, self._attempt.number + 1, "", seconds)
        return None

    def run(self, signals: Signals) -> Outcome:
        """Run attempts until one needs no restart."""
        begin = time.monotonic()
        with guarded(self._plan.run_id, lambda: self._attempt) as (watchdog, foreign_children):

            def attempt(number: int) -> Result:
                plan = _numbered(self._plan, self._context.folder.earlier + number)
                self._attempt = Attempt(replace(self._context, plan=plan), signals, watchdog, number)
                return self._attempt.run(foreign_children, self._limits)

            last = in_turn(self._context, attempt, lambda number: self._wait(signals, number))
        return self._outcome(last.result, last.attempts, last.why, time.monotonic() - begin)

    def _wait(self, signals: Signals, number: int) -> str:
        """Wait before restart `number`; return why there is none, "" when there is one."""
        from launcher.supervision import restart_policy

        def sleep(seconds: float) -> bool:
            return self._sleep(signals, seconds)

        if not sleep(restart_policy.back_off(number)):
            return "interrupted"
        busy = self._busy or restart_policy.device_holders
        holder = restart_policy.wait_until_free(self._plan, busy, sleep, time.monotonic)
        return f"a device is still in use: {holder}" if holder not in ("", "interrupted") else holder

    def _sleep(self, signals: Signals, seconds: float) -> bool:
        """Wait; return False when a signal came that ends the run."""
        end = time.monotonic() + seconds
        while True:
            ending = [number for number in signals.take() if number in ENDING]
            if ending:
                self._interrupted = ending[0]
                return False
            left = end - time.monotonic()
            if left <= 0:
                return True
            select.select([signals.descriptor], [], [], left)

    def _outcome(self, result: Result, attempts: int, why: str, seconds: float) -> Outcome:
        return outcome_of(self._context, result, attempts, why, seconds, self._interrupted)


def outcome_of(
    context: RunContext, result: Result, attempts: int, why: str, seconds: float, interrupted: int
) -> Outcome:
    """Return the outcome of a run by its last attempt; why: there is no other. interrupted: between two."""
    signal = interrupted or (result.interrupted if result.culprit is None else 0)
    if signal:
        text = f"ended by {name(signal)} after {seconds:.1f} s"
        return Outcome(128 + signal, result.ends, None, text, attempts, seconds)
    culprit = result.culprit
    if culprit is None:
        return Outcome(0, result.ends, None, "", attempts, seconds)
    from launcher.ui.report import headline, report

    text = headline(culprit)
    with context.events.surviving("the report"):
        text = report(context.folder, result.ends, culprit, result.snapshot)
    if why:
        text += f"\n  not started again: {why}"
    return Outcome(exit_code_of(result.ends, culprit), result.ends, culprit.rank, text, attempts, seconds)


def _numbered(plan: Plan, attempt: int) -> Plan:
    """Set the number of the attempt in the environment of every rank."""
    return plan.each(lambda spec: replace(spec, env=environment.of_attempt(spec.env, attempt)))
