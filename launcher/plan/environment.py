"""The environment of a rank: all that a trainer needs, and nothing that would mislead it."""

from __future__ import annotations

import ipaddress
import os
import re
import zlib
from typing import Iterator, Mapping

from launcher.hccl import variables

# With both families of variables the adapter logs an error, uses neither, and every process trains alone.
REMOVED = ("POD_NAME", "TF_CONFIG", "RESTORE_FROM", "LOCAL_CHECKPOINT_DIR", "AOE_MODE", "HELP_CLUSTER")
REMOVED_PREFIXES = ("CM_", "NPU_LAUNCH_")
TABLE_FAMILY = ("RANK_TABLE_FILE", "RANK_ID", "RANK_SIZE")
# Of a shell these are removed; a job may set them under `env`, and is told what the adapter makes of them.
ASKED_FOR = {
    "AOE_MODE": "set: the adapter starts a tuning job beside the training; give iterations_per_loop=1, as "
    "with it older adapters make one step a call",
    "HELP_CLUSTER": "set: the adapter turns HCCL on even where it finds no rank table",
}
FREE_CHIPS = ("", "910A", "A2")  # rank-table-free mode: Atlas training and A2 alone
_JOB_ID = re.compile(r"[A-Za-z0-9_-]+\Z")


def inherited(environ: Mapping[str, str]) -> dict[str, str]:
    """Give what a rank keeps of the launcher's own environment."""
    return {
        name: value
        for name, value in environ.items()
        if name not in REMOVED and not name.startswith(REMOVED_PREFIXES)
    }


def of_rank(
    outer: Mapping[str, str],
    *,
    rank: int,
    size: int,
    local_rank: int,
    local_size: int,
    device_id: int,
    ascend_device_id: int,
    run_dir: str,
    run_id: str,
    backend: str,
    threads: int,
    launch_dir: str,
) -> dict[str, str]:
    """Give the whole environment of a rank; one device gets the very same variables as eight."""
    rank_dir = os.path.join(run_dir, "ranks", str(rank))
    env = inherited(outer)
    env.update(
        RANK_TABLE_FILE=os.path.join(run_dir, "rank_table.json"),
        RANK_ID=str(rank),
        RANK_SIZE=str(size),
        DEVICE_ID=str(device_id),
        ASCEND_DEVICE_ID=str(ascend_device_id),
        DEVICE_INDEX=str(rank),
        LOCAL_RANK=str(local_rank),
        LOCAL_SIZE=str(local_size),
        JOB_ID=job_id(run_id),
        ASCEND_PROCESS_LOG_PATH=os.path.join(rank_dir, "plog"),
        # kernel_meta, fusion_result.json and dumps, which else land in the working directory.
        ASCEND_WORK_PATH=rank_dir,
        PYTHONUNBUFFERED="1",
        NPU_LAUNCH_RUN_DIR=run_dir,
        NPU_LAUNCH_RANK_DIR=rank_dir,
        NPU_LAUNCH_RUN_ID=run_id,
        NPU_LAUNCH_ATTEMPT="0",
        NPU_LAUNCH_BACKEND=backend,
        NPU_LAUNCH_CWD=launch_dir,
    )
    env.setdefault("HCCL_CONNECT_TIMEOUT", "600")
    env.setdefault("OMP_NUM_THREADS", str(threads))
    if env.get("DUMP_GE_GRAPH"):
        env.setdefault("DUMP_GRAPH_PATH", os.path.join(rank_dir, "graphs"))
    return env


