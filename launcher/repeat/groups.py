"""Groups of devices, each for one run at a time, and the cores of each group."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Sequence

from launcher.checks import preflight
from launcher.checks.finding import WARNING
from launcher.config.job import JobConfig, Provenance
from launcher.errors import ConfigError, LauncherError, UsageError
from launcher.plan.cpu_binding import Cores, cores_for, read_topology
from launcher.plan.devices import parse_devices
from launcher.plan.planner import notify, plan_job
from rank_table.ranges import spell


@dataclass(frozen=True)
class Group:
    """Devices that run one seed at a time. cores: those of its ranks, () for all."""

    devices: tuple[int, ...]
    cores: Cores = ()

    def __str__(self) -> str:
        cores = f" (cores {spell(self.cores)})" if self.cores else ""
        return f"device{'s' if len(self.devices) > 1 else ''} {spell(self.devices)}{cores}"


def divide(devices: Sequence[int], each: int) -> list[tuple[int, ...]]:
    """Divide devices into groups of `each`, in order; 0: one group of all. UsageError: there are too few.

    >>> divide((0, 1, 2, 3, 4), 2)
    [(0, 1), (2, 3)]
    """
    if each < 0 or each > len(devices):
        raise UsageError(f"--each: {each} (expected 1 to {len(devices)}, the number of devices)")
    size = each or len(devices)
    return [tuple(devices[first : first + size]) for first in range(0, len(devices) - size + 1, size)]


def checked(config: JobConfig, source: Provenance, each: int, seeds: int) -> list[Group]:
    """Return the groups, each of which a single run could have; cores only where runs are side by side.

    The devices of this host alone: runs on several hosts are started one after another, and check themselves.

    Raises:
        UsageError, PreflightError: as a single run on a group's devices, with the devices named.
    """
    divided = divide(parse_devices(config.devices), each)[:seeds]
    if each and config.rank_table_file:
        raise source.error(
            "rank_table_file", "its devices cannot be divided by --each; leave one of them out"
        )
    backend = ""
    warned: dict[str, tuple[int, ...]] = {}
    for number, devices in enumerate(divided):
        own = replace(config, devices=",".join(map(str, devices)))
        # The program and its flags are the same for each group, and are checked once.
        own = own if number == 0 else replace(own, program=["true"], args={}, check="")
        try:
            planned = plan_job(own, source, ())
            findings = preflight.check(planned.plan, own, planned.table)
            preflight.raise_if_any(findings)
        except ConfigError:
            raise
        except LauncherError as error:
            if len(divided) == 1:
                raise
            raise type(error)(*(f"devices {spell(devices)}: {line}" for line in error.lines)) from None
        warned.update({str(item): devices for item in findings if item.level == WARNING})
        backend = planned.plan.backend
    for what, devices in warned.items():
        notify(f"warning: devices {spell(devices)}: {what}")
    return [Group(*both) for both in zip(divided, _cores(backend, divided))]


def _cores(backend: str, groups: Sequence[tuple[int, ...]]) -> list[Cores]:
    """Share the cores: beside NPUs those near them, else evenly; none are bound where runs are not beside."""
    if len(groups) < 2:
        return [()] * len(groups)
    devices = [device for group in groups for device in group]
    topology = read_topology(backend, devices)
    mode = "numa" if backend == "npu" else "even"
    of_device = cores_for(mode, dict(zip(devices, devices)), topology)
    return [
        tuple(sorted({core for device in group for core in of_device.get(device, ())})) for group in groups
    ]
