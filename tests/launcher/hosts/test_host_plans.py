"""One plan over several hosts: ranks in order, an address of each host, each with its own environment."""

from __future__ import annotations

import json
import os
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from launcher.checks.host_facts import collect
from launcher.config.job import JobConfig, Provenance
from launcher.errors import LauncherError, PreflightError, ReadError, UsageError
from launcher.plan import dry_run, host_environ, several
from launcher.plan.host_facts import HostFacts
from launcher.plan.host_plan import host_plan, read_table, to_head
from launcher.plan.model import Plan
from launcher.plan.order import Order
from launcher.text import MOST_NAMED
from tests.launcher.hosts.several import COMMAND, facts, job, laid_out, order, with_npus

PATH = {"PATH": os.environ["PATH"]}


def test_ranks_follow_the_hosts_in_the_engines_order() -> None:
    layout = laid_out([facts(1), facts(0)], backend="cpu", devices="0,2")
    assert [(r.rank_id, r.server_id, r.device_id) for r in layout.table.ranks] == [
        (0, "node1", 0), (1, "node1", 2), (2, "node2", 0), (3, "node2", 2)
    ]  # fmt: skip
    assert [(host.index, host.address) for host in layout.hosts] == [(0, "10.0.0.1"), (1, "10.0.0.2")]
    assert layout.ranks(1) == (2, 3) and layout.servers == ("node1", "node2")


def test_the_engine_may_give_each_host_other_devices() -> None:
    hosts = [with_npus(0, range(8)), with_npus(1, range(8))]
    layout = laid_out(hosts, ["0-1", "6-7"], backend="npu")
    assert [r.device_id for r in layout.table.ranks] == [0, 1, 6, 7]
    layout = laid_out(hosts, ["0-1", "6-7"], backend="npu", devices="3")
    assert [r.device_id for r in layout.table.ranks] == [3, 3]


def test_without_any_word_on_devices_all_npus_of_a_host_are_taken() -> None:
    layout = laid_out([with_npus(0), with_npus(1)], backend="auto")
    assert (layout.backend, layout.table.world_size) == ("npu", 4)
    assert layout.notes == ("backend npu: every host has NPUs",)
    assert (
        laid_out([facts(0), facts(1)], backend="auto").notes[0].startswith("backend cpu: no host has an NPU")
    )


REFUSED: list[tuple[list[HostFacts], dict[str, Any], str]] = [
    ([with_npus(0), facts(1)], {"backend": "auto"}, "backend auto: no NPU on node2; mount the devices"),
    ([facts(0), facts(1)], {"backend": "npu"}, "backend npu: no NPU on node1, node2; mount"),
    (
        [with_npus(0), with_npus(1, (0,)), with_npus(2)],
        {"backend": "npu"},
        "numbers of devices differ: node1, node3: 2; node2: 1 (expected as many on every host)",
    ),
    (
        [with_npus(0), with_npus(1, chip="A3")],
        {"backend": "npu"},
        "chips differ: node1: A2; node2: A3 (expected one generation)",
    ),
    (
        [with_npus(0), with_npus(1, server_id="10.0.0.1")],
        {"backend": "npu"},
        "node1, node2: all have the server_id 10.0.0.1 (each needs its own",
    ),
    ([with_npus(0), with_npus(1)], {"devices": "7"}, "node1: no device 7 on 10.0.0.1, which has 0-1"),
    ([facts(0, problem="ASCEND_VISIBLE_DEVICES: x"), facts(1)], {}, "node1: ASCEND_VISIBLE_DEVICES: x"),
    ([facts(0), facts(1, addresses=())], {}, "node2: no address but loopback, at which no other host"),
    (
        [facts(0), facts(1, "10.0.0.1/24")],
        {},
        "node1, node2: all have the address 10.0.0.1; name the network",
    ),
    (
        [facts(0), facts(1)],
        {"interfaces": ["10.9.0.0/16"]},
        "interfaces: node1: no address in 10.9.0.0/16; it has 10.0.0.1/24 (eth0)",
    ),
]


