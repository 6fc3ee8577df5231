"""The rank table of a job as objects. Stdlib only: every training process imports this.

Formats: docs/zh/user_guide/cluster_info_config of the HCCL documentation; docs/rank-table.md.
"""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import dataclass, field, replace
from typing import Any, Iterable, Mapping, Sequence

from rank_table import files
from rank_table.errors import RankTableError
from rank_table.inventory import Host, natural
from rank_table.model import Rank, Server, SuperPod
from rank_table.read import read

__all__ = ["Rank", "RankTable", "RankTableError", "Server", "SuperPod", "parse_json"]
LONGEST = 40 << 20  # bytes; HCCL refuses longer tables


@dataclass(frozen=True)
class RankTable:
    """The ranks of a job in the order of their numbers, 0 to n-1.

    `layout` is one of LAYOUTS; `server_list` has the servers (instances, nodes) in the document's order;
    `extra` and `groups` are the other keys of the document and of its groups as written.
    """

    ranks: tuple[Rank, ...]
    layout: str = "1.0"
    status: str = "completed"
    server_list: tuple[Server, ...] = ()
    super_pods: tuple[SuperPod, ...] = ()
    groups: tuple[Mapping[str, Any], ...] = field(default=(), hash=False)
    extra: Mapping[str, Any] = field(default_factory=dict, hash=False)

    def __post_init__(self) -> None:
        for index, rank in enumerate(self.ranks):
            if rank.rank_id != index:
                again = index > 0 and rank.rank_id == self.ranks[index - 1].rank_id
                problem = f"{rank.rank_id} is duplicate" if again else f"{index} is missing"
                raise RankTableError(f"rank_ids are not 0 to {len(self.ranks) - 1}: {problem}")
        keys = [(server.server_id, server.pod_name) for server in self.server_list]
        if len(set(keys)) != len(keys):
            twice = Counter(keys).most_common(1)[0][0]
            raise RankTableError(f"duplicate server {'/'.join(part for part in twice if part)}")
        if not self.server_list:
            servers = dict.fromkeys((rank.server_id, rank.pod_name) for rank in self.ranks)
            object.__setattr__(self, "server_list", tuple(Server(*key) for key in servers))

    @classmethod
    def from_hosts(cls, hosts: Iterable[Host], layout: str = "") -> RankTable:
        """Number the devices of the hosts: hosts in order, devices in order, ranks without gaps.

        `layout` "" depends on the chip: 1.2 for A3 with super_device_ids, 2.0 for 950, else 1.0.

        Raises:
            RankTableError: a 2.0 device lacks network levels, or a 1.2 device its super_device_id.
        """
        hosts = tuple(hosts)
        layout = layout or layout_for(hosts)
        ranks: list[Rank] = []
        for host in hosts:
            for device in host.devices:
                ranks.append(
                    Rank(
                        len(ranks),
                        device.device_id,
                        host.server_id,
                        "" if layout == "2.0" else device.device_ip,
                        device.super_device_id if layout == "1.2" else "",
                        device.local_id if layout == "2.0" else -1,
                        (host.pod_name or host.server_id) if layout == "cloud" else "",
                        levels=device.levels if layout == "2.0" else (),
                    )
                )
        _complete(ranks, layout)
        groups = ({"group_name": "hccl_world_group"},) if layout == "cloud" else ()
        table = cls(tuple(ranks), layout, "completed", (), _super_pods(hosts, layout), groups)
        return _with_host_ip(table, hosts) if layout == "1.2" else table

    @classmethod
    def load(cls, path: str) -> RankTable:
        """Read a file. RankTableError: it cannot be read, or is not a table."""
        try:
            return cls.loads(files.text(path, LONGEST))
        except RankTableError as error:
            raise RankTableError(f"{path}: {error}") from None
        except (OSError, ValueError) as error:  # ValueError: a NUL in the name
            raise RankTableError(f"{path}: {files.reason(error)}") from None

    @classmethod
    def loads(cls, text: str) -> RankTable:
        """Parse a table of any layout that HCCL reads. RankTableError: with the JSON path of the error."""
        parts = read(parse_json(text))
        return cls(server_list=parts.pop("servers_"), **parts)

    @property
    def version(self) -> str:
        """The version key of the document; "" for the legacy templates, which have none."""
        return "" if self.layout in ("cloud", "lab") else self.layout

    @property
    def world_size(self) -> int:
        return len(self.ranks)

    @property
    def servers(self) -> tuple[str, ...]:
        """The server_ids, in the order of their first rank."""
        return tuple(self._by_server())

    def by_rank(self, rank: int) -> Rank:
        """Return a rank by its number. RankTableError: there is none."""
        if not 0 <= rank < len(self.ranks):
            raise RankTableError(f"no rank {rank}; the table has ranks 0 to {self.world_size - 1}")
        return self.ranks[rank]

    def ranks_of(self, server_id: str) -> tuple[Rank, ...]:
        """Return the ranks of a server; none when the table lacks it."""
        return self._by_server().get(server_id, ())

    def cluster_spec(self, port: int = 2222) -> dict[str, list[str]]:
        """Return the argument of tf.train.ClusterSpec: a rank's address, `port` + its index on the host."""
        addresses: list[str] = []
        places: dict[str, int] = {}
        hosts = {
            server.server_id: str(server.extra.get("host_ip") or server.server_id)
            for server in self.server_list
        }
        for rank in self.ranks:
            place = places[rank.server_id] = places.get(rank.server_id, -1) + 1
            host = hosts.get(rank.server_id, rank.server_id)
            addresses.append(f"[{host}]:{port + place}" if ":" in host else f"{host}:{port + place}")
        return {"worker": addresses}

    def entries(self) -> list[tuple[Server, tuple[Rank, ...]]]:
        """List the servers (instances) of the document and the ranks of each, in document order."""
        members: dict[tuple[str, str], list[Rank]] = {}
        for rank in self.ranks:
            members.setdefault((rank.server_id, rank.pod_name), []).append(rank)
        known = {(server.server_id, server.pod_name): server for server in self.server_list}
        known.update({key: Server(*key) for key in members if key not in known})
        return [(server, tuple(members.get(key, ()))) for key, server in known.items()]

    def _by_server(self) -> dict[str, tuple[Rank, ...]]:
        cached: dict[str, tuple[Rank, ...]] = self.__dict__.get("_servers", {})
        if not cached and self.ranks:
            lists: dict[str, list[Rank]] = {}
            for rank in self.ranks:
                lists.setdefault(rank.server_id, []).append(rank)
            cached = {name: tuple(ranks) for name, ranks in lists.items()}
            self.__dict__["_servers"] = cached  # only the first look-up takes linear time
        return cached


