"""The name of this host in a rank table: the same on every start, a different one on every host."""

from __future__ import annotations

import ipaddress
import socket

from rank_table.errors import InventoryError
from rank_table.sources.hccn import is_address
from rank_table.sources.tools import Machine

# Variables in which platforms pass a container the address of its node: MindCluster, ModelArts.
PLATFORM = ("XDL_IP", "MINDX_SERVER_IP", "HOST_IP", "MA_CURRENT_HOST_IP")
LONGEST = 64  # HCCL's SERVERID_MAX_LENGTH


def own_server_id(machine: Machine, given: str = "") -> tuple[str, str, str]:
    """Choose: (server_id, its source, host address or "").

    In this order: the user's value, the platform's variables, the address of the route to the outside
    (nothing is sent), the kernel's host name, the machine id. A host name is never resolved: on many
    hosts that gives 127.x, the same server_id on all of them, which HCCL refuses.

    Raises:
        InventoryError: none of them is usable.
    """
    if given:
        if len(given) > LONGEST:
            raise InventoryError(f"--server-id: longer than the {LONGEST} characters that HCCL accepts")
        return given, "asked for", given if is_address(given) else ""
    for name in PLATFORM:
        value = machine.environ.get(name, "").strip()
        if usable(value):
            return value, name, value
    address = _routed_address()
    if address:
        return address, "address of the default route", address
    return _named(machine)


def _named(machine: Machine) -> tuple[str, str, str]:
    name = socket.gethostname()[:LONGEST]
    if name and name != "localhost" and not name.startswith(("127.", "localhost.")):
        return name, "host name", ""
    machine_id = (machine.read("/etc/machine-id") or "").strip()
    if machine_id:
        return f"host-{machine_id[:16]}", "/etc/machine-id", ""
    raise InventoryError("no server_id: no address, no host name, no /etc/machine-id; pass --server-id")


def usable(text: str) -> bool:
    """Check whether a text is an address of one host: not 127.x, ::1, 0.0.0.0 or another text."""
    try:
        address = ipaddress.ip_address(text)
    except ValueError:
        return False
    return not (address.is_loopback or address.is_unspecified or address.is_multicast)


def _routed_address() -> str:
    for family, target in ((socket.AF_INET, "192.0.2.1"), (socket.AF_INET6, "2001:db8::1")):
        try:
            with socket.socket(family, socket.SOCK_DGRAM) as probe:  # connect() of UDP sends nothing
                probe.connect((target, 9))
                address = str(probe.getsockname()[0])
        except OSError:
            continue
        if usable(address):
            return address
    return ""
