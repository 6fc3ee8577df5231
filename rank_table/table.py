"""The rank table of a job as objects. Stdlib only: every training process imports this.

Format 1.0: docs/zh/user_guide/cluster_info_config of the HCCL documentation; all values are strings.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any, Dict, Iterable, Iterator, List, Mapping, Sequence, Tuple

from rank_table.inventory import Host


class RankTableError(ValueError):
    """Say in one line what is wrong with a rank table."""


@dataclass(frozen=True)
class Rank:
    """Hold one rank: its number, its device (physical id), its server."""

    rank_id: int
    device_id: int
    server_id: str
    device_ip: str = ""


@dataclass(frozen=True)
class RankTable:
    """Hold the ranks of a job in the order of their numbers."""

    ranks: Tuple[Rank, ...]
    version: str = "1.0"
    status: str = "completed"

    @classmethod
    def from_hosts(cls, hosts: Iterable[Host]) -> RankTable:
        """Number the devices of the hosts: hosts in order, devices in order, ranks without a gap."""
        ranks: List[Rank] = []
        for host in hosts:
            for device in host.devices:
                ranks.append(Rank(len(ranks), device.device_id, host.server_id, device.device_ip))
        return cls(tuple(ranks))

    @classmethod
    def load(cls, path: str) -> RankTable:
        """Read a file. RankTableError: unreadable, or not a table."""
        try:
            with open(path, encoding="utf-8") as stream:
                return cls.loads(stream.read())
        except (OSError, UnicodeDecodeError) as error:
            raise RankTableError("%s: %s" % (path, error)) from None
        except RankTableError as error:
            raise RankTableError("%s: %s" % (path, error)) from None

    @classmethod
    def loads(cls, text: str) -> RankTable:
        """Parse a table of version 1.0."""
        try:
            document = json.loads(text)
        except json.JSONDecodeError as error:
            raise RankTableError("line %d column %d: %s" % (error.lineno, error.colno, error.msg)) from None
        try:
            ranks = sorted(_ranks(document["server_list"]), key=lambda rank: rank.rank_id)
            return cls(tuple(ranks), document["version"], document["status"])
        except (KeyError, TypeError, ValueError) as error:
            raise RankTableError("not a rank table of version 1.0: %s" % error) from None

    @property
    def world_size(self) -> int:
        return len(self.ranks)

    @property
    def servers(self) -> Tuple[str, ...]:
        """The server_ids in the order of their first rank."""
        return tuple(dict.fromkeys(rank.server_id for rank in self.ranks))

    def by_rank(self, rank: int) -> Rank:
        """Look a rank up. RankTableError: there is none."""
        for entry in self.ranks:
            if entry.rank_id == rank:
                return entry
        raise RankTableError("no rank %d; the table has ranks 0 to %d" % (rank, self.world_size - 1))

    def ranks_of(self, server_id: str) -> Tuple[Rank, ...]:
        """Give the ranks of a server."""
        return tuple(rank for rank in self.ranks if rank.server_id == server_id)


def _ranks(servers: Sequence[Mapping[str, Any]]) -> Iterator[Rank]:
    for server in servers:
        for device in server["device"]:
            item: Dict[str, Any] = dict(device)
            yield Rank(
                int(item["rank_id"]),
                int(item["device_id"]),
                str(server["server_id"]),
                str(item.get("device_ip", "")),
            )
