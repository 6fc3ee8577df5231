"""submit.json: which job of a queue is to run a run, and what the queue says of it."""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import NamedTuple

from launcher import foreign
from launcher.errors import MissingFileError, UsageError
from launcher.run_dir import RunDir

FILE = "submit.json"


class Submitted(NamedTuple):
    """A job in a queue. engine: slurm. log: what its script prints."""

    engine: str
    job_id: str
    log: str
    time: float  # of its submission


def is_submitted(folder: Path) -> bool:
    """Tell whether a run folder is that of a job of a queue."""
    return os.path.lexists(str(folder / FILE))


def write(run: RunDir, engine: str, job_id: str, log: str) -> None:
    """Write what is known of a job that was submitted."""
    run.write_json(run.path / FILE, {"engine": engine, "job_id": job_id, "log": log, "time": time.time()})


def read(run: RunDir) -> Submitted | None:
    """Read what a run's job in a queue is; None when it has none. ReadError: the file is damaged."""
    try:
        value = foreign.read_json(run.path / FILE)
    except MissingFileError:
        return None
    job_id = value.get("job_id").text()
    if not job_id.replace("_", "").isalnum():
        value.refuse(f"job_id {job_id!r:.40}", "a number")
    return Submitted(value.get("engine").text(), job_id, value.get("log").text(), value.get("time").number())


def state(job: Submitted) -> str:
    """Return the state of a job in its queue, such as PENDING; "" when the queue does not know it."""
    if job.engine != "slurm":
        return ""
    from launcher.runs import slurm_jobs

    return slurm_jobs.state(job.job_id)


def waits_or_runs(job: Submitted) -> bool:
    """Tell whether a job has not ended, as far as its queue can be asked from here."""
    if job.engine != "slurm":
        return False
    from launcher.runs import slurm_jobs

    return not slurm_jobs.is_over(state(job))


def stop(run: RunDir, job: Submitted, now: bool, timeout: float) -> str:
    """End a job in its queue, and wait until it is gone; return what was done."""
    if job.engine != "slurm":
        raise UsageError(f"{run.path.name}: submitted to {job.engine!r:.40}; end it there")
    from launcher.runs import slurm_jobs

    return slurm_jobs.stop(run, job.job_id, now, timeout)
