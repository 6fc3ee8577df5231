"""Which engine a job gets."""

from __future__ import annotations

from typing import Any

import pytest

from launcher.config.job import JobConfig
from launcher.engines import choose, mpi, slurm
from launcher.errors import UsageError

NODES = {"SLURM_JOB_ID": "7", "SLURM_JOB_NUM_NODES": "2", "SLURM_JOB_NODELIST": "node[1-2]"}
ONE = {"SLURM_JOB_ID": "7", "SLURM_JOB_NUM_NODES": "1", "SLURM_JOB_NODELIST": "node1"}


@pytest.mark.parametrize(
    ("keys", "environ", "name"),
    [
        ({}, {}, None),
        ({}, NODES, "slurm"),
        ({}, ONE, None),
        ({"engine": "slurm"}, NODES, "slurm"),
        ({"engine": "slurm"}, ONE, None),  # an allocation of one node is one host
        ({"engine": "local"}, NODES, None),
        ({}, {**NODES, "NPU_LAUNCH_RUN_DIR": "/runs/a"}, None),  # in a rank
        ({"hosts": ["a", "b"]}, {}, "mpi"),
        ({"hosts": ["a", "b"]}, NODES, "mpi"),
        ({"hostfile": "hosts"}, {}, "mpi"),
    ],
)
def test_the_engine_is_that_of_the_job_or_of_the_allocation(
    monkeypatch: pytest.MonkeyPatch, keys: dict[str, Any], environ: dict[str, str], name: str | None
) -> None:
    class Found:
        name = "mpi"

    monkeypatch.setattr(mpi, "Mpi", lambda config, environ: Found())
    monkeypatch.setattr(slurm, "require_tools", lambda: None)
    monkeypatch.setattr(slurm, "devices_of", lambda *about: ())
    found = choose.chosen(JobConfig(**keys), environ)
    assert (found.name if found else None) == name


@pytest.mark.parametrize(
    ("keys", "text"),
    [
        ({"engine": "slurm", "hosts": ["a"]}, "hosts: not possible with engine: slurm (expected mpi)"),
        ({"engine": "local", "hostfile": "f"}, "hostfile: not possible with engine: local (expected mpi)"),
    ],
)
def test_hosts_go_with_mpi_alone(keys: dict[str, Any], text: str) -> None:
    with pytest.raises(UsageError) as error:
        choose.chosen(JobConfig(**keys), {})
    assert str(error.value).startswith(text)
