"""Which devices and which backend a launch gets, and how this host is found in a given table."""

from __future__ import annotations

import json
import os
import socket
from pathlib import Path
from typing import Callable

import pytest

from launcher.errors import PreflightError, UsageError
from launcher.plan.devices import parse_devices
from launcher.plan.placement import choose_inventory, given_table
from launcher.plan.this_host import own_server
from rank_table.table import RankTable
from tests.rank_table.conftest import FakeHost, read
from tests.rank_table.documents import cloud, v1
from tests.rank_table.test_host import a2

# Seven levels of a list with nine aliases of the level below it: five million values in 400 characters.
BOMB = "a: &a0 [x]\n" + "".join(
    f"b{n}: &a{n + 1} [{', '.join([f'*a{n}'] * 9)}]\n" for n in range(7)
)


def choose(host: FakeHost, devices: str, backend: str, file: str = "", **environ: str):  # type: ignore[no-untyped-def]
    return choose_inventory(parse_devices(devices), backend, file, host.machine(environ))


def test_a_machine_without_npus_gets_virtual_devices_and_one_line_that_says_why(host: FakeHost) -> None:
    selection = choose(host, "0,5", "auto")
    assert selection.backend == "cpu"
    assert [(d.device_id, d.logical_id) for d in selection.inventory.hosts[0].devices] == [(0, 0), (5, 1)]
    assert len(selection.notes) == 1 and "no NPU here" in selection.notes[0]


def test_virtual_devices_are_on_this_host_by_its_own_name_without_a_look_up(
    host: FakeHost, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*arguments: object) -> None:
        raise AssertionError("looks a name up")

    for name in ("getaddrinfo", "gethostbyname", "create_connection"):
        monkeypatch.setattr(socket, name, refuse)
    one, eight = (choose(host, devices, "cpu").inventory for devices in ("0", "0-7"))
    assert one.hosts[0].server_id == eight.hosts[0].server_id == socket.gethostname()[:64]


def test_auto_takes_the_npus_that_are_here_and_says_so_in_one_line(host: FakeHost, samples: Path) -> None:
    a2(host, samples)
    selection = choose(host, "2,3", "auto", XDL_IP="10.0.0.1")
    assert selection.backend == "npu"
    assert "backend npu: 8 NPUs here (/dev/davinci0-7)" in selection.notes
    assert [d.device_ip for d in selection.inventory.hosts[0].devices] == [
        "192.170.100.102",
        "192.170.100.103",
    ]


def test_cpu_stays_cpu_on_a_machine_with_npus(host: FakeHost, samples: Path) -> None:
    a2(host, samples)
    selection = choose(host, "0-1", "cpu")
    assert selection.backend == "cpu" and selection.notes == ()
    assert host.calls("npu-smi") == ""


def test_npus_that_are_not_there_stop_the_launch_with_what_to_do(host: FakeHost) -> None:
    with pytest.raises(PreflightError, match="backend=cpu"):
        choose(host, "0", "npu")


def test_a_device_that_is_not_there_is_named_with_those_that_are(host: FakeHost) -> None:
    host.nodes(4)
    with pytest.raises(PreflightError, match=r"--devices 0: no device 0 on .*, which has 4"):
        choose(host, "0", "npu")


def test_an_unknown_backend_is_refused(host: FakeHost) -> None:
    with pytest.raises(UsageError, match=r"unknown backend 'gpu' .expected cpu, npu, auto"):
        choose(host, "0", "gpu")


def test_an_inventory_file_gives_hosts_and_devices_and_auto_only_the_backend(
    host: FakeHost, tmp_path: Path
) -> None:
    path = tmp_path / "inventory.yaml"
    path.write_text(
        "hosts:\n- {server_id: h1, chip: A2, devices: [0, {device_id: 1, device_ip: 10.0.0.1}]}\n"
        "- {server_id: h2, chip: A2, devices: [0, 1]}\n"
    )
    selection = choose(host, "1", "auto", str(path))
    assert selection.backend == "cpu"
    assert [(h.server_id, [d.device_id for d in h.devices]) for h in selection.inventory.hosts] == [
        ("h1", [1]),
        ("h2", [1]),
    ]
    assert choose(host, "0", "npu", str(path)).backend == "npu"  # the file says what is there


@pytest.mark.parametrize(
    "text, said",
    [
        ("", "hosts: missing"),
        ("hosts: 3", "hosts: missing"),
        ("hosts: [{devices: [0]}]", "expected server_id"),
        ("hosts: [{server_id: a, devices: [x]}]", r"hosts\[0\].devices\[0\]: device_id"),
        ("hosts: [{server_id: a, devices: [true]}]", "device_id: invalid number"),
        ("hosts: [{server_id: a, devices: [0, 0]}]", "also that of"),
        ("hosts: [{server_id: a, devices: [0]}, {server_id: a, devices: [0]}]", "duplicate a"),
        ("hosts: [{server_id: a, chip: A9, devices: [0]}]", "chip: A9"),
        ("hosts: [{server_id: a, devises: [0], devices: [0]}]", "devises: unknown key"),
        ("hosts: [{server_id: a, devices: [{device_id: 0, logical_id: x}]}]", "logical_id: 'x'"),
        ("hosts: [", "invalid YAML"),
        ('{"hosts": [', "invalid YAML"),
        ("{" * 5000, "invalid YAML"),
        ("[" * 5000, "invalid YAML"),
        ("hosts: 2026-02-31", "invalid YAML"),
        ("hosts: &a\n- {server_id: x, devices: *a}", "nested too deeply"),
        ("hosts: " + "[" * 100 + "]" * 100, "nested too deeply"),
        (BOMB, "more than 500,000 values"),
        ('{"hosts": ' + "1" * 100_000 + "}", "a number of 100000 digits"),
        ("hosts: [{server_id: [a], devices: [0]}]", "server_id: invalid"),
        ("hosts: [{server_id: a, host_ip: {b: c}, devices: [0]}]", "host_ip: invalid"),
        ("hosts:\n" + "- {server_id: a, devices: [0]}\n" * 20_000, "longer than 512 KiB"),
        ("hosts: [{server_id: a, devices: [1]}]", "no device 0"),
    ],
)
def test_a_broken_inventory_file_is_named_with_the_place(
    host: FakeHost, tmp_path: Path, text: str, said: str
) -> None:
    path = tmp_path / "inventory.yaml"
    path.write_text(text)
    with pytest.raises(UsageError, match=said) as caught:
        choose(host, "0", "cpu", str(path))
    assert str(caught.value).startswith(str(path))
    with pytest.raises(UsageError, match="No such file"):
        choose(host, "0", "cpu", str(path) + ".not")


