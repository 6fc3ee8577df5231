"""What MindSpore's ranks read: a rank table, or its dynamic cluster with a scheduler.

On NPUs it is the table unless the job says `rank_table_free: true`; on CPU it is always the cluster.

Names and values: mindspore/python/mindspore/parallel/cluster/process_entity/_api.py (msrun) and the tutorials
rank_table.md and dynamic_cluster.md of mindspore/docs.
"""

from __future__ import annotations

from typing import Iterator, Mapping

from launcher.hccl import variables
from launcher.profiles.base import (
    TORCH_NAMES,
    TORCH_PREFIXES,
    Profile,
    RankContext,
    VariableFinding,
    without_table,
)

_OF_WORKERS = ("MS_NODE_ID", "DEVICE_ID", "ASCEND_DEVICE_ID", "DEVICE_INDEX", "LOCAL_RANK", "LOCAL_SIZE")


class MindSporeProfile(Profile):
    """The needs of a rank that trains with MindSpore."""

    name = "mindspore"
    meets = True
    meeting_ports = ("MS_SCHED_PORT",)
    table_optional = True
    sorts_servers = True
    numbers = ("MS_ROLE", "MS_NODE_ID", "MS_WORKER_NUM", "RANK_ID", "RANK_SIZE")
    device_index = "DEVICE_ID"
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
        """Return what the dynamic cluster reads, and the device as set_device takes it: its logical id."""
        device = {"DEVICE_ID": str(context.ascend_device_id)} if context.backend == "npu" else {}
        if device and not context.table_free:
            return device
        return {
            **device,
            "MS_ROLE": "MS_WORKER",
            "MS_SCHED_HOST": context.meeting.address,
            "MS_SCHED_PORT": str(context.meeting.port),
            "MS_WORKER_NUM": str(context.size),
            "MS_NODE_ID": str(context.rank),
        }

    def findings(self, env: Mapping[str, str], chip: str) -> Iterator[VariableFinding]:
        """Yield what the processes of a dynamic cluster would fail with; with a rank table none reads it."""
        if "MS_ROLE" not in env:
            return
        yield from variables.refused(env, "MS_SCHED_PORT", variables.whole(1024, 65535))
        yield from _heartbeats(env)

    def completed(self, env: dict[str, str], context: RankContext) -> dict[str, str]:
        """Take the rank table from the cluster: its scheduler and HCCL would number the ranks by it.

        Parts of MindSpore also work otherwise where RANK_TABLE_FILE is set (amp.py, nn/wrap/loss_scale.py).
        """
        return without_table(env) if "MS_ROLE" in env else env

    def scheduler(self, env: Mapping[str, str]) -> dict[str, str]:
        """Return the environment of the cluster's scheduler: RANK_ID is 0 as with msrun, it has no device."""
        if env.get("MS_ROLE") != "MS_WORKER":
            return {}
        kept = {name: value for name, value in env.items() if name not in _OF_WORKERS}
        return {**kept, "MS_ROLE": "MS_SCHED", "RANK_ID": "0"}


def _heartbeats(env: Mapping[str, str]) -> Iterator[VariableFinding]:
    """The scheduler must wait longer for a worker than a worker tries to reach it (dynamic_cluster.md)."""
    times = {}
    for name, default in (("MS_NODE_TIMEOUT", "30"), ("MS_HEARTBEAT_RETRY_TIMEOUT", "20")):
        value = env.get(name) or default
        problem = variables.whole(1)(value)
        if problem:
            yield variables.ERROR, name, f"{value!r}: {problem} of seconds"
            return
        times[name] = int(value)
    node, retry = times.values()
    if node <= retry and env.get("MS_DISABLE_HEARTBEAT") != "1":
        text = f"{node} s, not above MS_HEARTBEAT_RETRY_TIMEOUT ({retry} s)"
        what = f"{text}: the scheduler gives up a worker that still tries; give more than {retry}"
        yield variables.ERROR, "MS_NODE_TIMEOUT", what


MINDSPORE = MindSporeProfile()
