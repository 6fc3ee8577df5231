"""Checks of a plan of several hosts that each of them makes: links, HCCL's whitelist, gRPC's ports."""

from __future__ import annotations

import errno
import os
import re
import select
import socket
import time
from pathlib import Path
from typing import Callable, Iterator, Sequence, TypeVar

from launcher.checks.device_state import Problems
from launcher.checks.finding import ERROR, WARNING
from launcher.checks.preflight import HCCL_BASE_PORT, Subject, free_port, port_number
from launcher.errors import ReadError
from launcher.foreign import read_json
from launcher.process import procfs
from launcher.text import some
from rank_table.model import Rank
from rank_table.ranges import spell
from rank_table.table import RankTable

FEW = 3  # other hosts that are all asked; of more, the two neighbours
GRPC_PORT = 30600  # rank r of the CPU collective listens on this + r (bert/backend/collective/grpc.py)
_GRPC_VARIABLE = "NPU_LAUNCH_GRPC_PORT"
PATIENCE = 2.0  # seconds for a host of the same network
Item = TypeVar("Item")
_LOSS = re.compile(r"(\d+(?:\.\d+)?)\s*% packet loss")


def links(subject: Subject) -> Problems:
    """Each device must reach the devices of the same place on other hosts: `hccn_tool -ping`.

    Every host asks, so that each pair is tried both ways.
    """
    if not subject.npu:
        return
    pairs = list(_pairs(subject.table, subject.plan.host))
    calls = [_call(own, peer) for own, peer in pairs]
    results = subject.machine.ask_all("hccn_tool", calls) if calls else []
    names = {host.server_id: host.name for host in subject.plan.hosts}
    lost: dict[tuple[str, str], list[int]] = {}
    unknown: dict[str, list[int]] = {}
    for (own, peer), result in zip(pairs, results):
        found = _LOSS.search(result.text)
        if found is None:
            problem = result.problem or "hccn_tool -ping: no packet loss in its output"
            unknown.setdefault(re.sub(r"-i \d+|address \S+", "...", problem), []).append(own.device_id)
        elif float(found.group(1)) > 0:
            lost.setdefault((names[peer.server_id], found.group(1)), []).append(own.device_id)
    for (name, share), devices in lost.items():
        level = ERROR if float(share) >= 100 else WARNING
        what = f"device {spell(devices)} does not reach its like on {name} ({share} % packet loss)"
        yield level, what, "check cables, switch and netmask (`hccn_tool -i N -link -g`)"
    for problem, devices in unknown.items():
        yield WARNING, f"links of device {spell(dict.fromkeys(devices))} are not known: {problem}", ""


def _pairs(table: RankTable, here: str) -> Iterator[tuple[Rank, Rank]]:
    """Yield this host's devices, each with that of the same place on the other hosts that are asked."""
    place = table.servers.index(here)
    for server in _others(table.servers, place):
        for own, peer in zip(table.ranks_of(here), table.ranks_of(server)):
            if own.device_ip and peer.device_ip:
                yield own, peer


def _others(all_of_them: Sequence[Item], place: int) -> list[Item]:
    others = [*all_of_them[place + 1 :], *all_of_them[:place]]
    return others if len(others) <= FEW else [others[0], others[-1]]


def _call(own: Rank, peer: Rank) -> tuple[str, ...]:
    address = peer.device_ip.split(",")[0]
    family = ("-inet6", "-g", "ipv6_address") if ":" in address else ("-g", "address")
    return ("-i", str(own.device_id), "-ping", *family, address)


def reach(subject: Subject) -> Problems:
    """Other hosts must be reached at the addresses of the plan, where HCCL or gRPC will need it.

    A port that nobody listens on yet is refused at once, which is an answer too.
    """
    if not subject.npu and not _uses_grpc(subject):
        return
    hosts = subject.plan.hosts
    place = [host.server_id for host in hosts].index(subject.plan.host)
    own = hosts[place].address
    asked = {host.address: host.name for host in _others(hosts, place) if host.address != own}
    for address, reason in unreachable(list(asked), _first_port(subject)).items():
        what = f"{asked[address]} is not reached at {address} from {own}: {reason}"
        yield ERROR, what, "name a network between the hosts in interfaces:, or open the firewall"


