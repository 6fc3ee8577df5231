"""Make the folder of a run, with everything that is known before the start."""

from __future__ import annotations

import os
from contextlib import suppress
from pathlib import Path

from launcher.config.job import to_yaml
from launcher.errors import UsageError
from launcher.plan.planner import PlannedJob
from launcher.run_dir import RunDir, remove_on_error, write_atomic


def create(planned: PlannedJob) -> RunDir:
    """Make the run folder: plan, rank table, job; let `latest` name it.

    Raises:
        UsageError: it cannot be made.
    """
    plan = planned.plan
    path = Path(plan.run_dir)
    try:
        run = RunDir.create(path, [spec.rank for spec in plan.local_ranks])
        with remove_on_error(path):
            write_atomic(run.plan, (plan.to_json(masked=True) + "\n").encode())
            write_atomic(run.rank_table, plan.rank_table_json.encode())
            write_atomic(run.job_yaml, to_yaml(planned.config).encode())
    except OSError as error:
        raise UsageError(f"runs_dir: {plan.run_dir}: {error.strerror}") from None
    point_latest(run.path)
    return run


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
