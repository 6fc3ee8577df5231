"""What PaddlePaddle's ranks read: python/paddle/distributed/launch/controllers/collective.py sets it."""

from __future__ import annotations

from launcher.profiles.base import TORCH_NAMES, TORCH_PREFIXES, Profile, RankContext


class PaddleProfile(Profile):
    """The needs of a rank that trains with PaddlePaddle."""

    name = "paddle"
    meets = True
    removed = (*TORCH_NAMES, "TF_CONFIG", "POD_NAME")
    removed_prefixes = (*TORCH_PREFIXES, "CM_", "MS_", "PADDLE_", "OMPI_")

    def variables(self, context: RankContext) -> dict[str, str]:
        """Return the numbers and endpoints of the trainers."""
        ends = context.meeting.endpoints
        made = {
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
        }
        if context.backend == "npu":
            made["FLAGS_selected_npus"] = str(context.ascend_device_id)
        else:
            made["PADDLE_DISTRI_BACKEND"] = "gloo"
        return made


PADDLE = PaddleProfile()