@pytest.mark.parametrize("hosts,keys,message", REFUSED)
def test_hosts_that_cannot_train_together_are_named(
    hosts: list[HostFacts], keys: dict[str, Any], message: str
) -> None:
    with pytest.raises(LauncherError) as caught:
        laid_out(hosts, **keys)
    assert message in str(caught.value) and all("node" in line for line in caught.value.lines)


def test_what_is_wrong_with_very_many_hosts_is_a_few_lines() -> None:
    with pytest.raises(LauncherError) as caught:
        laid_out([with_npus(n) for n in range(99)], backend="npu", devices="7")
    assert len(caught.value.lines) == MOST_NAMED + 1
    assert caught.value.lines[-1] == "and 83 more lines like these"
    with pytest.raises(LauncherError, match=r"node1, node2, .*, node16 and 83 more; mount"):
        laid_out([facts(n) for n in range(99)], backend="npu")
    with pytest.raises(LauncherError, match=r"node16 and 83 more: all have the address 10.0.0.1; name"):
        laid_out([facts(n, "10.0.0.1/24") for n in range(99)], backend="cpu")


def test_hosts_of_one_machine_may_share_an_address_and_have_none() -> None:
    same = {"boot_id": "one"}
    hosts = laid_out([facts(0, "10.0.0.1/24", **same), facts(1, "10.0.0.1/24", **same)], backend="cpu").hosts
    assert [host.address for host in hosts] == ["10.0.0.1", "10.0.0.1"]
    hosts = laid_out([facts(n, **same, addresses=()) for n in (0, 1)], backend="cpu").hosts
    assert [host.address for host in hosts] == ["127.0.0.1", "127.0.0.1"]


@pytest.mark.parametrize(
    "first,second,keys,expected",
    [
        (("172.17.0.1/16", "10.0.0.1/24"), ("172.17.0.1/16", "10.0.0.2/24"), {}, ["10.0.0.1", "10.0.0.2"]),
        (("192.168.1.1/24", "10.0.0.1/24"), ("192.168.2.1/24", "10.0.0.2/24"), {}, ["10.0.0.1", "10.0.0.2"]),
        (("fd00::1/64", "10.0.0.1/24"), ("fd00::2/64", "10.0.0.2/24"), {}, ["10.0.0.1", "10.0.0.2"]),
        (("fd00::1/64",), ("fd00::2/64",), {}, ["fd00::1", "fd00::2"]),
        (("10.0.0.1/24", "10.5.0.1/24"), ("10.0.0.2/24", "10.5.0.2/24"), {"interfaces": ["eth1"]},
         ["10.5.0.1", "10.5.0.2"]),
        (("10.0.0.1/24", "10.5.0.1/24"), ("10.0.0.2/24", "10.5.0.2/24"), {"interfaces": ["10.5.0.0/24"]},
         ["10.5.0.1", "10.5.0.2"]),
        (("10.0.0.1/24",), ("10.7.0.1/24",), {}, ["10.0.0.1", "10.7.0.1"]),
    ],
)  # fmt: skip
def test_addresses_are_those_of_a_network_between_the_hosts(
    first: Any, second: Any, keys: Any, expected: Any
) -> None:
    hosts = laid_out([facts(0, *first), facts(1, *second)], backend="cpu", **keys).hosts
    assert [host.address for host in hosts] == expected


def test_a_host_that_the_engine_names_by_its_address_is_reached_there() -> None:
    hosts = [replace(facts(n, f"10.0.0.{n}/24", f"10.5.0.{n}/24"), name=f"10.5.0.{n}") for n in (0, 1)]
    assert [host.address for host in laid_out(hosts, backend="cpu").hosts] == ["10.5.0.0", "10.5.0.1"]


