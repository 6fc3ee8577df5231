"""Hosts that tell of themselves, made by hand, and a job on them."""

from __future__ import annotations

from typing import Any, Sequence

from launcher.config.job import JobConfig, Provenance
from launcher.plan.host_facts import HostFacts
from launcher.plan.placement import read_table
from launcher.plan.several import Job, Layout, lay_out, make_order
from rank_table.inventory import Device, Host

COMMAND = ("sh", "-c", "true")


def facts(index: int, *addresses: str, **values: Any) -> HostFacts:
    """Describe host node1, node2, ...: with an address in 10.0.0.0/24 of its own, and another kernel."""
    listed = addresses or (f"10.0.0.{index + 1}/24",)
    known: dict[str, Any] = {"boot_id": f"boot-{index}", "node": f"host{index}", "launcher": "1"}
    pairs = tuple((f"eth{place}", text) for place, text in enumerate(listed))
    return HostFacts(index, f"node{index + 1}", **{**known, "addresses": pairs, **values})


def with_npus(index: int, devices: Sequence[int] = (0, 1), chip: str = "A2", **values: Any) -> HostFacts:
    """Describe a host with NPUs; logical ids are positions."""
    npus = [Device(number, place, f"10.1.{index}.{number + 1}") for place, number in enumerate(devices)]
    server = values.pop("server_id", f"10.0.0.{index + 1}")
    return facts(index, npus=Host(server, tuple(npus), server, "", chip), **values)


def job(source: Provenance | None = None, command: Sequence[str] = COMMAND, **keys: Any) -> Job:
    """Make a job; the keys count as written by the user."""
    source = source or Provenance(written=set(keys))
    path = keys.get("rank_table_file")
    given = read_table(path) if path else None
    return Job(JobConfig(**keys), source, tuple(command), "job-1", "/r/runs/job-1", "/r", given=given)


def order(made: Job, layout: Layout, environ: Any = None, shared: bool = False, **values: Any) -> Any:
    """Make the order to the hosts of a layout."""
    return make_order(made, layout, environ or {}, [shared] * len(layout.hosts), 1 << 16, **values)


def laid_out(hosts: Sequence[HostFacts], given: Sequence[str] = (), **keys: Any) -> Layout:
    """Lay a job out over hosts."""
    return lay_out(job(**keys), hosts, given)
