"""What PaddlePaddle's ranks read, on CPU (gloo) and with PaddleCustomDevice (xccl): what its launcher sets.

Names and values: python/paddle/distributed/launch/controllers/collective.py, controllers/controller.py and
context/device.py. Readers: python/paddle/distributed/parallel.py (init_parallel_env) and
paddle/phi/core/distributed/store/store_utils.cc.
"""

from __future__ import annotations

from types import MappingProxyType
from typing import Iterator, Mapping

from launcher.hccl import variables
from launcher.profiles.base import TORCH_NAMES, TORCH_PREFIXES, Profile, RankContext, VariableFinding


class PaddleProfile(Profile):
    """The needs of a rank that trains with PaddlePaddle."""

    name = "paddle"
    meets = True
    uses_gloo = True
    meeting_ports = ("PADDLE_MASTER",)
    reads_table = False  # XcclCommInitRank of PaddleCustomDevice's runtime.cc: HcclCommInitRootInfo alone
    numbers = (
        "PADDLE_TRAINER_ID", "PADDLE_TRAINERS_NUM", "PADDLE_CURRENT_ENDPOINT", "PADDLE_GLOBAL_RANK",
        "PADDLE_GLOBAL_SIZE", "PADDLE_LOCAL_RANK", "PADDLE_LOCAL_SIZE", "PADDLE_RANK_IN_NODE",
        "PADDLE_NNODES",
    )  # fmt: skip
    device_index = "FLAGS_selected_npus"
    defaults = MappingProxyType({"OMP_NUM_THREADS": "1"})  # paddle/base/__init__.py: more fails with OpenBLAS
    # What another launch has left. Others of PADDLE_* are a person's settings, such as PADDLE_PG_TIMEOUT.
    removed = (
        *TORCH_NAMES, "TF_CONFIG", "PADDLE_BACKUP_ENV_PATH", "PADDLE_LOG_DIR", "PADDLE_PORT", "PADDLE_RANK",
        "PADDLE_TRAINERS", "PADDLE_TRAINING_ROLE", "PADDLE_XCCL_BACKEND", "TRAINING_ROLE",
    )  # fmt: skip
    removed_prefixes = (*TORCH_PREFIXES, "CM_", "MS_", "OMPI_")

    def variables(self, context: RankContext) -> dict[str, str]:
        """Return the numbers and endpoints of the trainers, and what they communicate through.

        Without POD_NAME auto_parallel/api.py (DistModel) would not initialise the collectives.
        """
        ends = context.meeting.endpoints
        return {
            "PADDLE_MASTER": f"{context.meeting.address}:{context.meeting.port}",
            "PADDLE_TRAINER_ID": str(context.rank),
            "PADDLE_TRAINERS_NUM": str(context.size),
            "PADDLE_TRAINER_ENDPOINTS": ",".join(ends),
            "PADDLE_CURRENT_ENDPOINT": ends[context.rank] if ends else "",
            "PADDLE_GLOBAL_RANK": str(context.rank),
            "PADDLE_GLOBAL_SIZE": str(context.size),
            "PADDLE_LOCAL_RANK": str(context.local_rank),
            "PADDLE_LOCAL_SIZE": str(context.local_size),
            "PADDLE_NNODES": str(context.hosts),
            "PADDLE_RANK_IN_NODE": str(context.local_rank),
            "POD_NAME": context.run_id,
            **_devices(context),
        }

    def findings(self, env: Mapping[str, str], chip: str) -> Iterator[VariableFinding]:
        """Yield what the ranks, which split it at its colon, would fail on."""
        master = env.get("PADDLE_MASTER", "")
        address, _, port = master.rpartition(":")
        if not address or variables.whole(1, 65535)(port):
            what = f"{master!r}: invalid value (expected an address and a port, such as 10.0.0.1:8312)"
            yield variables.ERROR, "PADDLE_MASTER", what


def _devices(context: RankContext) -> dict[str, str]:
    """Return the backend of the collectives, and the device: its index among those that the process sees.

    Without PADDLE_DISTRI_BACKEND init_parallel_env takes a Paddle without CUDA for one of the CPU alone, also
    where there is the custom device npu, whose communication is called xccl. Its devices are counted by CANN,
    so ASCEND_RT_VISIBLE_DEVICES renumbers them (backends/npu/runtime/runtime.cc of PaddleCustomDevice).
    """
    if context.backend != "npu":
        return {"PADDLE_DISTRI_BACKEND": "gloo"}
    return {
        "PADDLE_DISTRI_BACKEND": "xccl",
        "PADDLE_XCCL_BACKEND": "npu",
        "FLAGS_selected_npus": str(context.ascend_device_id),
    }


PADDLE = PaddleProfile()