INVENTORY = (
    "hosts:\n- {server_id: b, host_ip: 10.0.0.2, devices: [{device_id: 0}]}\n"
    "- {server_id: %s, devices: [{device_id: 1}]}\n"
)


def test_an_inventory_file_gives_the_order_of_the_ranks(tmp_path: Path) -> None:
    path = tmp_path / "hosts.yaml"
    path.write_text(INVENTORY % "node1")
    layout = laid_out([facts(0), facts(1)], backend="cpu", inventory=str(path))
    assert layout.table.servers == ("b", "node1") and layout.servers == ("node1", "b")
    assert layout.ranks(0) == (1,) and layout.notes == ()
    path.write_text(INVENTORY % "node1" + "notes: [made by hand]\n")
    assert laid_out([facts(0), facts(1)], backend="cpu", inventory=str(path)).notes == ("made by hand",)


def test_hosts_and_servers_of_a_file_must_be_the_same(tmp_path: Path) -> None:
    path = tmp_path / "hosts.yaml"
    path.write_text(INVENTORY % "nodeX")
    with pytest.raises(UsageError) as caught:
        laid_out([facts(0), facts(1)], backend="cpu", inventory=str(path))
    assert caught.value.lines == (
        f"{path}: nodeX: none of this job's hosts (node1, node2)",
        f"{path}: node1: not in it; it has b, nodeX",
    )


def test_a_rank_table_of_several_hosts_is_taken_as_it_is(tmp_path: Path) -> None:
    made = laid_out([with_npus(0), with_npus(1)], backend="npu")
    path = tmp_path / "hccl.json"
    path.write_text(made.text.replace('"10.0.0.1"', '"x"').replace('"10.0.0.2"', '"10.0.0.1"').replace(
        '"x"', '"10.0.0.2"'))  # fmt: skip
    layout = laid_out([with_npus(0), with_npus(1)], backend="npu", rank_table_file=str(path))
    assert layout.text == path.read_text() and layout.servers == ("10.0.0.1", "10.0.0.2")
    assert layout.ranks(0) == (2, 3)
    with pytest.raises(
        UsageError, match=r"devices: 0, but .* has devices 0-1 on 10.0.0.2; leave devices out"
    ):
        laid_out([with_npus(0), with_npus(1)], backend="npu", rank_table_file=str(path), devices="0")


def test_a_loopback_server_id_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "hosts.yaml"
    path.write_text((INVENTORY % "127.0.0.1").replace("server_id: b", "server_id: node1"))
    hosts = [facts(0), facts(1, aliases=("127.0.0.1",))]
    with pytest.raises(LauncherError, match=r"server_id 127.0.0.1: loopback, which means every host"):
        laid_out(hosts, backend="cpu", inventory=str(path))


def test_what_is_missing_of_a_host_s_devices_is_told_as_on_one_host(tmp_path: Path) -> None:
    note = "super_device_id: npu-smi: not found"
    hosts = [with_npus(n, notes=(note,)) for n in (0, 1)]
    layout = laid_out(hosts, backend="npu")
    planned = host_plan(order(job(backend="npu"), layout), hosts[1], PATH)
    assert note in planned.plan.notes and note not in layout.notes  # the head names the hosts that say it
    with pytest.raises(PreflightError, match=f"no local_id .*; {note}$"):
        laid_out([with_npus(n, chip="950", notes=(note,)) for n in (0, 1)], backend="npu")