@pytest.mark.parametrize("make", [os.mkfifo, os.mkdir], ids=["fifo", "folder"])
def test_what_is_no_inventory_file_is_named_at_once(
    host: FakeHost, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, make: Callable[[str], None]
) -> None:
    monkeypatch.setattr("rank_table.files.PATIENCE", 0.05)
    make(str(tmp_path / "hosts.yaml"))
    with pytest.raises(UsageError, match=r"hosts.yaml: a (pipe into which nothing|folder)"):
        choose(host, "0", "cpu", str(tmp_path / "hosts.yaml"))


def given(host: FakeHost, path: Path, document: object, **environ: str):  # type: ignore[no-untyped-def]
    path.write_text(json.dumps(document))
    return given_table(str(path), "auto", host.machine(environ), 0)


def test_a_given_table_is_used_unchanged_and_this_host_is_found_in_it(
    host: FakeHost, tmp_path: Path
) -> None:
    taken = given(host, tmp_path / "hccl.json", v1(2, 2), XDL_IP="10.0.0.2")
    assert (taken.server_id, taken.backend, taken.text) == ("10.0.0.2", "cpu", json.dumps(v1(2, 2)))
    assert taken.logical_ids[("10.0.0.2", 1)] == 1


def test_a_given_table_has_physical_ids_and_the_environment_gets_logical_ones(
    host: FakeHost, tmp_path: Path
) -> None:
    host.nodes(4, 6)
    document = v1(1, 2)
    for device, number in zip(document["server_list"][0]["device"], ("4", "6")):
        device["device_id"] = number
    taken = given(host, tmp_path / "hccl.json", document)
    assert taken.backend == "npu"
    assert taken.logical_ids == {("10.0.0.1", 4): 0, ("10.0.0.1", 6): 1}


def test_a_table_that_is_not_completed_in_time_is_a_preflight_error(host: FakeHost, tmp_path: Path) -> None:
    with pytest.raises(PreflightError, match="status initializing after 0 s"):
        given(host, tmp_path / "hccl.json", {"status": "initializing"})
    with pytest.raises(UsageError, match="no such file"):
        given_table(str(tmp_path / "no" / "hccl.json"), "cpu", host.machine(), 0)
    with pytest.raises(UsageError, match="rank-table check"):
        given(host, tmp_path / "hccl.json", {"status": "completed"})


def test_this_host_is_found_by_pod_address_host_name_or_the_addresses_of_its_npus(host: FakeHost) -> None:
    pods = RankTable.loads(json.dumps(cloud()))
    assert own_server(pods, host.machine({"POD_NAME": "job-1"})) == "10.0.0.2"
    document = v1(2, 2)
    document["server_list"][1]["container_ip"] = "172.16.0.9"
    table = RankTable.loads(json.dumps(document))
    assert own_server(table, host.machine({"POD_IP": "172.16.0.9"})) == "10.0.0.2"
    document["server_list"][1]["server_id"] = socket.gethostname()
    assert own_server(RankTable.loads(json.dumps(document)), host.machine()) == socket.gethostname()
    host.file("/etc/hccn.conf", "address_0=192.0.1.1\n")
    assert own_server(table, host.machine()) == "10.0.0.2"


def test_a_host_that_is_in_no_entry_of_the_table_is_refused_with_both_lists(host: FakeHost) -> None:
    with pytest.raises(PreflightError, match=r"none of the table's servers \(10.0.0.1, 10.0.0.2\)"):
        own_server(RankTable.loads(json.dumps(v1(2, 2))), host.machine())


@pytest.mark.parametrize(
    "text, said",
    [
        ("", "empty"),
        ("0,0", "twice"),
        ("0-7,7", "twice"),
        ("8-3", "descending"),
        ("a", "invalid device; expected a list such as 0-7"),
        ("0,,1", "invalid device; expected a list such as 0-7"),
        ("-1", "invalid device; expected a list such as 0-7"),
        ("0-99999", "more than"),
        ("0-9999999999999", "invalid device; expected a list such as 0-7"),
        ("\u00b2", "invalid device; expected a list such as 0-7"),
    ],
)
def test_an_invalid_device_list_is_refused(text: str, said: str) -> None:
    with pytest.raises(UsageError, match=said):
        parse_devices(text)


def test_a_public_table_of_two_servers_can_be_given(host: FakeHost, tables: Path, tmp_path: Path) -> None:
    path = tmp_path / "hccl.json"
    path.write_text(read(tables / "valid-v1.0-2s16p.json"))
    taken = given_table(str(path), "cpu", host.machine({"HOST_IP": "10.136.181.173"}), 0)
    assert [rank.rank_id for rank in taken.table.ranks_of(taken.server_id)] == list(range(8, 16))