def _first_port(subject: Subject) -> int:
    env = subject.environ
    own_range = env.get("HCCL_HOST_SOCKET_PORT_RANGE", "").partition("-")[0]
    hccl = own_range or env.get("HCCL_IF_BASE_PORT", "")
    port = port_number(hccl if subject.npu else env.get(_GRPC_VARIABLE, ""))
    return port if 0 < port < 65536 else HCCL_BASE_PORT if subject.npu else GRPC_PORT


def unreachable(addresses: Sequence[str], port: int, patience: float = PATIENCE) -> dict[str, str]:
    """Try to connect to a port of each address, all at once; return those without any answer, and why."""
    waiting: dict[int, tuple[socket.socket, str]] = {}
    found: dict[str, str] = {}
    poll, end = select.poll(), time.monotonic() + patience
    for address in addresses:
        probe = socket.socket(socket.AF_INET6 if ":" in address else socket.AF_INET, socket.SOCK_STREAM)
        probe.setblocking(False)
        waiting[probe.fileno()] = (probe, address)
        found.update(_refusal(address, probe.connect_ex((address, port))))
        poll.register(probe, select.POLLOUT)
    while waiting and time.monotonic() < end:
        for number, _ in poll.poll(max(0.0, end - time.monotonic()) * 1000):
            poll.unregister(number)
            probe, address = waiting.pop(number)
            found.update(_refusal(address, probe.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)))
            probe.close()
    for probe, address in waiting.values():
        probe.close()
        found.setdefault(address, f"no answer within {patience:g} s")
    return found


def _refusal(address: str, code: int) -> dict[str, str]:
    """Say why a connection failed; a port that nobody listens on is an answer of the host."""
    return {} if code in (0, errno.EINPROGRESS, errno.ECONNREFUSED) else {address: os.strerror(code)}


def whitelist(subject: Subject) -> Problems:
    """With HCCL_WHITELIST_DISABLE=0 each host needs a file that lists the addresses of all."""
    if not subject.npu or subject.environ.get("HCCL_WHITELIST_DISABLE") != "0":
        return
    path = subject.environ.get("HCCL_WHITELIST_FILE", "")
    try:
        listed = set(read_json(Path(path), follow=True).get("host_ip").texts())
    except ReadError as error:
        what = f"HCCL_WHITELIST_FILE: {error}"
        yield ERROR, what, "HCCL needs it, as HCCL_WHITELIST_DISABLE is 0"
        return
    absent = [host.address for host in subject.plan.hosts if host.address not in listed]
    if absent:
        yield ERROR, f"{path}: host_ip lacks {some(absent, 8)}, of this job", "add all hosts' addresses"


def collective(subject: Subject) -> Problems:
    """Over several hosts, CPU ranks listen on a port each; it must be free."""
    if subject.npu or not _uses_grpc(subject):
        return
    busy: list[int] = []
    for spec in subject.plan.local_ranks:
        text = spec.env.get(_GRPC_VARIABLE) or str(GRPC_PORT)
        first = port_number(text)
        port = first + spec.rank
        if first < 0 or not 1024 <= port <= 65535:
            what = f"{_GRPC_VARIABLE}: {text!r}: rank {spec.rank} gets no port of 1024 to 65535"
            yield ERROR, what, ""
            return
        busy += [] if free_port(port) else [port]
    if busy:
        holder = procfs.listener(busy[0]) or "holder not visible"
        what = f"port {spell(busy)} of the collective is in use ({holder})"
        yield ERROR, what, f"set env: {_GRPC_VARIABLE} to the first of a free range"


def _uses_grpc(subject: Subject) -> bool:
    words = subject.plan.local_ranks[0].argv if subject.plan.local_ranks else ()
    joined = " ".join(words)
    return "--collective=grpc" in joined or "--collective grpc" in joined


CHECKS: dict[str, Callable[[Subject], Problems]] = {
    "reach": reach,
    "links": links,
    "whitelist": whitelist,
    "collective": collective,
}