def test_a_host_computes_the_ranks_of_its_own_only() -> None:
    hosts = [facts(0), facts(1, cores=tuple(range(8)))]
    layout = laid_out(hosts, backend="cpu", devices="0-1")
    given = order(job(backend="cpu", devices="0-1"), layout, {"LANG": "C", "PATH": "/head", "TOKEN": "t"})
    sent = Order.from_json(json.loads(json.dumps(given.to_json())))
    assert sent == given
    planned = host_plan(sent, hosts[1], {**PATH, "LANG": "de", "OMPI_COMM_WORLD_RANK": "1", "OWN": "1"})
    plan = planned.plan
    assert [spec.rank for spec in plan.ranks] == [2, 3] and plan.local_ranks == plan.ranks
    env = plan.ranks[1].env
    assert (env["RANK_ID"], env["RANK_SIZE"], env["LOCAL_RANK"], env["OMP_NUM_THREADS"]) == (
        "3",
        "4",
        "1",
        "4",
    )
    assert (env["LANG"], env["PATH"], env["TOKEN"], env["OWN"]) == ("C", PATH["PATH"], "t", "1")
    assert "OMPI_COMM_WORLD_RANK" not in env and "HCCL_IF_IP" not in env
    assert Plan.from_json(to_head(plan)) == replace(plan, rank_table_json="", hosts=())


def test_what_a_host_sends_does_not_grow_with_the_number_of_hosts() -> None:
    sizes = []
    for count in (2, 200):
        hosts = [facts(n, f"10.0.0.{n + 1}/16") for n in range(count)]
        given = order(job(backend="cpu", devices="0-7"), laid_out(hosts, backend="cpu", devices="0-7"))
        sizes.append(len(to_head(host_plan(given, hosts[1], PATH).plan)))
    assert sizes[1] < sizes[0] + 200


def test_the_head_joins_the_plans_of_all_hosts() -> None:
    hosts = [facts(n, cores=(0, 1)) for n in range(3)]
    made = job(backend="cpu", devices="0-1")
    layout = several.lay_out(made, hosts)
    parts = [host_plan(order(made, layout), host, PATH).plan for host in hosts]
    whole = several.whole_plan(
        made, layout, [Plan.from_json(to_head(part)) for part in parts], ["disk: shared"]
    )
    assert whole.ranks == tuple(spec for part in parts for spec in part.ranks)
    assert (whole.local_ranks, whole.notes, whole.hosts) == ((), ("disk: shared",), layout.hosts)
    assert Plan.from_json(whole.to_json()) == whole
    with pytest.raises(LauncherError, match="the ranks 0-3, not each of the table once"):
        several.whole_plan(made, layout, parts[:2])


def test_search_paths_that_hosts_lack_are_named() -> None:
    hosts = [facts(n) for n in range(2)]
    made = job(backend="cpu")
    layout = several.lay_out(made, hosts)
    outer = {"PYTHONPATH": "/x", "ASCEND_OPP_PATH": "/o", "MANPATH": "/m", "ASCEND_VISIBLE_DEVICES": "0"}
    parts = [
        host_plan(order(made, layout, outer), host, {**PATH, "ASCEND_OPP_PATH": "/own"}).plan
        for host in hosts
    ]
    (note,) = several.whole_plan(made, layout, parts, (), outer).notes
    assert note == "PYTHONPATH: set here, but not on node1, node2; ascend_env: or export: brings them there"
    exported = job(backend="cpu", export=["PYTHONPATH"])
    parts = [
        host_plan(order(exported, layout, {**PATH, **outer}), host, {**PATH, "ASCEND_OPP_PATH": "/own"}).plan
        for host in hosts
    ]
    assert several.whole_plan(exported, layout, parts, (), outer).notes == ()