def parse_json(text: str) -> Any:
    """Parse standard JSON, as HCCL's parser does. RankTableError: with line and column."""
    try:
        return json.loads(text, parse_constant=_no_constant, parse_int=short_integer)
    except json.JSONDecodeError as error:
        raise RankTableError(f"line {error.lineno} column {error.colno}: {error.msg}") from None
    except RecursionError:
        raise RankTableError("nested too deeply for a rank table") from None


def _no_constant(name: str) -> Any:
    raise RankTableError(f"{name} is not JSON")


def short_integer(digits: str) -> int:
    """Read a whole number of a document. RankTableError: one that no field has."""
    if len(digits) > 20:  # long numbers take quadratic time in Python, and no field has one
        raise RankTableError(f"a number of {len(digits)} digits")
    return int(digits)


def layout_for(hosts: Sequence[Host]) -> str:
    """Choose the layout that the hosts' chips read."""
    chips = {host.chip for host in hosts}
    if chips == {"950"}:
        return "2.0"
    devices = [device for host in hosts for device in host.devices]
    return "1.2" if chips == {"A3"} and devices and all(d.super_device_id for d in devices) else "1.0"


def _complete(ranks: Sequence[Rank], layout: str) -> None:
    for rank in ranks:
        place = f"device {rank.device_id} of {rank.server_id}"
        if layout == "2.0" and (not rank.levels or rank.local_id < 0):
            raise RankTableError(
                f"{place}: no local_id and network levels, which 2.0 needs; the driver of an Ascend 950 "
                "writes them to /etc/hccl_rootinfo.json, and `npu-launch inventory --json` there puts them "
                "into an inventory file (in a container, mount the host's file)"
            )
        if layout == "1.2" and not rank.super_device_id:
            raise RankTableError(
                f"{place}: 1.2 needs its super_device_id (npu-smi info -t spod-info); or make 1.0"
            )


