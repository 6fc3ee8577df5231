"""A job on one host, fitted to what the site has given it there: a node of Slurm, or a pod by itself."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Mapping

from launcher.config.job import JobConfig, Provenance
from launcher.engines.choose import INSIDE

if TYPE_CHECKING:
    from rank_table.sources.tools import Machine


def fitted(
    config: JobConfig, source: Provenance, environ: Mapping[str, str], machine: Machine | None = None
) -> JobConfig:
    """Return the job with the devices of this host that are its own; in a pod with its run folder, too.

    machine: this one, for tests.
    """
    if INSIDE in environ:
        return config
    if environ.get("NPU_LAUNCH_HOST_COUNT") == "1" and environ.get("NPU_LAUNCH_JOB"):
        source.written.discard("devices")  # it was their number; the cluster has chosen which
        config = replace(config, run_id=config.run_id or environ["NPU_LAUNCH_JOB"])
        return _with_devices(config, _visible(config, environ, machine))
    if environ.get("SLURM_JOB_ID") and "devices" not in source.written:
        return _with_devices(config, _of_slurm(environ))
    return config


def _with_devices(config: JobConfig, devices: str) -> JobConfig:
    """Set the devices where they are known, and no rank table says them."""
    return replace(config, devices=devices) if devices and not config.rank_table_file else config


def _visible(config: JobConfig, environ: Mapping[str, str], machine: Machine | None) -> str:
    """List the NPUs that this pod sees; "" for none, and where it asks for CPUs."""
    if config.backend == "cpu":
        return ""
    from rank_table.ranges import spell
    from rank_table.sources import host
    from rank_table.sources.tools import Machine

    return spell(host.present(machine or Machine(environ))[0])


def _of_slurm(environ: Mapping[str, str]) -> str:
    """Return this node's NPUs as Slurm has given them; "" where it does not say."""
    from launcher.engines import slurm

    nodes = slurm.nodes(environ)
    name = environ.get("SLURMD_NODENAME") or (nodes[0] if len(nodes) == 1 else "")
    found = slurm.devices_of((name,), environ["SLURM_JOB_ID"], environ) if name else ()
    return "".join(found)
