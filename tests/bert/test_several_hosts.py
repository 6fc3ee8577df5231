"""Ranks on hosts with disks of their own: only the host of rank 0 has the run's checkpoints."""

from __future__ import annotations

import json
import os
import shutil
import signal
import socket
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from bert import predictor
from bert.checkpoints import store
from bert.cluster import Cluster
from bert.errors import TrainerError
from bert.stopping import AGAIN
from tests.bert.runs import MODEL, Job, losses, records, settings, step_batches, train
from tests.ports import free_ports

LOST = "no.such.host.invalid"
CONFIG = settings(num_train_steps=6, save_checkpoints_steps=3)


def _job(folder: Path, config: Any = CONFIG, servers: tuple[str, ...] = ("a", "b"), **options: Any) -> Job:
    first = free_ports(2)
    return Job(folder, config, 2, collective="grpc", first_port=first, servers=servers, **options)


def test_losses_are_those_of_one_host_and_only_rank_0_writes(tmp_path: Path) -> None:
    job = _job(tmp_path / "two")
    train(tmp_path / "one", CONFIG)
    assert job.wait() == [0, 0], job.output() + job.output(1)
    for rank in (0, 1):
        np.testing.assert_allclose(losses(tmp_path / "two", rank), losses(tmp_path / "one"), atol=1e-4)
    assert (tmp_path / "two" / "out-a" / "model.ckpt-6.json").exists()
    assert not (tmp_path / "two" / "out-b").exists()


def test_a_checkpoint_on_another_host_alone_is_never_passed_over(tmp_path: Path) -> None:
    (tmp_path / "out-b").mkdir()
    (tmp_path / "out-b" / "model.ckpt-40.json").write_text("{}")
    job = _job(tmp_path)
    assert job.wait() == [1, 1]
    for rank in (0, 1):
        assert ": no checkpoint on a, the host of rank 0, but one of step 40 on b;" in job.output(rank)
    assert not list((tmp_path / "out-a").glob("model.ckpt*"))


def test_a_newer_checkpoint_of_another_host_is_named_and_not_used(tmp_path: Path) -> None:
    assert _job(tmp_path, settings(num_train_steps=3)).wait() == [0, 0]
    (tmp_path / "out-b").mkdir()
    (tmp_path / "out-b" / "model.ckpt-40.json").write_text("{}")
    job = _job(tmp_path)
    assert job.wait() == [0, 0], job.output()
    assert "at step 3 of 6" in job.output() and "b has a checkpoint of step 40 in" in job.output()


def test_on_a_shared_disk_a_damaged_checkpoint_is_not_another_host_s(tmp_path: Path) -> None:
    assert _job(tmp_path, settings(num_train_steps=3)).wait() == [0, 0]
    (tmp_path / "out-b").symlink_to("out-a")
    (tmp_path / "out-a" / "model.ckpt-40.json").write_text("{}")
    job = _job(tmp_path)
    assert job.wait() == [0, 0], job.output()
    assert "at step 3 of 6" in job.output() and "using the one before" in job.output()
    assert "not used, as rank 0" not in job.output()


@pytest.mark.parametrize("servers", [("localhost", "localhost"), ("a", "b")])
def test_usr1_to_one_rank_saves_on_all_and_the_run_goes_on_exactly(
    tmp_path: Path, servers: tuple[str, ...]
) -> None:
    config = settings(num_train_steps=400)
    job = _job(tmp_path, config, servers)
    job.until(3)
    os.kill(job.processes[1].pid, signal.SIGUSR1)
    assert job.wait() == [AGAIN, AGAIN] == [75, 75], job.output()
    saved, _ = store.newest(str(tmp_path / ("out-a" if servers[0] == "a" else "out")))
    assert saved is not None and saved.step == max(records(tmp_path)) == max(records(tmp_path, 1))
    assert f"SIGUSR1: saved {saved.prefix} at step {saved.step}; to continue" in job.output()
    again, whole = _job(tmp_path, config, servers), _job(tmp_path / "whole", config, servers)
    assert (again.wait(), whole.wait()) == ([0, 0], [0, 0]), again.output()
    assert f"at step {saved.step} of 400" in again.output()
    np.testing.assert_allclose(losses(tmp_path), losses(tmp_path / "whole"), rtol=1e-6)


def test_sigterm_beats_usr1(tmp_path: Path) -> None:
    job = _job(tmp_path, settings(num_train_steps=100000), ("localhost", "localhost"))
    job.until(3)
    for rank, number in ((0, signal.SIGUSR1), (1, signal.SIGTERM)):
        os.kill(job.processes[rank].pid, signal.SIGSTOP)
        os.kill(job.processes[rank].pid, number)
    for process in job.processes:
        os.kill(process.pid, signal.SIGCONT)
    assert set(job.wait()) <= {143, AGAIN}, job.output()


