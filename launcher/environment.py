"""The environment of a rank: all that a trainer needs, and nothing that would mislead it."""

from __future__ import annotations

import os
from typing import Dict, Mapping

# Both families together make every process train alone, silently: the TF adapter then uses neither.
REMOVED = ("POD_NAME", "TF_CONFIG", "RESTORE_FROM", "LOCAL_CHECKPOINT_DIR")
REMOVED_PREFIXES = ("CM_", "NPU_LAUNCH_")


def inherited(environ: Mapping[str, str]) -> Dict[str, str]:
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
) -> Dict[str, str]:
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
        JOB_ID=run_id,
        ASCEND_PROCESS_LOG_PATH=os.path.join(rank_dir, "plog"),
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
    return env