def test_a_dry_run_shows_the_hosts_what_starts_them_and_how_they_differ() -> None:
    hosts = [facts(n, cores=(0, 1)) for n in range(2)]
    made = job(backend="cpu", devices="0-1")
    layout = several.lay_out(made, hosts)
    given = order(made, layout, {"API_TOKEN": "hush"})
    parts = [host_plan(given, host, {**PATH, "CANN_HOME": host.name}).plan for host in hosts]
    whole = several.whole_plan(made, layout, parts)
    lines = dry_run.as_lines(whole, PATH, ["srun", "npu-launch", "agent", "a b"])
    assert "1     node2  node2      10.0.0.2  2-3" in lines and "  srun npu-launch agent 'a b'" in lines
    at = lines.index("every rank of host node2 has")
    assert lines[at + 1] == "  CANN_HOME=node2" and "hush" not in "".join(lines)
    document = json.loads(json.dumps(dry_run.as_dict(whole, ["srun"])))
    assert document["engine"] == ["srun"] and document["hosts"][1]["address"] == "10.0.0.2"
    assert (
        document["ranks"][3]["env"]["CANN_HOME"] == "node2" and document["ranks"][3]["env"]["RANK_ID"] == "3"
    )


def test_an_address_of_the_head_never_reaches_another_host() -> None:
    hosts = [with_npus(0), with_npus(1)]
    layout = laid_out(hosts, backend="npu")
    given = order(job(backend="npu"), layout, {"HCCL_IF_IP": "10.0.0.1", "HCCL_BUFFSIZE": "200"})
    outer = {**PATH, "HCCL_IF_IP": "10.0.0.1"}
    env = host_plan(given, hosts[1], outer).plan.ranks[0].env
    assert (env["HCCL_IF_IP"], env["HCCL_BUFFSIZE"]) == ("10.0.0.2", "200")
    pod = {**outer, "KUBERNETES_SERVICE_HOST": "10.9.0.1"}
    assert "HCCL_IF_IP" not in host_plan(given, hosts[1], pod).plan.ranks[0].env
    assert host_plan(given, hosts[0], pod).plan.ranks[0].env["HCCL_IF_IP"] == "10.0.0.1"
    named = order(job(backend="npu", env={"HCCL_SOCKET_IFNAME": "eth0"}), layout)
    assert "HCCL_IF_IP" not in host_plan(named, hosts[1], PATH).plan.ranks[0].env


def test_gloo_gets_the_interface_of_its_hosts_address() -> None:
    hosts = [with_npus(index, port=21000) for index in (0, 1)]
    layout = laid_out(hosts, backend="npu", framework="torch")
    given = order(job(backend="npu", framework="torch"), layout)
    [name] = [name for name, item in hosts[1].interfaces if str(item.ip) == "10.0.0.2"]
    assert host_plan(given, hosts[1], PATH).plan.ranks[0].env["GLOO_SOCKET_IFNAME"] == name
    set_there = {**PATH, "GLOO_SOCKET_IFNAME": "bond0"}
    assert host_plan(given, hosts[1], set_there).plan.ranks[0].env["GLOO_SOCKET_IFNAME"] == "bond0"
    other = order(job(backend="npu", framework="tensorflow"), layout)
    assert "GLOO_SOCKET_IFNAME" not in host_plan(other, hosts[1], PATH).plan.ranks[0].env


def test_without_a_rank_table_the_chief_is_named_by_its_address_and_logical_id() -> None:
    hosts = [with_npus(0, (4, 5), server_id="server-a"), with_npus(1, server_id="server-b")]
    layout = laid_out(hosts, backend="npu", rank_table_free=True)
    given = order(job(backend="npu", rank_table_free=True), layout)
    env = host_plan(given, hosts[1], PATH).plan.ranks[0].env
    assert (env["CM_CHIEF_IP"], env["CM_WORKER_IP"], env["CM_CHIEF_DEVICE"]) == ("10.0.0.1", "10.0.0.2", "0")


def test_a_shared_disk_carries_the_table_and_its_sha256_is_looked_at(tmp_path: Path) -> None:
    hosts = [facts(0), facts(1)]
    made = replace(job(backend="cpu"), run_dir=str(tmp_path))
    layout = several.lay_out(made, hosts)
    given = order(made, layout, shared=True)
    assert given.table == "" and read_table(given) == ""
    with pytest.raises(LauncherError, match="the rank table is not the head's"):
        host_plan(given, hosts[0], PATH, read_table(given))
    (tmp_path / "rank_table.json").write_text(layout.text)
    assert host_plan(given, hosts[0], PATH, read_table(given)).plan.rank_table_json == layout.text


