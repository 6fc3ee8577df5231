"""A rank's place in the job, from RANK_TABLE_FILE and RANK_ID alone."""

from __future__ import annotations

import dataclasses
import os
from dataclasses import dataclass
from typing import Mapping


@dataclass(frozen=True)
class Cluster:
    """A rank's number, its peers, and the folders that the launcher gave it."""

    rank: int = 0
    size: int = 1
    device_id: int = 0  # physical
    servers: tuple[str, ...] = ("localhost",)  # server_id of each rank
    run_id: str = ""
    run_dir: str = ""
    rank_dir: str = ""
    attempt: int = 0
    backend: str = "auto"

    @classmethod
    def from_environ(cls, environ: Mapping[str, str]) -> Cluster:
        """Look this process up in the rank table; without a table it is the only rank.

        Raises:
            ValueError: the table has no such rank.
        """
        alone = cls(
            device_id=int(environ.get("DEVICE_ID", "0")),
            run_id=environ.get("NPU_LAUNCH_RUN_ID", f"alone-{os.getpid()}"),
            run_dir=environ.get("NPU_LAUNCH_RUN_DIR", ""),
            rank_dir=environ.get("NPU_LAUNCH_RANK_DIR", ""),
            backend=environ.get("NPU_LAUNCH_BACKEND", "auto"),
            attempt=int(environ.get("NPU_LAUNCH_ATTEMPT", "0")),
        )
        # Without a rank table for HCCL (CM_CHIEF_IP ...) the launcher passes one under its own names.
        path = environ.get("RANK_TABLE_FILE") or environ.get("NPU_LAUNCH_RANK_TABLE")
        if not path:
            return alone
        from rank_table.table import RankTable

        table = RankTable.load(path)
        rank = int(environ.get("RANK_ID") or environ["NPU_LAUNCH_RANK"])
        device = int(table.by_rank(rank).device_id)
        servers = tuple(table.by_rank(peer).server_id for peer in range(table.world_size))
        return dataclasses.replace(alone, rank=rank, size=table.world_size, device_id=device, servers=servers)
