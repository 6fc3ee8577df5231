"""All-reduce between CPU ranks."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from bert.cluster import Cluster
from bert.errors import TrainerError

if TYPE_CHECKING:
    from bert.interfaces import Collective


def close(connection: Collective) -> None:
    """End a connection; shared memory has nothing to close."""
    ending = getattr(connection, "close", None)
    if ending:
        ending()


def connect(cluster: Cluster, kind: str = "auto") -> Collective:
    """Connect these ranks through shared memory, or through grpc if asked for by name.

    Raises:
        TrainerError: the ranks are on several hosts, which shared memory cannot connect; an address that
            cannot be used.
        CollectiveError: a rank did not connect in time.
    """
    if kind == "grpc" and cluster.size > 1:
        from bert.backend.collective import grpc

        peers = grpc.addresses(cluster.addresses or cluster.servers, os.environ)
        grpc.check(peers, cluster.rank)
        return grpc.Grpc(peers, cluster.rank)
    from bert.backend.collective import shared_memory

    hosts = len(set(cluster.servers))
    if hosts > 1:
        raise TrainerError(
            f"the ranks are on {hosts} hosts, shared memory connects one; give --collective grpc, and read"
            " docs/training.md about its open ports"
        )
    name = f"{cluster.run_id}-{cluster.attempt}"
    return shared_memory.connect(name, cluster.rank, cluster.size)
