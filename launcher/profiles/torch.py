"""What PyTorch's ranks read, on CPU (gloo) and with torch_npu (HCCL): the family that torchrun sets.

Names and values: torch/distributed/elastic/agent/server/local_elastic_agent.py and torch/distributed/run.py.
"""

from __future__ import annotations

import os
from types import MappingProxyType
from typing import Iterator, Mapping

from launcher.hccl import variables
from launcher.profiles.base import TORCH_NAMES, TORCH_PREFIXES, Profile, RankContext, VariableFinding
from launcher.run_dir import TORCH_ERROR
from rank_table.sources.visible import MOST, RT_VISIBLE, parse_rt_visible


class TorchProfile(Profile):
    """The needs of a rank that trains with PyTorch."""

    name = "torch"
    meets = True
    uses_gloo = True
    meeting_ports = ("MASTER_PORT",)
    table_optional = True  # torch_npu connects by it where it can be read, else by what the store passes on
    passes_over_links = "torch_npu"  # checkFilePathReadable in ProcessGroupHCCL.cpp
    lists_devices = True
    numbers = (
        "RANK", "WORLD_SIZE", "LOCAL_RANK", "LOCAL_WORLD_SIZE", "GROUP_RANK", "GROUP_WORLD_SIZE",
        "ROLE_RANK", "ROLE_WORLD_SIZE",
    )  # fmt: skip
    defaults = MappingProxyType({"TORCH_NCCL_ASYNC_ERROR_HANDLING": "1"})  # as torchrun does
    removed = (*TORCH_NAMES, "TF_CONFIG", "POD_NAME")
    # What Lightning, Accelerate and others take for another launcher: MindSpore's, Paddle's, Slurm's, MPI's.
    removed_prefixes = (
        *TORCH_PREFIXES, "CM_", "MS_", "PADDLE_", "OMPI_", "PMI_", "PMIX_", "SLURM_PROCID", "SLURM_LOCALID",
        "SLURM_NODEID", "SLURM_NTASKS", "SLURM_STEP_NUM_TASKS",
    )  # fmt: skip

    def variables(self, context: RankContext) -> dict[str, str]:
        """Return torchrun's variables, and on NPUs the devices of this host in the order of its ranks.

        Programs call torch.npu.set_device(LOCAL_RANK), an index into them; so must be ASCEND_DEVICE_ID then.
        TORCHELASTIC_USE_AGENT_STORE is not among them: with True rank 0 would not open the store, and all
        ranks would wait for an agent that is not there (torch/distributed/rendezvous.py).
        """
        made = {
            "MASTER_ADDR": context.meeting.address,
            "MASTER_PORT": str(context.meeting.port),
            "RANK": str(context.rank),
            "WORLD_SIZE": str(context.size),
            "LOCAL_WORLD_SIZE": str(context.local_size),
            "GROUP_RANK": str(context.host),
            "GROUP_WORLD_SIZE": str(context.hosts),
            "ROLE_RANK": str(context.rank),
            "ROLE_WORLD_SIZE": str(context.size),
            "ROLE_NAME": "default",
            "TORCHELASTIC_RUN_ID": context.run_id,
            "TORCHELASTIC_RESTART_COUNT": "0",
            "TORCHELASTIC_MAX_RESTARTS": str(context.max_restarts),
            "TORCHELASTIC_ERROR_FILE": os.path.join(context.rank_dir, TORCH_ERROR),
        }
        if context.backend == "npu":
            made[RT_VISIBLE] = ",".join(map(str, context.visible))
            made["ASCEND_DEVICE_ID"] = str(context.local_rank)
        return made

    def findings(self, env: Mapping[str, str], chip: str) -> Iterator[VariableFinding]:
        """Yield what makes ranks wait for ever, and devices that LOCAL_RANK does not count as CANN does."""
        agent = "TORCHELASTIC_USE_AGENT_STORE"
        if env.get(agent) == "True":
            yield variables.ERROR, agent, "True: the ranks would wait for torchrun's own store; remove it"
        yield from variables.refused(env, "MASTER_PORT", variables.whole(1, 65535))
        if RT_VISIBLE in env and env["NPU_LAUNCH_BACKEND"] == "npu":
            yield from _devices(env[RT_VISIBLE], env["LOCAL_SIZE"])


def _devices(text: str, size: str) -> Iterator[VariableFinding]:
    ids, problem = parse_rt_visible(text, MOST)
    if problem:
        told = f"{text!r} (expected ascending ids, in which LOCAL_RANK is an index)"
        yield variables.ERROR, RT_VISIBLE, f"{told}; list devices in ascending order"
    elif size.isdigit() and len(ids) < int(size):
        what = f"{text}: hides devices; torch.npu.set_device(LOCAL_RANK) fails where LOCAL_RANK is higher"
        yield variables.NOTE, RT_VISIBLE, what


TORCH = TorchProfile()
