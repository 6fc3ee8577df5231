"""The preflight on hosts made of folders and fake tools: tables, ports, programs, folders."""

from __future__ import annotations

import os
import re
import socket
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from launcher.checks import preflight
from launcher.config.job import JobConfig
from launcher.errors import PreflightError, UsageError
from launcher.plan.model import Plan, RankSpec
from launcher.plan.placement import choose_inventory, given_table, made_table
from rank_table.inventory import Device, Host
from rank_table.render import render
from rank_table.table import RankTable
from tests.launcher.fake_server import Server, errors, smi
from tests.launching import ROOT, launch
from tests.rank_table.conftest import FakeHost


@pytest.fixture
def server(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Server:
    return Server(FakeHost(tmp_path), monkeypatch, tmp_path)


def test_a_ready_server_has_no_finding(server: Server) -> None:
    assert server.check() == []


def test_a_job_for_npus_whose_python_has_no_torch_is_refused(server: Server) -> None:
    env = {"NPU_LAUNCH_FRAMEWORK": "torch", "NPU_LAUNCH_CWD": str(server.folder)}
    found = errors(server.check(server.plan(**env)))
    assert list(found) == ["framework"] and f"{sys.executable} has no torch" in found["framework"]
    assert server.check(server.plan(**env), skip=("ports", "disk", "framework")) == []


def test_case_73_devices_that_an_outer_variable_hides_are_refused(server: Server) -> None:
    machine = server.host.machine({"ASCEND_RT_VISIBLE_DEVICES": "4,5"})
    with pytest.raises(PreflightError, match=r"no device 0-1 .*4-5"):
        choose_inventory((0, 1), "npu", "", machine)
    found = choose_inventory((4, 5), "npu", "", machine).inventory.hosts[0].devices
    assert [(device.device_id, device.logical_id) for device in found] == [(4, 0), (5, 1)]


def test_case_73_an_inventory_file_that_contradicts_the_outer_variable_is_refused(server: Server) -> None:
    plan = server.plan((4, 5), ASCEND_RT_VISIBLE_DEVICES="4,5", PATH=str(server.host.bin))
    found = [f.what for f in server.check(plan, inventory="hosts.yaml") if f.name == "host"]
    assert "rank 0: device 4 has logical id 0 here, not 4" in found[0] and "rank 1" in found[1]


def test_case_74_a_stale_table_is_refused_with_what_the_host_has_now(server: Server) -> None:
    server.host.file("/etc/hccn.conf", "address_0=192.168.0.2\naddress_1=192.168.77.2\n")
    plan = server.plan(PATH=str(server.host.bin))
    found = errors(server.check(plan, rank_table_file="old.json"))
    assert list(found) == ["host"] and "192.168.77.2" in found["host"]


@pytest.mark.parametrize("address,says", [("-.-.-.-", "device_ip"), ("192.168.0.2", "192.168.0.2")])
def test_case_74_a_table_that_hccl_would_refuse_is_refused(server: Server, address: str, says: str) -> None:
    plan = server.plan()
    table = plan.rank_table_json.replace("192.168.1.2", address)
    found = errors(server.check(replace(plan, rank_table_json=table)))
    assert list(found) == ["rank-table"] and says in found["rank-table"]


def test_a_950_without_root_info_is_refused_with_what_is_missing(server: Server, tmp_path: Path) -> None:
    server.host.tool("npu-smi", {})
    machine = server.host.machine()
    with pytest.raises(PreflightError, match=r"hccl_rootinfo.json.*; /etc/hccl_rootinfo.json: no such file"):
        made_table(choose_inventory((0, 1), "npu", "", machine, "950"), machine)
    hosts = tmp_path / "hosts.yaml"
    hosts.write_text("hosts: [{server_id: h, chip: '950', devices: [0]}]")
    with pytest.raises(UsageError, match=r"hosts.yaml: device 0 of h: .*hccl_rootinfo.json"):
        made_table(choose_inventory((0,), "npu", str(hosts), machine), machine)


def test_a_variable_that_hides_devices_wrongly_is_the_users_error_with_a_given_table(
    server: Server, tmp_path: Path
) -> None:
    (tmp_path / "table.json").write_text(server.plan().rank_table_json)
    machine = server.host.machine({"ASCEND_VISIBLE_DEVICES": "3-1"})
    with pytest.raises(UsageError, match="ASCEND_VISIBLE_DEVICES=3-1"):
        given_table(str(tmp_path / "table.json"), "npu", machine)


def test_case_75_a_busy_port_is_named_with_its_holder_and_a_free_range_passes(server: Server) -> None:
    with socket.socket() as taken:
        taken.bind(("", 0))
        taken.listen(1)
        port = taken.getsockname()[1]
        base = min(port, 65520)
        found = errors(server.check(server.plan(HCCL_IF_BASE_PORT=str(base)), skip=("disk",)))
        assert f"port {port}" in found["ports"] and f"pid {os.getpid()}" in found["ports"]
        advised = re.search(r"set env: HCCL_IF_BASE_PORT=(\d+)", found["ports"])
        assert advised is not None and int(advised.group(1)) != base
        assert server.check(server.plan(HCCL_IF_BASE_PORT=advised.group(1)), skip=("disk",)) == []
    assert preflight.free_port(port)


@pytest.mark.parametrize(
    "framework, name", [("torch", "MASTER_PORT"), ("mindspore", "MS_SCHED_PORT"), ("paddle", "PADDLE_MASTER")]
)
def test_the_port_where_ranks_of_a_framework_meet_must_be_free(
    server: Server, framework: str, name: str
) -> None:
    with socket.socket() as taken:
        taken.bind(("", 0))
        taken.listen(1)
        port = taken.getsockname()[1]
        value = f"10.0.0.1:{port}" if name == "PADDLE_MASTER" else str(port)
        plan = replace(server.plan(NPU_LAUNCH_FRAMEWORK=framework, **{name: value}), backend="cpu")
        found = errors(server.check(plan, skip=("disk",)))["ports"]
        assert f"port {port} of {name} is in use" in found and found.endswith("; start again")
        own = errors(server.check(plan, skip=("disk",), env={name: value}))["ports"]
        assert own.endswith("; leave it out of env: for a free one")
        others = tuple(replace(spec, rank=spec.rank + 2) for spec in plan.ranks)  # rank 0's host has it
        assert server.check(replace(plan, ranks=others), skip=("disk",)) == []
    assert server.check(plan, skip=("disk",)) == []


@pytest.mark.parametrize(
    "framework, free, says",
    [
        ("tensorflow", False, "2 servers"), ("torch", False, "torch needs no table"), ("torch", True, ""),
        ("mindspore", False, "mindspore needs no table"), ("paddle", False, ""), ("none", False, "2 servers"),
    ],
)  # fmt: skip
def test_addresses_that_are_not_known_count_where_the_table_is_read(
    server: Server, framework: str, free: bool, says: str
) -> None:
    plan = server.plan(NPU_LAUNCH_FRAMEWORK=framework.replace("tensorflow", ""))
    hosts = [Host(f"10.0.0.{n}", (Device(0, 0),), chip="A2") for n in (1, 2)]
    plan = replace(plan, rank_table_json=render(RankTable.from_hosts(hosts)))
    found = server.check(plan, ("ports", "disk", "framework"), chip="A2", rank_table_free=free)
    assert {one.name for one in found if one.level == "error"} == ({"rank-table"} if says else set())
    assert all(says in str(one) for one in found) and bool(found) == bool(says)
    told = [one for one in found if one.todo]
    assert bool(told) == (framework in ("torch", "mindspore") and not free)


def test_a_rank_table_that_torch_npu_would_pass_over_is_named(server: Server, tmp_path: Path) -> None:
    (tmp_path / "table.json").write_text("{}")
    (tmp_path / "link.json").symlink_to("table.json")
    env = {"NPU_LAUNCH_FRAMEWORK": "torch", "NPU_LAUNCH_CWD": str(tmp_path)}
    skip = ("ports", "disk", "framework")
    [found] = server.check(server.plan(**env, RANK_TABLE_FILE=str(tmp_path / "link.json")), skip)
    assert found.level == "warning" and "is a symbolic link, which torch_npu passes over" in found.what
    assert server.check(server.plan(**env, RANK_TABLE_FILE=str(tmp_path / "table.json")), skip) == []


@pytest.mark.parametrize("value", ["80", "65521", "many", ""])
def test_case_75_a_base_port_that_hccl_refuses_is_refused(server: Server, value: str) -> None:
    found = errors(server.check(server.plan(HCCL_IF_BASE_PORT=value), skip=("disk",)))
    assert "HCCL_IF_BASE_PORT" in found["ports"]


def test_case_75_a_port_is_tried_on_hosts_with_ipv6_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    real = socket.socket

    def without_ipv4(family: int = -1, *rest: Any) -> socket.socket:
        if family == socket.AF_INET:
            raise OSError(97, "Address family not supported by protocol")
        return real(family, *rest)

    try:
        taken = real(socket.AF_INET6, socket.SOCK_STREAM)
        taken.bind(("::", 0))
    except OSError:
        pytest.skip("this machine has no IPv6")
    with taken:
        taken.listen(1)
        monkeypatch.setattr(socket, "socket", without_ipv4)
        assert not preflight.free_port(taken.getsockname()[1])


def test_case_75_a_launch_needs_no_route_and_no_name_service(tmp_path: Path) -> None:
    line = ["unshare", "-rn", sys.executable, "-m", "launcher", "--devices", "0-1", "--backend", "cpu"]
    done = subprocess.run(
        [*line, "--", "sh", "-c", "echo rank $RANK_ID"],
        cwd=str(tmp_path),
        env=dict(os.environ, PYTHONPATH=str(ROOT)),
        capture_output=True,
        text=True,
    )
    if "unshare failed" in done.stderr or "unshare: " in done.stderr:
        pytest.skip(f"no user namespaces here: {done.stderr.strip()}")
    assert done.returncode == 0 and "rank 1" in done.stdout, done.stderr


def test_all_findings_come_at_once_and_name_the_way_past_them(server: Server) -> None:
    server.health(["OK", "Alarm"] + ["OK"] * 6)
    plan = replace(server.plan((1, 9)), run_dir=str(server.host.bin / "npu-smi" / "job-1"))
    found = server.check(plan)
    assert list(errors(found)) == ["devices", "health", "files"]
    with pytest.raises(PreflightError) as caught:
        preflight.raise_if_any(found)
    lines = str(caught.value).splitlines()
    assert caught.value.exit_code == 78 and len(lines) == 4
    options = "--skip-preflight devices --skip-preflight health --skip-preflight files"
    assert lines[3].endswith(f"to start anyway, pass {options}")


def test_a_check_that_is_skipped_is_not_made_and_an_unknown_one_is_refused(server: Server) -> None:
    server.health(["Alarm"] * 8)
    assert server.check(skip=("health", "ports", "disk")) == []
    with pytest.raises(UsageError, match="'helth': no such check; did you mean health"):
        server.check(skip=("helth",))


def test_programs_and_folders_that_cannot_be_used_are_found_on_cpu_devices_too(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    spec = RankSpec(0, "h", 0, 0, 0, (str(tmp_path / "file"),), {}, str(tmp_path / "gone"))
    plan = Plan("job", "job-1", str(tmp_path / "file" / "runs" / "job-1"), "h", "cpu", "{}", (spec,))
    found = preflight.check(plan, JobConfig(), RankTable(()))
    messages = [finding.what for finding in found if finding.level == "error"]
    assert (
        "not executable" in messages[0] and "no such folder" in messages[1] and "not a folder" in messages[2]
    )


def test_a_full_disk_is_an_error_and_a_nearly_full_one_a_warning(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    spec = RankSpec(0, "h", 0, 0, 0, (sys.executable,), {}, str(tmp_path))
    plan = Plan("job", "job-1", str(tmp_path / "runs" / "job-1"), "h", "cpu", "{}", (spec,))
    free = os.statvfs(str(tmp_path)).f_bavail * os.statvfs(str(tmp_path)).f_frsize

    def levels() -> list[str]:
        return [f.level for f in preflight.check(plan, JobConfig(), RankTable(())) if f.name == "disk"]

    monkeypatch.setattr(preflight, "FEW_FREE", free * 2)
    assert levels() == ["warning"]
    monkeypatch.setattr(preflight, "LEAST_FREE", free * 2)
    assert levels() == ["error"]


def test_the_command_line_exits_78_with_every_finding_and_starts_nothing(tmp_path: Path) -> None:
    host = FakeHost(tmp_path)
    host.tool("npu-smi", {"info": smi(["Alarm", "OK"]), "info -m": ""})
    inventory = tmp_path / "hosts.yaml"
    inventory.write_text(
        "hosts:\n- server_id: 10.0.0.1\n  devices: [{device_id: 0, device_ip: 192.168.0.2}]\n"
    )
    words = ["--devices", "0", "--backend", "npu", "--inventory", str(inventory), "--", "true"]
    env = {"PATH": "{}{}{}".format(host.bin, os.pathsep, os.environ["PATH"])}
    done = launch(tmp_path, *words, env=env)
    assert done.returncode == 78, done.stderr
    assert "npu-launch: preflight: devices: no /dev/davinci0" in done.stderr
    assert "npu-launch: preflight: health: device 0 is Alarm" in done.stderr
    assert "Traceback" not in done.stderr and not (tmp_path / "runs").exists()


def test_the_root_info_of_another_generation_is_named(server: Server) -> None:
    server.host.file("/etc/hccl_rootinfo.json", "{}")
    (finding,) = server.check()
    assert (finding.name, finding.level) == ("rank-table", "warning")
    assert "which an Ascend 950 has and an A2 has not" in str(finding)
