"""Collect what an agent tells of its host before there is a plan."""

from __future__ import annotations

import os
import sys
from contextlib import suppress
from typing import Mapping

import launcher
from launcher.checks import packages, versions
from launcher.checks.machine import RecordingMachine, has_npu, this_machine
from launcher.plan import interfaces, ports
from launcher.plan.cpu_quota import UNLIMITED, cpu_quota
from launcher.plan.host_facts import HostFacts
from launcher.plan.this_host import ADDRESS_VARIABLES, POD_VARIABLES
from rank_table.errors import InventoryError
from rank_table.inventory import Host

BOOT_ID = "/proc/sys/kernel/random/boot_id"


def collect(index: int, name: str, environ: Mapping[str, str], root: str = "/") -> HostFacts:
    """Describe this host, the one with this number and name in the engine; runs the vendor's query tools."""
    machine = this_machine(environ, os.getcwd())
    machine.root = root
    npus, problem, notes = _npus(machine)
    quota = cpu_quota(root)
    installed = machine.packages()
    cann = versions.installed(machine)
    return HostFacts(
        index=index,
        name=name,
        node=os.uname().nodename,
        boot_id=_boot_id(machine.path(BOOT_ID)),
        addresses=addresses(),
        aliases=tuple(filter(None, (environ.get(key, "") for key in (*ADDRESS_VARIABLES, *POD_VARIABLES)))),
        npus=npus,
        problem=problem,
        notes=notes,
        cores=tuple(sorted(os.sched_getaffinity(0))),
        quota=0.0 if quota == UNLIMITED else quota,
        port=ports.free(f"{name} {os.getpid()}", ports.OFFERED),
        launcher=launcher.__version__,
        python=".".join(map(str, sys.version_info[:3])),
        tensorflow=packages.TENSORFLOW.version(installed),
        cann=cann[0].version if cann else "",
        driver=versions.driver(machine),
        tls=_tls(machine, npus),
    )


def _boot_id(path: str) -> str:
    with suppress(OSError), open(path, encoding="ascii") as stream:
        return stream.read(64).strip()
    return ""


def addresses() -> tuple[tuple[str, str], ...]:
    """List the addresses of this host's interfaces with their prefix lengths; no loopback, no link-local."""
    return tuple(
        (name, f"{address}/{length}")
        for name, address, length in interfaces.addresses()
        if not (address.is_loopback or address.is_link_local)
    )


def _tls(machine: RecordingMachine, npus: Host | None) -> dict[str, str]:
    if npus is None:
        return {}
    from launcher.checks import network  # with the parsers of the vendor's tools

    return network.tls_switches(machine, [npu.device_id for npu in npus.devices])


def _npus(machine: RecordingMachine) -> tuple[Host | None, str, tuple[str, ...]]:
    """Return the NPUs of this host, None without any, why they are not known, and what is missing of them."""
    if not has_npu(machine):
        return None, "", ()
    from rank_table.sources import host as sources  # with the parsers of the vendor's tools

    try:
        if not sources.present(machine)[0]:
            return None, "", ()
        found = sources.discover(machine, everything=False)
    except InventoryError as error:
        return None, str(error), ()
    if found.hosts[0].devices:
        return found.hosts[0], "", found.notes
    return found.hosts[0], "; ".join(found.notes), ()
