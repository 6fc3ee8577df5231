"""The preflight of several hosts: what must be the same on all of them, and which host lacks what."""

from __future__ import annotations

import os
import re
import socket
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from launcher.checks import between_hosts, hosts
from launcher.checks.finding import ERROR, WARNING, Finding
from launcher.checks.host_facts import collect
from launcher.checks.host_report import report
from launcher.checks.preflight import ACROSS, BETWEEN, CHECKS, Subject, check
from launcher.config.job import JobConfig
from launcher.plan.host_plan import host_plan
from launcher.plan.planner import PlannedJob
from rank_table.sources.tools import Machine
from tests.launcher.fake_server import smi
from tests.launcher.hosts.several import COMMAND, facts, job, laid_out, order, with_npus
from tests.launcher.machines import server
from tests.launching import ROOT

SAME: dict[str, Any] = {
    "python": "3.9.1", "tensorflow": "2.6.5", "program": "abc", "problem": "",
    "scripts": {"a.py": "e"}, "files": {}, "hccl": {},
}  # fmt: skip
FACTS = [with_npus(n, driver="24.1", cann="8.0", tls={"0": "on"}) for n in range(3)]


def compared(changes: Any = (), found: Any = (), offsets: Any = (), backend: str = "npu") -> list[Finding]:
    """Compare three hosts, equal but for changes of facts and reports by index."""
    known = [replace(host, **dict(changes).get(host.index, {})) for host in FACTS]
    reports = {n: {**SAME, **dict(found).get(n, {})} for n in range(3)}
    return hosts.compare(known, dict(offsets), reports, backend)


def test_equal_hosts_give_no_finding() -> None:
    assert compared() == []


@pytest.mark.parametrize(
    "changes,found,check,level,text",
    [
        ({2: {"driver": "23.0"}}, {}, "versions", ERROR, "driver differs: node1, node2: 24.1; node3: 23.0"),
        ({0: {"cann": ""}}, {}, "versions", ERROR, "CANN differs: node2, node3: 8.0; node1: none"),
        ({1: {"launcher": "2"}}, {}, "versions", ERROR, "npu-launch differs: node1, node3: 1; node2: 2"),
        ({}, {1: {"python": "3.10.1"}}, "versions", ERROR, "Python differs: node1, node3: 3.9; node2: 3.10"),
        ({}, {1: {"tensorflow": ""}}, "versions", ERROR,
         "TensorFlow differs: node1, node3: 2.6.5; node2: none"),
        ({}, {0: {"torch": "2.7.1"}, 1: {"torch": "2.7.1"}, 2: {"torch": "2.6.0"}}, "versions", ERROR,
         "torch differs: node1, node2: 2.7.1; node3: 2.6.0"),
        ({}, {n: {"paddlepaddle_npu": f"3.{n // 2}"} for n in range(3)}, "versions", ERROR,
         "paddlepaddle_npu differs: node1, node2: 3.0; node3: 3.1"),
        ({}, {2: {"program": "d"}}, "program", ERROR, "its sha256 differs: node1, node2: abc; node3: d"),
        ({}, {0: {"scripts": {}}}, "program", ERROR,
         "a.py: its sha256 differs: node2, node3: e; node1: not there"),
        ({}, {0: {"files": {"/d/train.json": "5 bytes"}}}, "arguments", ERROR,
         "node2, node3: no /d/train.json, which other hosts have"),
        ({}, {0: {"files": {"/d": "folder"}}}, "arguments", WARNING, "node2, node3: no /d/, which"),
        ({}, {n: {"files": {"x": f"{n // 2} bytes"}} for n in range(3)}, "arguments", WARNING,
         "x differs: node1, node2: 0 bytes; node3: 1 bytes"),
        ({1: {"tls": {"0": "off"}}}, {}, "tls", ERROR, "switch differs: node1, node3: on; node2: off"),
        ({}, {0: {"hccl": {"HCCL_CONNECT_TIMEOUT": "9"}}}, "variables", ERROR,
         "HCCL_CONNECT_TIMEOUT differs: node2, node3: not set; node1: 9"),
        ({}, {0: {"hccl": {"HCCL_ALGO": "x"}}}, "variables", WARNING, "HCCL_ALGO differs"),
        ({1: {"addresses": (("eno1", "10.0.0.2/24"),)}}, {n: {"hccl": {"HCCL_SOCKET_IFNAME": "eth"}}
         for n in range(3)}, "interfaces", ERROR, "no interface eth (HCCL_SOCKET_IFNAME), but node2: eno1"),
    ],
)  # fmt: skip
def test_what_differs_is_named_with_its_hosts(
    changes: Any, found: Any, check: str, level: str, text: str
) -> None:
    findings = compared(changes, found)
    assert [(finding.name, finding.level) for finding in findings] == [(check, level)]
    assert text in str(findings[0])