def _super_pods(hosts: Sequence[Host], layout: str) -> tuple[SuperPod, ...]:
    pods: dict[str, list[Server]] = {}
    for host in hosts if layout == "1.2" else ():
        pods.setdefault(host.super_pod_id or "0", []).append(Server(host.server_id))
    return tuple(SuperPod(name, tuple(servers)) for name, servers in pods.items())


def _with_host_ip(table: RankTable, hosts: Sequence[Host]) -> RankTable:
    """Add host_ip, which A3 needs for operator retry; not where a device lacks an address.

    There HCCL would use host_ip as the address of the ranks.
    """
    known = {host.server_id: host.host_ip for host in hosts if host.host_ip}
    if not all(device.device_ip for host in hosts for device in host.devices):
        known = {}
    servers = tuple(
        replace(server, extra={"host_ip": known[server.server_id]}) if server.server_id in known else server
        for server in table.server_list
    )
    return replace(table, server_list=servers)


def merge(tables: Sequence[RankTable], order: Sequence[str] = ()) -> RankTable:
    """Join tables of several hosts and renumber their ranks, server after server, without gaps.

    Servers come in the order given, else by server_id in natural order; devices keep their order.

    Raises:
        RankTableError: layouts differ, a server is in two tables, or the order names another set.
    """
    layouts = sorted({table.layout for table in tables})
    if len(layouts) != 1 or layouts[0] == "lab":
        raise RankTableError(f"cannot merge tables of {', '.join(layouts)}; convert them to one of 1.0, 1.2")
    homes: dict[str, RankTable] = {}
    for table in tables:
        for name in table.servers:
            if name in homes:
                raise RankTableError(f"duplicate server_id {name}: in two tables; give each host its own")
            homes[name] = table
    wanted = list(order) or sorted(homes, key=natural)
    if sorted(wanted) != sorted(homes):
        odd = sorted(set(wanted) ^ set(homes)) or ["a server twice"]
        raise RankTableError(f"the order has {', '.join(odd)}, but the servers are {', '.join(homes)}")
    members = [rank for name in wanted for rank in homes[name].ranks_of(name)]
    ranks = tuple(replace(rank, rank_id=index, group=0) for index, rank in enumerate(members))
    known = {server.server_id: server for table in tables for server in table.server_list}
    servers = tuple(known.get(name, Server(name)) for name in wanted)
    if layouts[0] == "cloud":
        servers = tuple(s for name in wanted for s in homes[name].server_list if s.server_id == name)
    pods = _merged_pods(tables)
    return replace(tables[0], ranks=ranks, server_list=servers, super_pods=pods, groups=tables[0].groups[:1])


def _merged_pods(tables: Sequence[RankTable]) -> tuple[SuperPod, ...]:
    pods: dict[str, SuperPod] = {}
    for table in tables:
        for pod in table.super_pods:
            known = pods.get(pod.super_pod_id)
            pods[pod.super_pod_id] = replace(known, servers=known.servers + pod.servers) if known else pod
    return tuple(pods.values())