def without_rank_table(
    env: Mapping[str, str], *, chief_ip: str, chief_device: int, worker_ip: str
) -> dict[str, str]:
    """Exchange the rank table's variables for those by which HCCL finds the ranks itself.

    TensorFlow's adapter alone knows this mode, on 910A and A2. The trainer still learns its place from the
    table, under our own names: only the adapter must not see both families.
    """
    free = {name: value for name, value in env.items() if name not in TABLE_FAMILY}
    free.update(
        CM_CHIEF_IP=chief_ip,
        CM_CHIEF_PORT=str(chief_port(env["NPU_LAUNCH_RUN_ID"])),
        CM_CHIEF_DEVICE=str(chief_device),
        CM_WORKER_SIZE=env["RANK_SIZE"],
        CM_WORKER_IP=worker_ip,
        NPU_LAUNCH_RANK_TABLE=env["RANK_TABLE_FILE"],
        NPU_LAUNCH_RANK=env["RANK_ID"],
    )
    return free


def chief_port(run_id: str) -> int:
    """Choose a port of 61000 to 64999, the same on all hosts of a run, seldom that of another run."""
    return 61000 + zlib.crc32(run_id.encode()) % 4000


def job_id(text: str) -> str:
    """Make a JOB_ID that the adapter takes: letters, digits, - and _; not digits alone with a leading 0."""
    cleaned = re.sub(r"[^A-Za-z0-9_-]", "-", text) or "job"
    return "job-" + cleaned if re.match(r"0\d*\Z", cleaned) else cleaned


def review(env: Mapping[str, str], backend: str, chip: str = "") -> tuple[list[tuple[str, str]], list[str]]:
    """Look over the final environment of a rank: ([(variable, error)], notes). CPU ranks read none of it."""
    if backend != "npu":
        return [], []
    found = [*_families(env, chip), *_identity(env), *_asked_for(env), *variables.findings(env, chip)]
    errors = [(name, message) for level, name, message in found if level == variables.ERROR]
    return errors, [f"{name}: {message}" for level, name, message in found if level == variables.NOTE]


def _families(env: Mapping[str, str], chip: str) -> Iterator[tuple[str, str, str]]:
    free = sorted(name for name in env if name.startswith("CM_"))
    table = [name for name in TABLE_FAMILY if name in env]
    if free and table:
        yield (
            variables.ERROR,
            free[0],
            (
                f"set beside {table[0]}: the adapter would use neither, and every process train alone; "
                "remove it, or set rank_table_free: true"
            ),
        )
        return
    if not free:
        return
    if chip not in FREE_CHIPS:
        yield variables.ERROR, "rank_table_free", f"{chip} has no such mode; only 910A and A2 have"
    for name in ("CM_CHIEF_IP", "CM_WORKER_IP"):
        if not _is_address(env.get(name, "")):
            text = "%r is no IP address; give the host's address as server_id in the inventory file"
            yield variables.ERROR, name, text % env.get(name, "")
    for name, high in (("CM_CHIEF_PORT", 65520), ("CM_WORKER_SIZE", 32768)):
        problem = variables.whole(0, high)(env.get(name, ""))
        if problem:
            yield variables.ERROR, name, "{!r}; {}".format(env.get(name, ""), problem)


def _identity(env: Mapping[str, str]) -> Iterator[tuple[str, str, str]]:
    value = env.get("JOB_ID", "")
    if not _JOB_ID.match(value) or re.match(r"0\d*\Z", value):
        yield variables.ERROR, "JOB_ID", f"{value!r}; give letters, digits, - and _, not digits after a 0"
    if env.get("POD_NAME") and "RANK_TABLE_FILE" in env:
        yield (
            variables.ERROR,
            "POD_NAME",
            "set: the adapter would look for a pod instead of RANK_ID; remove it",
        )
    value = env.get("ASCEND_DEVICE_ID", "")
    if not value.isdigit():
        yield variables.ERROR, "ASCEND_DEVICE_ID", f"{value!r} is no logical device; the launcher sets it"


def _asked_for(env: Mapping[str, str]) -> Iterator[tuple[str, str, str]]:
    for name, effect in ASKED_FOR.items():
        if name in env:
            yield variables.NOTE, name, effect


def _is_address(text: str) -> bool:
    try:
        ipaddress.ip_address(text)
    except ValueError:
        return False
    return True