def test_on_cpu_neither_driver_nor_hccl_matters() -> None:
    changes = {1: {"driver": "x", "cann": "y", "tls": {"0": "off"}}}
    assert compared(changes, {1: {"hccl": {"HCCL_ALGO": "x"}}}, backend="cpu") == []


def test_a_patch_release_of_python_may_differ() -> None:
    assert compared({}, {1: {"python": "3.9.7"}}) == []


def test_a_clock_more_than_a_second_off_is_told_and_no_error() -> None:
    found = compared(offsets={0: 999_000_000, 1: -12_300_000_000})
    assert [(finding.name, finding.level) for finding in found] == [("clock", WARNING)]
    assert "node2: its clock is 12.3 s behind the head's" in str(found[0])


def test_an_interpreter_that_does_not_answer_is_named_and_differs_from_nobody() -> None:
    nothing = {"python": "", "tensorflow": "", "program": "", "problem": "/x/python: no answer within 20 s"}
    found = compared({}, {1: nothing, 2: nothing})
    assert [(finding.name, finding.level) for finding in found] == [("versions", WARNING)]
    assert str(found[0]).startswith("node2, node3: /x/python: no answer within 20 s; run it there by hand")


def test_each_comparison_can_be_skipped() -> None:
    known = [replace(FACTS[0], driver="x"), FACTS[1]]
    reports = {0: {**SAME, "program": "d"}, 1: SAME}
    left = hosts.compare(known, {}, reports, "npu", ["versions"])
    assert [finding.name for finding in left] == ["program"]


@pytest.mark.parametrize(
    "wanted,fits",
    [("eth", True), ("eth0,eno1", True), ("=eth", False), ("=eth0", True), ("^eth", False), ("^eno", True),
     ("^=eth", True), ("bond0", False)],
)  # fmt: skip
def test_interface_names_are_read_as_hccl_reads_them(wanted: str, fits: bool) -> None:
    assert hosts._named(wanted, ["eth0"]) is fits


def test_what_several_hosts_say_is_told_once() -> None:
    lacks = ["error", "files", "/d/x: no such program"]
    said = {"node1": [["warning", "disk", "only 9 MB"]], "node2": [lacks], "node3": [lacks]}
    assert [str(finding) for finding in hosts.grouped(said)] == [
        "node1: only 9 MB", "node2, node3: /d/x: no such program"
    ]  # fmt: skip
    both = hosts.grouped({"a": [lacks], "b": [lacks]})
    assert [str(finding) for finding in both] == ["every host: /d/x: no such program"]


def planned(folder: Path, command: Any = COMMAND, **keys: Any) -> PlannedJob:
    """Plan the second of two CPU hosts, launched in a folder."""
    known = [replace(facts(index), port=25000) for index in (0, 1)]
    made = replace(
        job(command=command, backend="cpu", **keys), launch_dir=str(folder), run_dir=str(folder / "r")
    )
    layout = laid_out(known, backend="cpu", **keys)
    return host_plan(order(made, layout), known[1], os.environ)


def test_a_report_has_the_program_and_the_files_of_this_host(tmp_path: Path) -> None:
    (tmp_path / "train.py").write_text("print(1)")
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "x.json").write_text("12345")
    keys = {
        "program": "train.py",
        "args": {"data": "data", "file": "data/x.json", "rate": 3, "none": "nothing"},
    }
    first = report(planned(tmp_path, (), **keys))
    assert first["files"] == {"data": "folder", "data/x.json": "5 bytes"}
    assert first["python"] == ".".join(map(str, sys.version_info[:3])) and first["tensorflow"]
    assert first["hccl"] == {"HCCL_CONNECT_TIMEOUT": "600"}
    (tmp_path / "train.py").write_text("print(2)")
    assert report(planned(tmp_path, (), **keys))["scripts"].keys() == first["scripts"].keys()
    assert report(planned(tmp_path, (), **keys))["scripts"] != first["scripts"]


def test_a_report_has_the_versions_of_frameworks_that_pip_has_installed(tmp_path: Path) -> None:
    (tmp_path / "train.py").write_text("import torch")
    for name in ("torch-2.7.1+cpu", "torch_npu-2.7.1.post2"):
        (tmp_path / f"{name}.dist-info").mkdir()
    keys = {"program": "train.py", "env": {"PYTHONPATH": str(tmp_path)}}
    found = report(planned(tmp_path, (), framework="torch", **keys))
    assert (found["torch"], found["torch_npu"], found["tensorflow"]) == ("2.7.1+cpu", "2.7.1.post2", "")
    assert "torch" not in report(planned(tmp_path, (), framework="tensorflow", **keys))