def _predict(rank: int, folder: str, port: int, answers: Any) -> None:
    os.environ.update(NPU_LAUNCH_GRPC_PORT=str(port), OMP_NUM_THREADS="1")
    from bert import backend as backends

    cluster = Cluster(rank=rank, size=2, servers=("a", "b"), addresses=("127.0.0.1",) * 2)
    backend = backends.create(cluster, "cpu", collective="grpc")
    batch = next(step_batches(1))
    given = {name: batch[name] for name in ("input_ids", "input_mask", "segment_ids")}
    prefix = os.path.join(folder, "ab"[rank], "model.ckpt-2")
    found = [part.tolist() for part in next(predictor.predict(MODEL, prefix, iter([given]), backend))]
    answers.put((rank, found))
    backend.barrier()
    backend.close()


@pytest.mark.parametrize("held", ["none", "another"])
def test_a_host_without_the_checkpoint_predicts_with_rank_0_s(tmp_path: Path, held: str) -> None:
    """Also if it has one of the same name from an earlier run."""
    from tests.forked import context

    train(tmp_path / "run", settings(num_train_steps=2))
    shutil.copytree(str(tmp_path / "run" / "out"), str(tmp_path / "a"))
    if held == "another":
        train(tmp_path / "other", settings(num_train_steps=2, learning_rate=0.5))
        shutil.copytree(str(tmp_path / "other" / "out"), str(tmp_path / "b"))
    made = context()
    answers, port = made.Queue(), free_ports(2)
    ranks = [
        made.Process(target=_predict, args=(rank, str(tmp_path), port, answers), daemon=True)
        for rank in (0, 1)
    ]
    for process in ranks:
        process.start()
    found = dict(answers.get(timeout=60) for _ in ranks)
    for process in ranks:
        process.join(30)
        process.kill()
    np.testing.assert_array_equal(found[0], found[1])


def _environ(folder: Path, hosts: Any) -> dict[str, str]:
    from rank_table.inventory import Device, Host
    from rank_table.render import render
    from rank_table.table import RankTable

    table = RankTable.from_hosts([Host(name, (Device(0, 0, ""),)) for name in ("node-a", "node-b")])
    (folder / "table.json").write_text(render(table))
    if hosts is not None:
        (folder / "hosts.json").write_text(hosts if isinstance(hosts, str) else json.dumps(hosts))
    names = {"RANK_TABLE_FILE": str(folder / "table.json"), "RANK_ID": "1"}
    return {**names, "NPU_LAUNCH_RUN_DIR": str(folder)}


def test_addresses_come_from_the_launcher_s_hosts_and_else_from_the_table(tmp_path: Path) -> None:
    alone = Cluster.from_environ(_environ(tmp_path, None))
    assert alone.several_hosts and alone.addresses == () and not alone.shares_disk
    hosts = [
        {"server_id": "node-b", "address": "10.0.0.2", "shared": True},
        {"server_id": "node-a", "address": "fd00::1", "shared": True},
    ]
    found = Cluster.from_environ(_environ(tmp_path, hosts))
    assert found.addresses == ("fd00::1", "10.0.0.2") and found.shares_disk
    hosts[1]["shared"] = False  # rank 0 is there, and the launcher's head on the other's disk
    assert not Cluster.from_environ(_environ(tmp_path, hosts)).shares_disk


@pytest.mark.parametrize("hosts", ["[", "{}", [], [{"server_id": "node-a"}], "[" * 5000, "7"])
def test_a_damaged_list_of_hosts_is_one_line(tmp_path: Path, hosts: Any) -> None:
    with pytest.raises(TrainerError, match=r"hosts.json: no list of hosts with .*; start the ") as told:
        Cluster.from_environ(_environ(tmp_path, hosts))
    assert "\n" not in str(told.value)


def test_an_address_that_is_not_found_is_named_with_its_ranks() -> None:
    from bert.backend.collective import grpc

    with pytest.raises(TrainerError, match=r"the address no\.such\.host\.invalid of ranks 1-2,4 cannot be"):
        grpc.check([f"{host}:9" for host in ("127.0.0.1", LOST, LOST, "127.0.0.1", LOST)], 0)


def test_a_port_in_use_is_named(tmp_path: Path) -> None:
    with socket.socket() as other:
        other.bind(("", 0))
        other.listen(1)
        port = other.getsockname()[1]
        job = Job(tmp_path, CONFIG, 2, collective="grpc", first_port=port - 1, servers=("a", "b"))
        job.processes[1].join(60)
        job.kill()
    assert job.processes[1].exitcode == 1
    assert f"port {port} of rank 1 on {socket.gethostname()}: Address already in use; end" in job.output(1)
