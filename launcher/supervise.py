"""Run a plan: attempts, restarts, and the outcome. Nothing that ranks do raises here."""

from __future__ import annotations

import os
import resource
import time
import traceback
from contextlib import suppress
from typing import Tuple

from launcher import processes, spawn
from launcher.attempt import Attempt, Result
from launcher.console import Console
from launcher.errors import LauncherError
from launcher.failure import Outcome, exit_code_of
from launcher.guardian import Guardian
from launcher.journal import Journal
from launcher.plan import Plan
from launcher.report import report
from launcher.run_dir import RunDir
from launcher.signals import Signals, name

BUG = LauncherError.exit_code


def supervise(plan: Plan, run: RunDir, console: Console) -> Outcome:
    """Run every attempt of a plan in the main thread; end with no process of it left."""
    begin = time.monotonic()
    journal = Journal(run, console)
    journal.event("run", pid=os.getpid(), start=processes.start_of(os.getpid()), run_id=plan.run_id)
    limits = spawn.raise_descriptor_limit()
    try:
        outcome = _attempts(plan, run, console, journal, limits)
    except Exception as error:
        journal.note(traceback.format_exc())
        processes.freeze_and_kill(plan.run_id)
        text = "%s: %s; this is a bug of npu-launch, see %s" % (type(error).__name__, error, run.launcher_log)
        outcome = Outcome(BUG, (), None, text, 1, time.monotonic() - begin)
    finally:
        with suppress(OSError, ValueError):
            resource.setrlimit(resource.RLIMIT_NOFILE, limits)
    journal.event("end", exit_code=outcome.exit_code, culprit=outcome.culprit)
    journal.close()
    return outcome


def _attempts(
    plan: Plan, run: RunDir, console: Console, journal: Journal, limits: Tuple[int, int]
) -> Outcome:
    begin = time.monotonic()
    spawn.become_subreaper()
    present = frozenset(processes.below(os.getpid(), processes.processes()))
    with Signals() as watched:
        guardian = Guardian(plan.run_id)
        try:
            attempt = Attempt(plan, run, console, journal, watched, 0)
            result = attempt.run(present | {guardian.pid}, limits)
        finally:
            guardian.dismiss()
    return _outcome(run, result, 1, time.monotonic() - begin)


def _outcome(run: RunDir, result: Result, attempts: int, seconds: float) -> Outcome:
    if result.interrupted:
        text = "ended by %s after %.1f s" % (name(result.interrupted), result.seconds)
        return Outcome(128 + result.interrupted, result.ends, None, text, attempts, seconds)
    culprit = result.culprit
    if culprit is None:
        return Outcome(0, result.ends, None, "", attempts, seconds)
    code = exit_code_of(result.ends, culprit)
    return Outcome(code, result.ends, culprit.rank, report(run, result.ends, culprit), attempts, seconds)
