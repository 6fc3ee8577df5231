"""Real engines on this host; a test whose tools are missing says how to install them."""

from __future__ import annotations

from pathlib import Path
from typing import Iterator

import pytest

from tests.engines import slurm_cluster, slurm_job


@pytest.fixture(scope="session")
def slurm_daemons(tmp_path_factory: pytest.TempPathFactory) -> Iterator[slurm_cluster.Cluster]:
    """Run a Slurm of four nodes, or skip."""
    missing = slurm_cluster.missing()
    if missing:
        pytest.skip(missing)
    cluster = slurm_cluster.Cluster(Path(tmp_path_factory.mktemp("slurm")))
    try:
        cluster.up()
        yield cluster
    finally:
        cluster.down()


@pytest.fixture()
def slurm(slurm_daemons: slurm_cluster.Cluster) -> Iterator[slurm_cluster.Cluster]:
    """Give a Slurm whose nodes are all idle, and cancel what a test leaves."""
    yield slurm_daemons
    for job in slurm_daemons.call("squeue", "-h", "-o", "%i").split():
        slurm_daemons.call("scancel", job)
    slurm_daemons.wait_idle()


@pytest.fixture()
def job(slurm: slurm_cluster.Cluster, tmp_path: Path) -> Iterator[slurm_job.Job]:
    """Give a run that a test starts, and kill what it leaves."""
    made = slurm_job.Job(slurm, tmp_path)
    yield made
    made.clear()
