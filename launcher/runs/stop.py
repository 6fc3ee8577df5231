"""End a run from another terminal: signal its launcher, or kill what a dead launcher left."""

from __future__ import annotations

import os
import signal
import time
from contextlib import suppress

from launcher.errors import LauncherError, UsageError
from launcher.plan.model import Policy
from launcher.process import procfs, sweep
from launcher.run_dir import RunDir
from launcher.runs import registry

_POLL = 0.05


def stop(run: RunDir, now: bool = False, timeout: float = 0.0) -> str:
    """End a run and wait until no process of it is left; return what was done.

    Raises:
        UsageError: the run belongs to another host or user. LauncherError: it is still running after
        `timeout` seconds (0: its grace period plus 10 s).
    """
    name = run.path.name
    host = registry.read_json(run.path / "launcher.json").get("host")
    if host and host != os.uname().nodename and not run.result.exists():
        raise UsageError(f"{name} is running on host {host}; stop it there")
    launcher = registry.launcher_of(run)
    if launcher is not None:
        _ask(run, launcher, now)
        _wait(run, launcher, now, timeout or _grace(run) + 10)
        return f"{name}: stopped"
    swept = sweep.freeze_and_kill(sweep.ProcessMatcher(registry.run_id(run)))
    if swept:
        return f"{name}: its launcher is dead; killed {len(swept)} process(es) that it left"
    return f"{name}: no process of it is running"


def _ask(run: RunDir, launcher: procfs.Identity, now: bool) -> None:
    """Send SIGTERM, or Ctrl-C twice for an end without grace.

    A launcher that a script started with `&` ignores Ctrl-C: it gets SIGTERM, and its ranks are killed here.
    """
    ignores_interrupt = procfs.ignores(launcher.pid, signal.SIGINT)
    try:
        os.kill(launcher.pid, signal.SIGINT if now and not ignores_interrupt else signal.SIGTERM)
        os.kill(launcher.pid, signal.SIGCONT)  # it may have been stopped by Ctrl-Z
    except PermissionError:
        raise UsageError(f"{procfs.describe(launcher.pid)}; only that user or root can stop it") from None
    except ProcessLookupError:
        return
    if now:
        time.sleep(0.2)  # two at once would be one
        pids = list(registry.rank_pids(run).values()) if ignores_interrupt else [launcher.pid]
        for pid in pids:
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL if ignores_interrupt else signal.SIGINT)


def _grace(run: RunDir) -> float:
    plan = registry.known_plan(run)
    return (plan.policy if plan else Policy()).grace


def _wait(run: RunDir, launcher: procfs.Identity, now: bool, timeout: float) -> None:
    end = time.monotonic() + timeout
    run_id = registry.run_id(run)
    while procfs.alive(launcher) or sweep.members(run_id):
        if time.monotonic() > end:
            todo = f"kill -9 {launcher.pid} ends it and its ranks" if now else "--now kills at once"
            raise LauncherError(f"{run.path.name}: still running after {timeout:.0f} s; {todo}")
        time.sleep(_POLL)
