"""Run a plan: attempts, restarts, and the outcome. Nothing that ranks do raises here."""

from __future__ import annotations

import os
import resource
import select
import threading
import time
import traceback
from contextlib import suppress
from dataclasses import replace

from launcher.diagnosis.failure import Outcome, exit_code_of
from launcher.errors import LauncherError
from launcher.plan.model import Plan
from launcher.process import procfs, spawn, sweep
from launcher.process.signals import ENDING, Signals, name
from launcher.process.watchdog import Guardian
from launcher.run_dir import RunDir
from launcher.supervision.attempt import Attempt, Result
from launcher.supervision.events import Journal
from launcher.supervision.restart_policy import Busy, Failure, back_off, npu_busy, refusal, until_free
from launcher.ui.console import Console
from launcher.ui.report import headline, report

BUG = LauncherError.exit_code
RESERVED = 1 << 18  # bytes


def supervise(plan: Plan, run: RunDir, console: Console, busy: Busy | None = None) -> Outcome:
    """Run every attempt of a plan in the main thread; end with no process of it left.

    `busy` names who still uses a device of the plan; a restart waits until it gives "".
    """
    begin = time.monotonic()
    if threading.current_thread() is not threading.main_thread():
        # PDEATHSIG would kill the ranks as soon as this thread ends, and signals reach the main thread only.
        raise LauncherError("supervise() must be called in the main thread")
    with Signals() as watched:  # before anything is written, so that a signal leaves nothing half done
        return _supervise(plan, run, console, busy, watched, begin)


def _supervise(
    plan: Plan, run: RunDir, console: Console, busy: Busy | None, watched: Signals, begin: float
) -> Outcome:
    reserve = Reserve(run)
    journal = Journal(run, console)
    journal.event("run", pid=os.getpid(), start=procfs.start_of(os.getpid()), run_id=plan.run_id)
    limits = spawn.raise_descriptor_limit()
    try:
        outcome = _Supervisor(plan, run, console, journal, busy, limits).run(watched)
    except LauncherError as error:
        outcome = Outcome(error.exit_code, (), None, str(error), 1, time.monotonic() - begin)
    except OSError as error:
        hint = error.filename or "see ulimit -n, ulimit -u and the free memory"
        text = f"cannot run: {error.strerror} ({hint})"
        journal.note(traceback.format_exc())
        outcome = Outcome(BUG, (), None, text, 1, time.monotonic() - begin)
    except Exception as error:
        journal.note(traceback.format_exc())
        text = f"{type(error).__name__}: {error}; this is a bug of npu-launch, see {run.launcher_log}"
        outcome = Outcome(BUG, (), None, text, 1, time.monotonic() - begin)
    finally:
        with suppress(OSError, ValueError):
            resource.setrlimit(resource.RLIMIT_NOFILE, limits)
        reserve.release()
    journal.event("end", exit_code=outcome.exit_code, culprit=outcome.culprit)
    journal.close()
    return outcome


class Reserve:
    """Keep some room on the disk, so that a full one still takes the result and the report."""

    def __init__(self, run: RunDir) -> None:
        self._path = str(run.path / ".reserve")
        with suppress(OSError):
            with open(self._path, "wb") as stream:
                os.posix_fallocate(stream.fileno(), 0, RESERVED)

    def release(self) -> None:
        """Give the room back."""
        with suppress(OSError):
            os.unlink(self._path)


class _Supervisor:
    """Hold what all attempts of a run share."""

    def __init__(
        self,
        plan: Plan,
        run: RunDir,
        console: Console,
        journal: Journal,
        busy: Busy | None,
        limits: tuple[int, int],
    ) -> None:
        self._plan, self._run, self._console, self._journal = plan, run, console, journal
        self._busy = busy or (npu_busy if plan.backend == "npu" else lambda plan: "")
        self._limits = limits
        self._interrupted = 0

    def run(self, watched: Signals) -> Outcome:
        """Run attempts until one needs no other."""
        begin = time.monotonic()
        spawn.become_subreaper()
        spared = frozenset(procfs.descendants([os.getpid()], procfs.processes()))
        guardian = Guardian(self._plan.run_id)
        try:
            result, attempts, why = self._attempts(watched, guardian, spared | {guardian.pid})
        except BaseException:  # whatever went wrong here, no process stays behind
            without = spared | {guardian.pid}
            sweep.freeze_and_kill(sweep.Trace(self._plan.run_id, top=os.getpid(), without=without))
            raise
        finally:
            guardian.dismiss()
        return self._outcome(result, attempts, why, time.monotonic() - begin)

    def _attempts(
        self, watched: Signals, guardian: Guardian, spared: frozenset[int]
    ) -> tuple[Result, int, str]:
        failures: list[Failure] = []
        while True:
            number = len(failures)
            plan = _numbered(self._plan, number)
            attempt = Attempt(plan, self._run, self._console, self._journal, watched, guardian, number)
            result = attempt.run(spared, self._limits)
            if result.interrupted or result.culprit is None:
                return result, number + 1, ""
            failures.append(Failure(result.ends, result.culprit, result.seconds))
            why = refusal(plan.policy, failures) or self._wait(watched, result, len(failures))
            if why:
                return result, number + 1, why if plan.policy.max_restarts else ""

    def _wait(self, watched: Signals, result: Result, number: int) -> str:
        """Wait before a restart; return why there is none, "" when there is."""
        self._journal.event("restart", attempt=number)
        what = headline(result.culprit) if result.culprit else ""
        self._journal.say(f"{what}; restart {number} of {self._plan.policy.max_restarts}")

        def sleep(seconds: float) -> bool:
            return self._sleep(watched, seconds)

        if not sleep(back_off(number)):
            return "interrupted"
        holder = until_free(self._plan, self._busy, sleep, time.monotonic, killed=True)
        return f"a device is still in use: {holder}" if holder not in ("", "interrupted") else holder

    def _sleep(self, watched: Signals, seconds: float) -> bool:
        """Wait; tell whether the run may go on: no signal has come to end it."""
        end = time.monotonic() + seconds
        while True:
            ending = [number for number in watched.take() if number in ENDING]
            if ending:
                self._interrupted = ending[0]
                return False
            left = end - time.monotonic()
            if left <= 0:
                return True
            select.select([watched.descriptor], [], [], left)

    def _outcome(self, result: Result, attempts: int, why: str, seconds: float) -> Outcome:
        signal = result.interrupted or self._interrupted
        if signal:
            text = f"ended by {name(signal)} after {seconds:.1f} s"
            return Outcome(128 + signal, result.ends, None, text, attempts, seconds)
        culprit = result.culprit
        if culprit is None:
            return Outcome(0, result.ends, None, "", attempts, seconds)
        text = report(self._run, result.ends, culprit, result.calls)
        if why:
            text += f"\n  not started again: {why}"
        return Outcome(exit_code_of(result.ends, culprit), result.ends, culprit.rank, text, attempts, seconds)


def _numbered(plan: Plan, attempt: int) -> Plan:
    """Tell the ranks of a plan which attempt they belong to."""
    ranks = tuple(replace(spec, env=dict(spec.env, NPU_LAUNCH_ATTEMPT=str(attempt))) for spec in plan.ranks)
    return replace(plan, ranks=ranks)
