"""Ranks of MindSpore on NPUs: a rank table in the order that it wants, or its dynamic cluster."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from launcher.config.job import JobConfig, Provenance
from launcher.errors import ConfigError, PreflightError
from launcher.plan.host_plan import host_plan
from launcher.profiles import choice
from launcher.text import SCHEDULER
from tests.launcher.hosts.several import job, laid_out, order, with_npus
from tests.launching import launch

SERVERS = ("10.0.0.9", "10.0.0.10")
HOSTS = [with_npus(index, (4, 5), server_id=SERVERS[index], port=25000) for index in (0, 1)]
KEYS: dict[str, Any] = {"backend": "npu", "framework": "mindspore"}
NOTE = "rank 0 is on 10.0.0.10: MindSpore wants ranks in the text order of the server_id"
PATH = {"PATH": "/usr/bin:/bin"}


def test_hosts_are_numbered_in_the_text_order_of_the_server_id() -> None:
    layout = laid_out(HOSTS, **KEYS)
    assert layout.table.servers == ("10.0.0.10", "10.0.0.9") and layout.servers == ("10.0.0.9", "10.0.0.10")
    assert (layout.ranks(0), layout.ranks(1)) == ((2, 3), (0, 1)) and layout.meeting.address == "10.0.0.2"
    assert layout.notes == (f"hosts are numbered by server_id, {NOTE}",)
    again = laid_out([replace(HOSTS[1], index=0), replace(HOSTS[0], index=1)], **KEYS)
    assert again.table.servers == layout.table.servers and again.notes == ()


@pytest.mark.parametrize("keys", [{"framework": "tensorflow"}, {"rank_table_free": True}])
def test_where_mindspore_reads_no_table_hosts_keep_their_order(keys: dict[str, Any]) -> None:
    layout = laid_out(HOSTS, **{**KEYS, **keys})
    assert layout.table.servers == ("10.0.0.9", "10.0.0.10") and layout.notes == ()


def test_a_table_in_another_order_is_refused_with_what_to_do(tmp_path: Path) -> None:
    path = tmp_path / "table.json"
    path.write_text(laid_out(HOSTS, backend="npu").text)
    with pytest.raises(PreflightError) as caught:
        laid_out(HOSTS, rank_table_file=str(path), **KEYS)
    assert caught.value.lines == (
        f"rank_table_file: {path}: the ranks of server 10.0.0.10 come after those of 10.0.0.9 (expected the "
        "text order of the server_id, as MindSpore numbers them); number them so, or leave rank_table_file "
        "out, and one is made",
    )
    path.write_text(laid_out(HOSTS, **KEYS).text)
    assert laid_out(HOSTS, rank_table_file=str(path), **KEYS).ranks(0) == (2, 3)


def test_one_host_of_several_refuses_and_numbers_as_the_head_does(tmp_path: Path) -> None:
    path = tmp_path / "table.json"
    path.write_text(laid_out(HOSTS, backend="npu").text)
    words = ("backend=npu", "framework=mindspore", "--dry-run", "--json")
    run = ("--", "true")
    env = {"HOST_IP": "10.0.0.9"}
    done = launch(tmp_path, *words, f"rank_table_file={path}", *run, env=env)
    assert done.returncode == 78 and "come after those of 10.0.0.9 (expected" in done.stderr
    assert done.stderr.count("\n") == 1
    devices = "[{device_id: 0, device_ip: 10.1.0.%d}]"
    (tmp_path / "hosts.yaml").write_text(
        "hosts:\n"
        + f"- {{server_id: 10.0.0.9, devices: {devices % 1}}}\n"
        + f"- {{server_id: 10.0.0.10, devices: {devices % 2}}}\n"
    )
    done = launch(tmp_path, *words, "--devices", "0", "inventory=hosts.yaml", *run, env=env)
    assert done.returncode == 0, done.stderr
    plan = json.loads(done.stdout)
    assert [spec["server_id"] for spec in plan["ranks"]] == ["10.0.0.10", "10.0.0.9"]
    assert any(NOTE in note for note in plan["notes"])


def test_with_a_table_ranks_read_it_and_there_is_no_scheduler() -> None:
    layout = laid_out(HOSTS, **KEYS)
    plan = host_plan(order(job(**KEYS), layout), HOSTS[1], PATH).plan
    env = plan.ranks[0].env
    # MindSpore's tutorial gives DEVICE_ID to set_device, which takes logical ids: in a container 0, not 4.
    assert (env["RANK_ID"], env["RANK_SIZE"], env["DEVICE_ID"]) == ("0", "4", "0")
    assert env["RANK_TABLE_FILE"].endswith("/rank_table.json")
    assert plan.ranks[0].device_id == 4 and plan.scheduler is None
    assert not [name for name in env if name.startswith("MS_")]


def test_without_a_table_ranks_find_the_scheduler_of_rank_0_s_host() -> None:
    keys = {**KEYS, "rank_table_free": True}
    layout = laid_out(HOSTS, **keys)
    plans = [host_plan(order(job(**keys), layout), host, PATH).plan for host in HOSTS]
    envs = [spec.env for plan in plans for spec in plan.ranks]
    assert {env["MS_SCHED_HOST"] for env in envs} == {"10.0.0.1"} and "RANK_TABLE_FILE" not in envs[0]
    assert [(env["MS_ROLE"], env["MS_NODE_ID"], env["DEVICE_ID"]) for env in envs] == [
        ("MS_WORKER", "0", "0"), ("MS_WORKER", "1", "1"), ("MS_WORKER", "2", "0"), ("MS_WORKER", "3", "1"),
    ]  # fmt: skip
    scheduler = plans[0].scheduler
    assert plans[1].scheduler is None and scheduler is not None and scheduler.rank == SCHEDULER
    env = scheduler.env
    assert (env["MS_ROLE"], env["MS_SCHED_PORT"], env["MS_WORKER_NUM"]) == (
        "MS_SCHED", envs[3]["MS_SCHED_PORT"], "4",
    )  # fmt: skip
    assert env["RANK_ID"] == "0" and not {"MS_NODE_ID", "DEVICE_ID", "ASCEND_DEVICE_ID"} & set(env)


def test_a_framework_that_reads_no_table_refuses_the_key(tmp_path: Path) -> None:
    config = JobConfig(framework="paddle", rank_table_free=True)
    with pytest.raises(ConfigError, match="rank_table_free: paddle ranks read no rank table"):
        choice.settle(config, Provenance(), ["true"], str(tmp_path))
