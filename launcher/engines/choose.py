"""Which engine brings the hosts of a job; a job of one host costs no more than a look at the environment."""

from __future__ import annotations

from typing import TYPE_CHECKING, Mapping

from launcher.config.job import JobConfig
from launcher.errors import UsageError

if TYPE_CHECKING:
    from launcher.engines.base import Engine

INSIDE = "NPU_LAUNCH_RUN_DIR"  # set in a rank, which may start a launcher of its own


def chosen(config: JobConfig, environ: Mapping[str, str]) -> Engine | None:
    """Return the engine of a job; None: it runs on this host.

    Raises:
        UsageError: the engine is not to be had here, or `hosts` does not go with it.
    """
    named = bool(config.hosts or config.hostfile)
    engine = config.engine
    if engine == "auto":
        slurm = environ.get("SLURM_JOB_NUM_NODES", environ.get("SLURM_NNODES", ""))
        several = slurm.isdigit() and int(slurm) > 1 and INSIDE not in environ
        engine = "mpi" if named else "slurm" if several else "local"
    if named and engine != "mpi":
        key = "hosts" if config.hosts else "hostfile"
        raise UsageError(f"{key}: not possible with engine: {engine} (expected mpi); leave one of them out")
    if engine == "slurm":
        from launcher.engines.slurm import Slurm, require_tools

        require_tools()
        found = Slurm(environ)
        return found if len(found.allocation().hosts) > 1 else None
    if engine == "mpi":
        from launcher.engines.mpi import Mpi

        return Mpi(config, environ)
    return None
