"""Make the folder of a run, with everything that is known before the start."""

from __future__ import annotations

import os
import re
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import Iterable, Sequence

from launcher import foreign
from launcher.config.job import JobConfig, as_typed, to_yaml
from launcher.errors import ReadError, UsageError
from launcher.plan.model import Plan
from launcher.plan.planner import PlannedJob
from launcher.process import procfs
from launcher.run_dir import RunDir, remove_on_error, write_atomic
from launcher.runs import launcher_record
from launcher.runs.submitted import is_submitted

LARGEST_EVENTS = 1 << 28  # bytes of events.jsonl


def create(planned: PlannedJob) -> RunDir:
    """Make the run folder: plan, rank table, job; let `latest` name it.

    With `run_id`, a run that has ended goes on in its folder.

    Raises:
        UsageError: it cannot be made.
    """
    plan = planned.plan
    path = Path(plan.run_dir)
    ranks = [spec.rank for spec in plan.local_processes]
    goes_on = bool(planned.config.run_id) and os.path.lexists(str(path))
    try:
        run = reopened(path, ranks) if goes_on else RunDir.create(path, ranks)
        with ExitStack() as undo:
            if not goes_on:
                undo.enter_context(remove_on_error(path))
            write_atomic(run.plan, (plan.to_json(masked=True) + "\n").encode())
            write_atomic(run.rank_table, plan.rank_table_json.encode())
            write_atomic(run.job_yaml, to_yaml(as_typed(planned.config, planned.command)).encode())
    except OSError as error:
        raise UsageError(f"runs_dir: {plan.run_dir}: {error.strerror}") from None
    point_latest(run.path)
    return run


def begin(path: Path, config: JobConfig, table: str, command: Sequence[str] = ()) -> RunDir:
    """Make the folder of a run on several hosts, before its plan is known. UsageError: it cannot be made."""
    try:
        goes_on = bool(config.run_id) and os.path.lexists(str(path))
        run = reopened(path, ()) if goes_on else RunDir.create(path, ())
        write_atomic(run.rank_table, table.encode())
        write_atomic(run.job_yaml, to_yaml(as_typed(config, command)).encode())
    except OSError as error:
        raise UsageError(f"runs_dir: {path}: {error.strerror}") from None
    return run


def complete(run: RunDir, plan: Plan, hosts: object) -> None:
    """Write the plan of a run on several hosts; let `latest` name it. UsageError: it cannot be written."""
    try:
        write_atomic(run.plan, (plan.to_json(masked=True) + "\n").encode())
        run.write_json(run.path / "hosts.json", hosts)
    except OSError as error:
        raise UsageError(f"runs_dir: {run.path}: {error.strerror}") from None
    point_latest(run.path)


def reopened(path: Path, ranks: Iterable[int]) -> RunDir:
    """Return the folder of a run that is to go on, without the end it had. UsageError: it still runs."""
    name, owner = path.name, os.stat(str(path)).st_uid
    if owner != os.geteuid():
        raise UsageError(f"run_id: {name} belongs to user {procfs.user_name(owner)}; give another run_id")
    launcher = launcher_record.find(RunDir(path))
    if launcher.process:
        raise UsageError(f"run_id: {name} is running; give another run_id, or end it: npu-launch stop {path}")
    ended = os.path.lexists(str(path / "result.json")) or is_submitted(path)
    if launcher.where and not ended:
        raise UsageError(
            f"run_id: {name} may still run {launcher.where}; stop it there, or remove launcher.json"
        )
    run = RunDir.reopen(path, ranks)
    for end in (run.result, run.report):
        with suppress(FileNotFoundError):
            os.unlink(str(end))
    run.earlier = _attempts(run)
    return run


def _attempts(run: RunDir) -> int:
    """Count the attempts that events.jsonl tells of."""
    try:
        data = foreign.read_bytes(run.events, LARGEST_EVENTS)
    except ReadError:
        return 0
    return len(re.findall(rb'"event": "(?:run|restart)"', data))


def point_latest(path: Path) -> None:
    """Let runs/latest name a run; a file or folder of the user's under that name stays."""
    link = path.parent / "latest"
    if os.path.lexists(str(link)) and not link.is_symlink():
        return
    fresh = path.parent / f".latest.{os.getpid()}"
    with suppress(OSError):
        fresh.symlink_to(path.name)
        with remove_on_error(fresh):
            os.replace(str(fresh), str(link))
