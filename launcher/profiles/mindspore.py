"""What MindSpore's ranks read: a rank table, or its dynamic cluster with a scheduler.

Names and values: mindspore/python/mindspore/parallel/cluster/process_entity/_api.py (msrun) and the tutorials
rank_table.md and dynamic_cluster.md of mindspore/docs.
"""

from __future__ import annotations

from launcher.profiles.base import TORCH_NAMES, TORCH_PREFIXES, Profile, RankContext


class MindSporeProfile(Profile):
    """The needs of a rank that trains with MindSpore."""

    name = "mindspore"
    meets = True
    removed = (*TORCH_NAMES, "TF_CONFIG", "POD_NAME")
    removed_prefixes = (
        *TORCH_PREFIXES,
        "CM_",
        "MS_ROLE",
        "MS_SCHED_",
        "MS_WORKER_",
        "MS_NODE_ID",
        "PADDLE_",
        "OMPI_",
    )

    def variables(self, context: RankContext) -> dict[str, str]:
        """Return what the dynamic cluster reads; with a rank table on NPUs none of it is needed."""
        if context.backend == "npu":
            return {}
        return {
            "MS_ROLE": "MS_WORKER",
            "MS_SCHED_HOST": context.meeting.address,
            "MS_SCHED_PORT": str(context.meeting.port),
            "MS_WORKER_NUM": str(context.size),
            "MS_NODE_ID": str(context.rank),
        }


MINDSPORE = MindSporeProfile()
