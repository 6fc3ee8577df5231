"""The collective of several hosts, here between processes of one."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from bert.backend import collective
from bert.backend.collective import grpc
from bert.cluster import Cluster
from bert.errors import TrainerError
from tests.bert.runs import Job, losses, settings
from tests.forked import Forked, wait_all
from tests.launching import ROOT
from tests.ports import free_ports

RANK = """
import os
import sys
import numpy as np
from bert.backend.collective.grpc import Grpc
from bert.backend.collective.shared_memory import CollectiveError
rank, mode, peers = int(sys.argv[1]), sys.argv[2], sys.argv[3:]
collective = Grpc(peers, rank, timeout=8 if mode == "dies" else 60)
if mode == "dies":
    if rank == 1:
        collective.barrier()  # once more: rank 0 has left its constructor then, and its next barrier fails
        os._exit(0)
    try:
        while True:
            collective.barrier()
    except CollectiveError as error:
        print("error", error, flush=True)
        os._exit(7)
total = collective.all_reduce_sum([np.full((2, 2), rank + 1, np.float32), np.arange(3, dtype=np.float32)])
print("sum", [part.tolist() for part in total])
noise = np.random.RandomState(rank).randn(100003).astype(np.float32)
print("bits", collective.all_reduce_sum([noise])[0].tobytes().hex()[:2000])
print("gather", collective.all_gather({"rank": rank, "text": "\\u00e4" * rank}) == [
    {"rank": peer, "text": "\\u00e4" * peer} for peer in range(len(peers))])
collective.barrier()
collective.close()
"""


def _run(ranks: int, mode: str, folder: Path) -> tuple[list[int], list[str]]:
    """Run RANK on some ranks; return their exit codes and what they wrote."""
    script = folder / "rank.py"
    script.write_text(RANK)
    first = free_ports(ranks)
    peers = [f"localhost:{port}" for port in range(first, first + ranks)]
    environ = {"PYTHONPATH": str(ROOT), "PATH": "/usr/bin:/bin"}
    started = [
        Forked([str(script), str(rank), mode, *peers], folder, environ, folder / f"rank_{rank}.log")
        for rank in range(ranks)
    ]
    return wait_all(started), [one.text() for one in started]


def _printed(text: str) -> list[str]:
    """Return what a rank printed itself."""
    return [line for line in text.splitlines() if line.startswith(("sum ", "bits ", "gather "))]


def test_ranks_get_the_same_sums_and_values_and_the_warning(tmp_path: Path) -> None:
    codes, texts = _run(2, "works", tmp_path)
    assert codes == [0, 0], texts
    lines = _printed(texts[0])
    assert lines == _printed(texts[1])
    assert lines[0] == "sum [[[3.0, 3.0], [3.0, 3.0]], [0.0, 2.0, 4.0]]" and lines[2] == "gather True"
    for rank, text in enumerate(texts):
        assert f"rank {rank} listens on port" in text and "block that port" in text


def test_a_peer_that_dies_is_an_error_and_no_hang(tmp_path: Path) -> None:
    codes, texts = _run(2, "dies", tmp_path)
    assert codes[0] == 7, texts
    assert "\nerror collective grpc, rank 0: " in texts[0]


def test_a_training_over_grpc_is_that_over_shared_memory(tmp_path: Path) -> None:
    config = settings(num_train_steps=3)
    job = Job(tmp_path / "grpc", config, 2, collective="grpc", first_port=free_ports(2))
    shared = Job(tmp_path / "shm", config, 2)
    assert (job.wait(), shared.wait()) == ([0, 0], [0, 0]), job.output() + shared.output()
    np.testing.assert_allclose(losses(tmp_path / "grpc"), losses(tmp_path / "shm"), rtol=1e-5)
    assert losses(tmp_path / "grpc") == losses(tmp_path / "grpc", rank=1)
    assert "block that port" in job.output(0) and "listens" not in shared.output(0)


def test_ranks_on_several_hosts_need_grpc_by_name() -> None:
    cluster = Cluster(rank=0, size=2, servers=("10.0.0.1", "10.0.0.2"))
    with pytest.raises(TrainerError, match=r"ranks are on 2 hosts, .* give --collective grpc"):
        collective.connect(cluster)


def test_addresses_come_from_the_rank_table_and_one_variable() -> None:
    servers = ("10.0.0.1", "10.0.0.1", "10.0.0.2")
    assert grpc.addresses(servers, {}) == ["10.0.0.1:30600", "10.0.0.1:30601", "10.0.0.2:30602"]
    assert grpc.addresses(servers[2:], {"NPU_LAUNCH_GRPC_PORT": "9"}) == ["10.0.0.2:9"]