def test_the_package_of_a_module_is_part_of_the_program(tmp_path: Path) -> None:
    (tmp_path / "tool").mkdir()
    for name in ("__init__", "main", "other"):
        (tmp_path / "tool" / (name + ".py")).write_text(name)
    keys = {"program": "tool.main", "env": {"PYTHONPATH": str(tmp_path)}}
    first = report(planned(tmp_path, (), **keys))["program"]
    (tmp_path / "tool" / "other.py").write_text("changed")
    assert first and report(planned(tmp_path, (), **keys))["program"] != first


def test_an_interpreter_that_fails_says_why(tmp_path: Path) -> None:
    python = tmp_path / "python"
    python.write_text("#!/bin/sh\necho 'no libpython' >&2\nexit 3\n")
    python.chmod(0o755)
    (tmp_path / "train.py").write_text("")
    found = report(planned(tmp_path, (), program="train.py", python=str(python)))
    assert found["problem"] == f"{python}: no libpython" and found["python"] == ""


def test_a_command_is_no_python_program(tmp_path: Path) -> None:
    found = report(planned(tmp_path))
    assert (found["python"], found["tensorflow"], found["program"]) == ("", "", "")


def test_ports_of_the_grpc_collective_must_be_free(tmp_path: Path) -> None:
    with socket.socket() as held:
        held.bind(("", 0))
        held.listen(1)
        port = held.getsockname()[1]
        made = planned(tmp_path, args={"collective": "grpc"}, env={"NPU_LAUNCH_GRPC_PORT": str(port - 1)})
        found = [
            finding for finding in check(made.plan, made.config, made.table) if finding.name == "collective"
        ]
    assert [finding.level for finding in found] == [ERROR] and f"port {port} of the collective" in str(
        found[0]
    )


@pytest.mark.parametrize("text", ["x", "²", "-1", "9" * 5000, "65535"])
def test_a_port_that_the_collective_cannot_have_is_named(tmp_path: Path, text: str) -> None:
    made = planned(tmp_path, args={"collective": "grpc"}, env={"NPU_LAUNCH_GRPC_PORT": text})
    (finding,) = [found for found in check(made.plan, made.config, made.table) if found.name == "collective"]
    assert finding.level == ERROR and "gets no port" in str(finding)


def test_the_collective_s_usual_ports_are_those_of_the_trainer(tmp_path: Path) -> None:
    source = (ROOT / "bert" / "backend" / "collective" / "grpc.py").read_text(encoding="utf-8")
    assert f"\nPORT = {between_hosts.GRPC_PORT} " in source
    made = planned(tmp_path, args={"collective": "grpc"}, env={"NPU_LAUNCH_GRPC_PORT": ""})  # the usual ones
    assert not [found for found in check(made.plan, made.config, made.table) if "gets no" in str(found)]


def linked(tmp_path: Path, count: int, lost: str, index: int = 0) -> list[tuple[str, str, str]]:
    """Ask a fake hccn_tool, to which addresses that contain `lost` are lost; calls go to `calls`."""
    tool = tmp_path / "hccn_tool"
    tool.write_text(
        f'#!/bin/sh\necho "$*" >> {tmp_path}/calls\n'
        f'case "$*" in {lost}) echo "3 packets transmitted, 0 received, 100.00% packet loss" ;;\n'
        '*) echo "3 packets transmitted, 3 received, 0.00% packet loss" ;; esac\n'
    )
    tool.chmod(0o755)
    known = [with_npus(n) for n in range(count)]
    layout = laid_out(known, backend="npu")
    made = host_plan(order(job(backend="npu"), layout), known[index], {"PATH": "/usr/bin:/bin"})
    machine = Machine({"PATH": f"{tmp_path}:/usr/bin:/bin"})
    return list(between_hosts.links(Subject(made.plan, JobConfig(), made.table, machine)))


def test_like_devices_of_other_hosts_are_pinged(tmp_path: Path) -> None:
    assert linked(tmp_path, 2, "nothing") == []
    assert (tmp_path / "calls").read_text().splitlines() == [
        "-i 0 -ping -g address 10.1.1.1", "-i 1 -ping -g address 10.1.1.2"
    ]  # fmt: skip


def test_a_lost_link_names_device_and_host(tmp_path: Path) -> None:
    ((level, what, _),) = linked(tmp_path, 3, "*10.1.1.2")
    assert level == ERROR and what == "device 1 does not reach its like on node2 (100.00 % packet loss)"


