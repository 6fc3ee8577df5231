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
from launcher.runs import launcher_record, registry, remote, submitted

_POLL = 0.05


def stop(run: RunDir, now: bool = False, timeout: float = 0.0) -> str:
    """End a run and wait until no process of it is left; return what was done.

    Raises:
        UsageError: the run belongs to another host or user. LauncherError: it is still running after
        `timeout` seconds (0: its grace period plus 10 s).
    """
    name = run.path.name
    _check_owner(run)
    launcher = launcher_record.find(run)
    job = None if launcher.process else submitted.read(run)
    if job and submitted.waits_or_runs(job):
        return submitted.stop(run, job, now, timeout or _grace(run) + 30)
    if launcher.where and _has_hosts(run) and not os.path.lexists(str(run.result)):
        return _ask_head(run, now, timeout or _grace(run) + 20)
    if launcher.where and not os.path.lexists(str(run.result)):
        raise UsageError(f"{name} is running {launcher.where}; stop it there: npu-launch stop {run.path}")
    matcher = _matcher(run)
    if launcher.process:
        _ask(run, launcher.process, now)
        _wait(run, launcher.process, now, timeout or _grace(run) + 10, matcher)
        return f"{name}: stopped" + _elsewhere(launcher)
    swept = sweep.freeze_and_kill(matcher)
    if swept:
        return f"{name}: its launcher is dead; killed {len(swept)} process(es) that it left"
    return f"{name}: no process of it is running" + _elsewhere(launcher)


def _has_hosts(run: RunDir) -> bool:
    """Tell whether this is the head's folder of a run on several hosts, seen from another one."""
    return os.path.lexists(str(run.path / "hosts.json")) and os.path.lexists(str(run.path / "plan.json"))


def _ask_head(run: RunDir, now: bool, timeout: float) -> str:
    """Ask the head, on another host, to end the run; it looks into the run folder."""
    remote.ask_to_stop(run, now)
    end = time.monotonic() + timeout
    while not os.path.lexists(str(run.result)):
        if time.monotonic() > end:
            where = launcher_record.find(run).where
            raise LauncherError(f"{run.path.name}: its head {where} has not ended it within {timeout:.0f} s")
        time.sleep(_POLL)
    return f"{run.path.name}: stopped by its head"


def _elsewhere(launcher: launcher_record.Launcher) -> str:
    """Say what this host knows besides: the head of a run of several hosts, why a record is not believed."""
    if launcher.head:
        return f" on this host; its head is on host {launcher.head:.100}"
    return f" ({launcher.problem})" if launcher.problem else ""


def _check_owner(run: RunDir) -> None:
    """Refuse the run of another user, whose files may name any process."""
    owner = os.stat(str(run.path)).st_uid
    if owner != os.geteuid():
        todo = f"as that user: npu-launch stop {run.path}"
        raise UsageError(f"{run.path.name} belongs to user {procfs.user_name(owner)}; stop it {todo}")


def _matcher(run: RunDir) -> sweep.ProcessMatcher:
    run_id, folders = registry.marks(run)
    return sweep.ProcessMatcher(run_id, folders=folders, host=registry.host_of(run))


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


def _wait(
    run: RunDir, launcher: procfs.Identity, now: bool, timeout: float, matcher: sweep.ProcessMatcher
) -> None:
    end = time.monotonic() + timeout
    while procfs.alive(launcher) or matcher.find():
        if time.monotonic() > end:
            todo = f"kill -9 {launcher.pid} ends it and its ranks" if now else "--now kills at once"
            raise LauncherError(f"{run.path.name}: still running after {timeout:.0f} s; {todo}")
        time.sleep(_POLL)
