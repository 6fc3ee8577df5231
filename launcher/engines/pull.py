"""Hosts that come up by themselves: pods, and the tasks of `srun npu-launch` and `mpirun npu-launch`.

Each of them starts `npu-launch` with the same words, and they meet in a folder that all of them see. Host 0
is the head; on each host, also on that one, an agent runs as a child of the process that came up.
"""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass
from typing import Mapping

from launcher.errors import UsageError


@dataclass(frozen=True)
class Member:
    """One of these processes. key: the same for all of one run, and for no other."""

    index: int
    names: tuple[str, ...]  # of all hosts, as far as they are known before they have come
    key: str
    run_id: str = ""  # "": the head chooses it
    job_id: str = ""
    engine: str = "kubernetes"


def member(environ: Mapping[str, str]) -> Member | None:
    """Tell which of several processes this is; None: there is this one only.

    Raises:
        UsageError: several of them on one host, or no telling them apart.
    """
    if environ.get("NPU_LAUNCH_RUN_DIR"):  # a rank that starts a launcher of its own
        return None
    # mpirun before Slurm, of which its processes have variables too: of the job that mpirun runs in.
    return _pod(environ) or _mpi_process(environ) or _slurm_task(environ)


def _pod(environ: Mapping[str, str]) -> Member | None:
    """Find out which pod this is, as the manifests of launcher/submit/kubernetes.py have them."""
    count, run_id = environ.get("NPU_LAUNCH_HOST_COUNT", ""), environ.get("NPU_LAUNCH_JOB", "")
    if not count.isdigit() or int(count) < 2 or not run_id:
        return None
    index, pattern = _pod_index(environ)
    names = [pattern.format(run_id, number) for number in range(int(count))]
    if pattern == _ASCENDJOB:
        leader = _LEADERS.search(environ.get("NPU_LAUNCH_POD", ""))
        names = [run_id + (leader.group() if leader else "-chief-0"), *names[:-1]]
    if not 0 <= index < int(count):
        raise UsageError(
            f"NPU_LAUNCH_HOST_COUNT={count}, but this is host {index} (expected less than {count})"
        )
    life = environ.get("NPU_LAUNCH_LIFE", "")  # a job that is created again goes on in its run folder
    life += environ.get("NPU_LAUNCH_TRY", "")
    return Member(index, tuple(names), f"{run_id}-{_short(life)}" if life else run_id, run_id)


_INDEXED, _VOLCANO, _ASCENDJOB = "{}-{}", "{}-host-{}", "{}-worker-{}"
_LEADERS = re.compile(r"-(?:chief|master|scheduler)-0\Z")
_WORKER = re.compile(r"-worker-(\d+)\Z")


def _pod_index(environ: Mapping[str, str]) -> tuple[int, str]:
    """Return a pod's index, and how the pods are named: of an indexed Job, Volcano's Job or AscendJob."""
    pod = environ.get("NPU_LAUNCH_POD", "")
    completion = environ.get("JOB_COMPLETION_INDEX", "")
    task = environ.get("VC_TASK_INDEX") or environ.get("VK_TASK_INDEX") or ""
    if completion.isdigit():
        return int(completion), _INDEXED
    if _LEADERS.search(pod):
        return 0, _ASCENDJOB
    if task.isdigit():
        offset = environ.get("NPU_LAUNCH_HOST_OFFSET", "0")
        return int(task) + (int(offset) if offset.isdigit() else 0), _VOLCANO
    worker = _WORKER.search(pod)
    if worker:
        return int(worker.group(1)) + 1, _ASCENDJOB
    raise UsageError(
        "NPU_LAUNCH_HOST_COUNT is set, but neither JOB_COMPLETION_INDEX, VC_TASK_INDEX nor a pod's name in"
        " NPU_LAUNCH_POD tells which host this is; use the manifest of npu-launch submit"
    )


def _slurm_task(environ: Mapping[str, str]) -> Member | None:
    tasks = environ.get("SLURM_STEP_NUM_TASKS", "")
    if not tasks.isdigit() or int(tasks) < 2 or environ.get("SLURM_PTY_PORT"):
        return None  # a shell of `srun --pty` is no task among several: the others have ended
    from launcher.engines.hostlist import expand
    from launcher.engines.slurm import is_step

    if not is_step(environ):
        return None
    names = expand(environ.get("SLURM_STEP_NODELIST", ""))
    if len(names) != int(tasks):
        raise UsageError(
            f"srun has started npu-launch {tasks} times on {len(names)} nodes (expected once on each); give"
            " srun --ntasks-per-node=1, or start npu-launch without srun"
        )
    parts = [environ.get(name, "0") for name in ("SLURM_JOB_ID", "SLURM_STEP_ID", "SLURM_RESTART_COUNT")]
    key = "slurm-" + ".".join(parts)
    return Member(int(environ["SLURM_PROCID"]), names, key, job_id=environ["SLURM_JOB_ID"], engine="slurm")


def _mpi_process(environ: Mapping[str, str]) -> Member | None:
    size, space = environ.get("OMPI_COMM_WORLD_SIZE", ""), environ.get("PMIX_NAMESPACE", "")
    if not size.isdigit() or int(size) < 2 or not space:
        return None
    local = environ.get("OMPI_COMM_WORLD_LOCAL_SIZE", "1")
    if local != "1":
        raise UsageError(
            f"mpirun has started npu-launch {local} times on this host (expected once on each); give"
            " mpirun --map-by ppr:1:node, or start npu-launch without mpirun"
        )
    # The namespace is a number that comes again; the address of this mpirun hardly does.
    key = _short(space + environ.get("OMPI_MCA_orte_hnp_uri", ""))
    index, names = int(environ["OMPI_COMM_WORLD_RANK"]), [f"host {number}" for number in range(int(size))]
    return Member(index, tuple(names), f"mpi-{key}", engine="mpi")


def _short(text: str) -> str:
    return hashlib.sha256(text.encode("utf-8", "surrogateescape")).hexdigest()[:8]
