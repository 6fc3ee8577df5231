"""Jobs in Slurm's queue: their state, and how they are ended.

`squeue --json` changes its shape between versions, so the words of `-o` and of `scontrol show job` are read;
squeue forgets a job after MinJobAge, 300 s, and sacct needs a database that many sites lack.
"""

from __future__ import annotations

import re
import subprocess
import time
from typing import Sequence

from launcher.errors import LauncherError
from launcher.run_dir import RunDir

OVER = frozenset(
    "BOOT_FAIL CANCELLED COMPLETED DEADLINE FAILED NODE_FAIL OUT_OF_MEMORY PREEMPTED REVOKED TIMEOUT".split()
)
PATIENCE = 10.0  # seconds for an answer
POLL = 0.5


def state(job_id: str) -> str:
    """Return the state of a job, such as PENDING (Resources); "" when Slurm does not know it any more."""
    words = _ask(["squeue", "--noheader", "--states=all", f"--jobs={job_id}", "--format=%T|%r"]).split("\n")[
        0
    ]
    if not words.strip():
        found = re.search(r"JobState=(\S+) Reason=(\S+)", _ask(["scontrol", "show", "job", job_id]))
        words = "|".join(found.groups()) if found else ""
    name, _, reason = words.strip().partition("|")
    return f"{name} ({reason})" if name == "PENDING" and reason not in ("", "None") else name


def is_over(text: str) -> bool:
    """Tell whether a job in this state will not run any more, or is not known."""
    return not text or text.split()[0] in OVER


def stop(run: RunDir, job_id: str, now: bool, timeout: float) -> str:
    """End a job: one that waits is cancelled, one that runs ends with the grace period of its ranks.

    Its script passes SIGTERM on to npu-launch. With `now` Slurm sends SIGTERM, and SIGKILL after KillWait.
    """
    name, before = run.path.name, state(job_id)
    if is_over(before):
        return f"{name}: job {job_id} is over" + (f" ({before})" if before else "")
    running = before in ("RUNNING", "SUSPENDED")
    _ask(["scancel", *(("--batch", "--signal=TERM") if running and not now else ()), job_id])
    end = time.monotonic() + timeout
    while not is_over(state(job_id)):
        if time.monotonic() > end:
            todo = "--now ends it through Slurm" if not now else f"see scontrol show job {job_id}"
            raise LauncherError(
                f"{name}: job {job_id} is still {state(job_id)} after {timeout:.0f} s; {todo}"
            )
        time.sleep(POLL)
    return f"{name}: job {job_id} {'stopped' if running else 'cancelled'}"


def _ask(command: Sequence[str]) -> str:
    """Return what a tool of Slurm prints, "" where it knows nothing. LauncherError: it does not answer."""
    try:
        done = subprocess.run(
            command, stdin=subprocess.DEVNULL, capture_output=True, timeout=PATIENCE, check=False
        )  # fmt: skip
    except OSError as error:
        raise LauncherError(f"{command[0]}: {error.strerror}; the job is in Slurm's queue") from None
    except subprocess.TimeoutExpired:
        raise LauncherError(f"{command[0]}: no answer within {PATIENCE:.0f} s; is slurmctld up?") from None
    words = done.stderr.decode(errors="replace").split("\n")
    if done.returncode and not any("Invalid job id" in line for line in words):
        last = next((line.strip() for line in reversed(words) if line.strip()), "")
        raise LauncherError(last or f"{command[0]}: exit code {done.returncode}")
    return done.stdout.decode(errors="replace")
