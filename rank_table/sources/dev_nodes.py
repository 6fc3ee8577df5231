"""Device nodes, /dev/davinciN with N as the physical id, and the PCI ids below /sys."""

from __future__ import annotations

import re

from rank_table.sources.tools import Machine

PCI = "/sys/bus/pci/devices"


def device_ids(machine: Machine) -> tuple[int, ...]:
    """List the physical ids that have a node; davinci_manager and other names are not devices."""
    names = (re.match(r"davinci(\d{1,5})\Z", name) for name in machine.names("/dev"))
    return tuple(sorted(int(match.group(1)) for match in names if match))


def generation(machine: Machine) -> str:
    """Derive the generation of the host's NPUs from their PCI ids; "" when there are none or several."""
    found = set()
    for name in machine.names(PCI):
        if (machine.read(f"{PCI}/{name}/vendor") or "").strip() == "0x19e5":
            found.add(pci_generation(machine.read(f"{PCI}/{name}/device") or ""))
    found.discard("")
    return found.pop() if len(found) == 1 else ""


def pci_generation(device: str) -> str:
    """Map a PCI device id of vendor 19e5 to the generation.

    >>> pci_generation("0xD801"), pci_generation("0xd803"), pci_generation("0x1234")
    ('910A', 'A3', '')
    """
    return {"0xd801": "910A", "0xd802": "A2", "0xd803": "A3"}.get(device.strip().lower(), "")
