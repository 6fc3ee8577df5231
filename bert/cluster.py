"""A rank's place in the job, from RANK_TABLE_FILE and RANK_ID alone."""

from __future__ import annotations

import dataclasses
import json
import os
from dataclasses import dataclass
from typing import Mapping

from bert.errors import TrainerError
from bert.files import read_text


@dataclass(frozen=True)
class Cluster:
    """A rank's number, its peers, and the folders that the launcher gave it."""

    rank: int = 0
    size: int = 1
    device_id: int = 0  # physical
    servers: tuple[str, ...] = ("localhost",)  # server_id of each rank
    addresses: tuple[str, ...] = ()  # of each rank's host, as the launcher found them; (): not known
    shares_disk: bool = False  # whether this host sees the files of rank 0's
    run_id: str = ""
    run_dir: str = ""
    rank_dir: str = ""
    attempt: int = 0
    backend: str = "auto"

    @property
    def several_hosts(self) -> bool:
        """Tell whether the ranks are on more than one host."""
        return len(set(self.servers)) > 1

    @property
    def first_on_host(self) -> bool:
        """Tell whether this rank is the first one of its host."""
        return self.servers.index(self.servers[self.rank]) == self.rank

    @classmethod
    def from_environ(cls, environ: Mapping[str, str]) -> Cluster:
        """Look this process up in the rank table; without a table it is the only rank.

        Raises:
            ValueError: the table has no such rank.
            TrainerError: hosts.json, which the launcher writes for several hosts, is damaged.
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
        found = dataclasses.replace(
            alone, rank=rank, size=table.world_size, device_id=device, servers=servers
        )
        return found._with_hosts() if found.several_hosts else found

    def _with_hosts(self) -> Cluster:
        """Add what the launcher knows of the hosts, if it does."""
        path = os.path.join(self.run_dir, "hosts.json")
        if not self.run_dir or not os.path.exists(path):
            return self
        try:
            known = {str(host["server_id"]): host for host in json.loads(read_text(path))}
            addresses = tuple(str(known[server]["address"]) for server in self.servers)
            ends = (known[self.servers[0]], known[self.servers[self.rank]])
            shared = all(host.get("shared") for host in ends)  # each of them with the launcher's head
        except (AttributeError, KeyError, RecursionError, TypeError, ValueError) as error:
            raise TrainerError(
                f"{path}: no list of hosts with server_id and address ({error}); start the run again"
            ) from None
        return dataclasses.replace(self, addresses=addresses, shares_disk=shared)
