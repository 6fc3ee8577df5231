"""Find this host among the servers of a rank table."""

from __future__ import annotations

from typing import TYPE_CHECKING

from launcher.errors import PreflightError

if TYPE_CHECKING:
    from rank_table.sources.tools import Machine
    from rank_table.table import RankTable

# Keys of a server entry that may hold an address of the host or of the pod.
ADDRESS_KEYS = ("host_ip", "server_ip", "container_ip", "pod_ip")
# Variables that hold the host's or the pod's address, and the pod's name: MindCluster, ModelArts.
ADDRESS_VARIABLES = ("XDL_IP", "MINDX_SERVER_IP", "HOST_IP", "POD_IP", "MA_CURRENT_HOST_IP", "MA_CURRENT_IP")
POD_VARIABLES = ("POD_NAME", "BATCH_TASK_CURRENT_INSTANCE", "MA_CURRENT_INSTANCE_NAME")


def own_server(table: RankTable, machine: Machine) -> str:
    """Return this host's server_id: the only one, else by pod, address, host name, or its NPUs' addresses.

    Raises:
        PreflightError: it is none of the servers.
    """
    if len(table.servers) == 1:
        return table.servers[0]
    pods = {machine.environ.get(name, "") for name in POD_VARIABLES} - {""}
    names = _names(machine)
    for entry in table.server_list:
        known = {entry.server_id} | {str(entry.extra.get(key)) for key in ADDRESS_KEYS}
        if entry.pod_name in pods or known & names:
            return entry.server_id
    found = _by_device_ip(table, machine)
    if not found:
        servers, own = ", ".join(table.servers[:8]), ", ".join(sorted(names))
        raise PreflightError(f"this host is none of the table's servers ({servers}); its names are {own}")
    return found


def _names(machine: Machine) -> set[str]:
    """List the names of this host: variables of the platform, addresses, the host name; no look-up."""
    import socket

    from launcher.plan import interfaces

    names = {machine.environ.get(name, "") for name in ADDRESS_VARIABLES} | {socket.gethostname()}
    names.update(str(address) for _, address, _ in interfaces.addresses())
    return {name for name in names if name and not name.startswith("127.") and name != "::1"}


def _by_device_ip(table: RankTable, machine: Machine) -> str:
    from rank_table.sources import hccn

    mine = {address for address, _ in hccn.parse_conf(machine.read(hccn.CONF) or "").addresses.values()}
    for rank in table.ranks:
        if mine & set(rank.device_ip.split(",")) - {""}:
            return rank.server_id
    return ""
