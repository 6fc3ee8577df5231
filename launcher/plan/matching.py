"""Which host of an engine is which server of a rank table or an inventory file."""

from __future__ import annotations

from typing import Mapping, Sequence

from launcher.errors import UsageError
from launcher.plan.host_facts import HostFacts
from launcher.text import some

MOST_NAMED = 8


def match(facts: Sequence[HostFacts], servers: Mapping[str, set[str]], what: str) -> dict[str, HostFacts]:
    """Find the host of each server: by its name in the engine, else by whatever names the server has.

    servers: server_id -> names and addresses by which its entry may mean a host.

    Raises:
        UsageError: a server without a host, a host without a server, or two that fit; `what` names the file.
    """
    by_name = {host.name: host for host in facts}
    found = {server: by_name[server] for server in servers if server in by_name}
    left = {host.index: host for host in facts if host.name not in found}
    known: dict[str, set[int]] = {}
    for host in left.values():
        for name in host.names:
            known.setdefault(name, set()).add(host.index)
    for server, names in servers.items():
        fit = set().union(*(known.get(name, set()) for name in {server} | names)) & set(left)
        if server in found or not fit:
            continue
        if len(fit) > 1:
            problem = f"{server} fits {_names([left[index] for index in sorted(fit)])}"
            raise UsageError(f"{what}: {problem}; name the servers as the engine names its hosts")
        found[server] = left.pop(fit.pop())
    missing = [name for name in servers if name not in found]
    lines = []
    if missing:
        lines.append(f"{what}: {some(missing, MOST_NAMED)}: none of this job's hosts ({_names(facts)})")
    if left:
        lines.append(
            f"{what}: {_names(list(left.values()))}: not in it; it has {some(list(servers), MOST_NAMED)}"
        )
    if lines:
        raise UsageError(*lines)
    return found


def _names(facts: Sequence[HostFacts]) -> str:
    return some([host.name for host in facts], MOST_NAMED)