def test_of_many_hosts_the_neighbours_are_asked(tmp_path: Path) -> None:
    assert linked(tmp_path, 9, "nothing", index=4) == []
    assert {line.split(".")[2] for line in (tmp_path / "calls").read_text().splitlines()} == {"3", "5"}


def test_without_the_tool_links_are_not_known(tmp_path: Path) -> None:
    known = [with_npus(0), with_npus(1)]
    made = host_plan(
        order(job(backend="npu"), laid_out(known, backend="npu")), known[0], {"PATH": "/usr/bin"}
    )
    subject = Subject(made.plan, JobConfig(), made.table, Machine({"PATH": str(tmp_path)}, str(tmp_path)))
    ((level, what, _),) = between_hosts.links(subject)
    assert level == WARNING and what == "links of device 0-1 are not known: hccn_tool: not found on PATH"


def test_a_whitelist_of_hccl_must_name_every_host(tmp_path: Path) -> None:
    path = tmp_path / "list.json"
    env = {"HCCL_WHITELIST_DISABLE": "0", "HCCL_WHITELIST_FILE": str(path)}
    known = [with_npus(0), with_npus(1)]
    layout = laid_out(known, backend="npu")
    made = host_plan(order(job(backend="npu", env=env), layout), known[0], {"PATH": "/usr/bin:/bin"})
    subject = Subject(made.plan, JobConfig(), made.table, Machine({}))
    assert "no such file" in next(between_hosts.whitelist(subject))[1]
    path.write_text('{"host_ip": ["10.0.0.1"], "device_ip": []}')
    assert "host_ip lacks 10.0.0.2, of this job" in next(between_hosts.whitelist(subject))[1]
    path.write_text('{"host_ip": ["10.0.0.1", "10.0.0.2"]}')
    assert list(between_hosts.whitelist(subject)) == []


def test_every_check_is_in_the_reference() -> None:
    text = (ROOT / "docs" / "reference.md").read_text(encoding="utf-8")
    table = text[text.index("### Checks before the start") : text.index("### Secrets")]
    assert set(re.findall(r"`([a-z-]+)`", table)) - {"skip_preflight"} >= {*CHECKS, *BETWEEN, *ACROSS}
    assert BETWEEN == tuple(between_hosts.CHECKS)


def test_a_host_tells_of_its_npus_their_tls_switches_and_versions(tmp_path: Path) -> None:
    machine = server(tmp_path, smi(["OK"] * 2), devices=2, tls="1")
    told = collect(0, "node1", {**machine.environ, "HOST_IP": "10.0.0.1"}, str(tmp_path))
    assert told.npus is not None and told.npus.server_id == "10.0.0.1" and told.npus.chip == "A2"
    assert [npu.device_ip for npu in told.npus.devices] == ["192.168.0.2", "192.168.1.2"]
    assert (told.tls, told.driver, told.cann) == ({"0": "off", "1": "on"}, "23.0.7", "7.0.T10")


def test_a_host_that_refuses_a_port_is_there_and_one_without_a_route_is_not() -> None:
    with socket.socket() as held:
        held.bind(("127.0.0.1", 0))
        port = held.getsockname()[1]
        assert between_hosts.unreachable(["127.0.0.1", "127.0.0.2"], port) == {}  # nobody listens
        held.listen(1)
        assert between_hosts.unreachable(["127.0.0.1"], port) == {}
    lost = between_hosts.unreachable(["127.0.0.1", "255.255.255.255", "192.0.2.255"], port, 0.2)
    assert set(lost) == {"255.255.255.255", "192.0.2.255"} and all(lost.values())


def test_a_host_that_does_not_answer_is_named_with_its_address(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[Any] = []

    def none(addresses: Any, port: int) -> dict[str, str]:
        asked.append((addresses, port))
        return dict.fromkeys(addresses, "gone")

    monkeypatch.setattr(between_hosts, "unreachable", none)
    made = planned(tmp_path, (*COMMAND, "--collective=grpc"), env={"NPU_LAUNCH_GRPC_PORT": "7777"})
    ((level, what, _),) = between_hosts.reach(Subject(made.plan, JobConfig(), made.table, Machine({})))
    assert level == ERROR and what == "node1 is not reached at 10.0.0.1 from 10.0.0.2: gone"
    made = planned(tmp_path)  # nothing is known to need it
    assert not list(between_hosts.reach(Subject(made.plan, JobConfig(), made.table, Machine({}))))
    assert asked == [(["10.0.0.1"], 7777)]
