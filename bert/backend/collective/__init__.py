"""All-reduce between CPU ranks."""

from __future__ import annotations

import os
from typing import Any

from bert.cluster import Cluster
from bert.errors import TrainerError


def connect(cluster: Cluster, kind: str = "auto") -> Any:
    """Give the collective of these ranks: shared memory, or grpc when it is named.

    Raises:
        TrainerError: the ranks are on several hosts, which shared memory does not reach.
        CollectiveError: a rank did not come.
    """
    if kind == "grpc" and cluster.size > 1:
        from bert.backend.collective import grpc

        return grpc.Grpc(grpc.addresses(cluster.servers, os.environ), cluster.rank)
    from bert.backend.collective import shared_memory

    hosts = len(set(cluster.servers))
    if hosts > 1:
        raise TrainerError(
            f"the ranks are on {hosts} hosts, shared memory is for one; give --collective grpc, and read"
            " docs/training.md on its open port"
        )
    name = f"{cluster.run_id}-{cluster.attempt}"
    return shared_memory.connect(name, cluster.rank, cluster.size)