def test_hosts_json_says_where_each_rank_is() -> None:
    layout = laid_out([facts(0), facts(1)], backend="cpu", devices="0-1")
    assert layout.hosts_json({1: (5, 2)}, [True, False])[1] == {
        "index": 1, "name": "node2", "server_id": "node2", "address": "10.0.0.2", "ranks": "2-3",
        "clock_offset_ns": 5, "clock_error_ns": 2, "shared": False,
    }  # fmt: skip


@pytest.mark.parametrize(
    "keys,message",
    [
        ({"stdin_rank": 0}, "stdin_rank: not possible on several hosts"),
        ({"devices": "7-3"}, "--devices: 7-3: descending range"),
        ({"env": {"HCCL_IF_IP": "10.0.0.1"}}, "env.HCCL_IF_IP: one address for all hosts; remove it"),
    ],
)
def test_a_job_that_no_several_hosts_can_run_is_refused_before_any_agent(
    keys: dict[str, Any], message: str
) -> None:
    with pytest.raises(UsageError, match=message):
        several.prepare(JobConfig(**keys), Provenance(), COMMAND)


def test_what_is_carried_belongs_to_no_host() -> None:
    outer = {
        "LANG": "C", "HCCL_BUFFSIZE": "1", "TOKEN": "x", "SLURM_JOB_ID": "7", "PATH": "/b", "HOME": "/root",
        "LD_LIBRARY_PATH": "/l", "ASCEND_OPP_PATH": "/o", "SLURM_PROCID": "0", "PMIX_RANK": "0",
        "HCCL_IF_IP": "1", "SSH_CONNECTION": "x", "ASCEND_RT_VISIBLE_DEVICES": "0", "HOSTNAME": "h",
    }  # fmt: skip
    assert sorted(host_environ.carried(outer)) == ["HCCL_BUFFSIZE", "LANG", "SLURM_JOB_ID", "TOKEN"]
    assert "LD_LIBRARY_PATH" in host_environ.carried(outer, ["LD_LIBRARY_PATH"])


def test_facts_come_back_as_they_were_and_anything_else_is_refused() -> None:
    here = collect(3, "node4", os.environ)
    assert HostFacts.from_json(json.loads(json.dumps(here.to_json()))) == here
    assert (here.index, here.name, here.node) == (3, "node4", os.uname().nodename)
    assert not [text for _, text in here.addresses if text.startswith(("127.", "fe80", "::1"))]
    npus = with_npus(1, notes=("device_ip: no hccn.conf",))
    assert HostFacts.from_json(json.loads(json.dumps(npus.to_json()))) == npus
    for wrong in (
        None,
        [],
        {},
        {**here.to_json(), "addresses": [["eth0", "x"]]},
        {**here.to_json(), "npus": 3},
    ):
        with pytest.raises(ReadError, match="a host's facts: "):
            HostFacts.from_json(wrong)
    with pytest.raises(ReadError, match="the head's order: "):
        Order.from_json({"config": {"colour": 1}})


JSON = st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(), st.floats(allow_nan=False), st.text(max_size=5)),
    lambda inner: st.one_of(
        st.lists(inner, max_size=3), st.dictionaries(st.text(max_size=5), inner, max_size=3)
    ),
    max_leaves=6,
)
FIELDS = st.sampled_from(sorted(with_npus(0).to_json()))


@given(FIELDS, JSON)
def test_facts_with_a_field_of_anything_are_read_or_refused(name: str, value: Any) -> None:
    with suppress(ReadError):
        told = HostFacts.from_json({**with_npus(0).to_json(), name: value})
        assert told.names and HostFacts.from_json(json.loads(json.dumps(told.to_json()))) == told
