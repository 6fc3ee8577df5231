"""The environment of a rank: all that a trainer needs, and nothing that would mislead it."""

from __future__ import annotations

import os
import re
from typing import Mapping

from launcher.hccl import variables
from launcher.profiles.base import Profile, RankContext
from launcher.profiles.tensorflow import TENSORFLOW

# Families of variables that change what is computed: of HCCL, CANN, torch_npu (TASK_QUEUE_ENABLE, ...), the
# frameworks. Not those that the launcher sets for each rank, or that say where something lies.
_TELLING = re.compile(
    r"(?:HCCL|ASCEND|NPU|GE|INF_NAN_MODE|TASK_QUEUE|COMBINED|TF|PYTORCH|TORCH|MS|FLAGS|OMP|KMP|MKL|CUDA|NCCL"
    r"|ATB|LCCL|XLA|CUBLAS|TORCHINDUCTOR|TORCHDYNAMO)_\w+"
    "|CLOSE_MATMUL_K_SHIFT|NVIDIA_TF32_OVERRIDE|PYTHONHASHSEED"
)
_OWN = re.compile(
    r"NPU_LAUNCH_\w+|ASCEND_(?:DEVICE_ID|RT_VISIBLE_DEVICES)|TF_CONFIG|FLAGS_selected_\w+"
    r"|\w+_(?:PATH|HOME|DIR|FILE)"
)


def is_telling(name: str, profile: Profile = TENSORFLOW) -> bool:
    """Tell whether a variable of a rank changes what it computes, and is the shell's or the job's."""
    return bool(_TELLING.fullmatch(name)) and not _OWN.fullmatch(name) and not profile.removes(name)


def inherited(outer: Mapping[str, str], profile: Profile = TENSORFLOW) -> dict[str, str]:
    """Return what a rank keeps of the launcher's own environment."""
    return {
        name: value
        for name, value in outer.items()
        if not profile.removes(name) and not name.startswith("NPU_LAUNCH_")
    }


def of_rank(outer: Mapping[str, str], rank: RankContext, profile: Profile = TENSORFLOW) -> dict[str, str]:
    """Return the whole environment of a rank; one device gets the very same variables as eight."""
    env = inherited(outer, profile)
    if profile is not TENSORFLOW:
        env["NPU_LAUNCH_FRAMEWORK"] = profile.name
    env.update(
        RANK_TABLE_FILE=os.path.join(rank.run_dir, "rank_table.json"),
        RANK_ID=str(rank.rank),
        RANK_SIZE=str(rank.size),
        DEVICE_ID=str(rank.device_id),
        ASCEND_DEVICE_ID=str(rank.ascend_device_id),
        DEVICE_INDEX=str(rank.rank),
        LOCAL_RANK=str(rank.local_rank),
        LOCAL_SIZE=str(rank.local_size),
        ASCEND_PROCESS_LOG_PATH=os.path.join(rank.rank_dir, "plog"),
        # kernel_meta, fusion_result.json and dumps, which would otherwise go to the working directory.
        ASCEND_WORK_PATH=rank.rank_dir,
        PYTHONUNBUFFERED="1",
        NPU_LAUNCH_RUN_DIR=rank.run_dir,
        NPU_LAUNCH_RANK_DIR=rank.rank_dir,
        NPU_LAUNCH_RUN_ID=rank.run_id,
        NPU_LAUNCH_ATTEMPT="0",
        NPU_LAUNCH_BACKEND=rank.backend,
        NPU_LAUNCH_CWD=rank.launch_dir,
    )
    env = {**profile.defaults, **env, **profile.variables(rank)}
    env.setdefault("HCCL_CONNECT_TIMEOUT", "600")
    env.setdefault("OMP_NUM_THREADS", str(rank.threads))
    if env.get("DUMP_GE_GRAPH"):
        env.setdefault("DUMP_GRAPH_PATH", os.path.join(rank.rank_dir, "graphs"))
    return profile.completed(env, rank)


def of_attempt(env: Mapping[str, str], attempt: int) -> dict[str, str]:
    """Return a rank's environment with the number of the attempt, by every name that it has there."""
    named = {"NPU_LAUNCH_ATTEMPT", "TORCHELASTIC_RESTART_COUNT"} & {"NPU_LAUNCH_ATTEMPT", *env}
    return {**env, **dict.fromkeys(named, str(attempt))}


def review(
    env: Mapping[str, str],
    backend: str,
    chip: str = "",
    profile: Profile = TENSORFLOW,
    *,
    bound: bool = False,
) -> tuple[list[tuple[str, str]], list[str]]:
    """Check the final environment of a rank: ([(variable, error)], notes). CPU ranks read nothing of HCCL's.

    Of a variable the profile's error counts, which knows what the framework makes of it. bound: the launcher
    has chosen the cores of the rank.
    """
    found = [*profile.findings(env, chip)] if backend == "npu" or profile.meets else []
    found += variables.findings(env, chip) if backend == "npu" else ()
    if bound:
        from launcher.plan import cpu_binding

        found += cpu_binding.rivals(env)
    errors: dict[str, str] = {}
    for level, name, message in found:
        if level == variables.ERROR:
            errors.setdefault(name, message)
    notes = [f"{name}: {message}" for level, name, message in found if level == variables.NOTE]
    return list(errors.items()), notes
