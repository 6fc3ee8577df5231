"""Doctor on machines made of a folder and fake tools: the real machine needs no NPU."""

from __future__ import annotations

import json
import os
import time
from pathlib import Path

import pytest
from click.testing import CliRunner

from launcher.checks import doctor
from launcher.checks.finding import Finding
from launcher.checks.machine import RecordingMachine
from launcher.commands.doctor import doctor as command
from launcher.hccl import variables
from rank_table.sources.npu_smi import parse_info
from tests.faults.helpers import alive
from tests.launcher.machines import PLACES, by_name, server, table, tool, write

FAMILIES = {"910A": 8, "910B3": 8, "A3": 16}


@pytest.mark.parametrize("kind", sorted(FAMILIES))
def test_a_healthy_machine_of_every_family_is_ok_in_every_npu_line(tmp_path: Path, kind: str) -> None:
    devices = FAMILIES[kind]
    found = by_name(server(tmp_path, table(devices, kind=kind), devices, pods="7" if kind == "A3" else ""))
    wanted = {"devices", "health", "holders", "links", "adapter", "driver", "firmware", "CANN", "tensorflow"}
    wanted |= {"device IPs", "net health", "tls switch", "reserved ports", "HCCL variables"}
    wanted |= {"super pod"} if kind == "A3" else set()
    assert [found[name] for name in sorted(wanted & set(found)) if found[name].level != "ok"] == []
    assert wanted <= set(found)
    assert f"0-{devices - 1}" in found["devices"].what
    assert {"910A": "910A", "910B3": "A2", "A3": "A3"}[kind] in found["devices"].what


def test_variables_that_hccl_refuses_or_ignores_are_reported(tmp_path: Path) -> None:
    machine = server(tmp_path, table())
    machine.environ = {**machine.environ, "HCCL_BUFFERSIZE": "200", "POD_NAME": "p", "CM_RANK": "0"}
    machine.environ.update(AOE_MODE="2", RANK="0", WORLD_SIZE="16")
    machine.environ["ASCEND_RT_VISIBLE_DEVICES"] = "0,1"
    found = by_name(machine)
    assert found["HCCL variables"].level == "warning" and "HCCL_BUFFSIZE" in found["HCCL variables"].what
    texts = [finding.what for finding in doctor.examine(machine) if finding.name == "environment"]
    assert texts[0].startswith("AOE_MODE, CM_RANK, POD_NAME set: a rank would train alone, tune")
    assert texts[1] == "RANK, WORLD_SIZE set: of a pod or another launch, and no rank's own"
    assert texts[2].startswith("ASCEND_RT_VISIBLE_DEVICES=0,1")
    machine.environ["HCCL_CONNECT_TIMEOUT"] = "5"
    assert by_name(machine)["HCCL variables"].level == "error"


@pytest.mark.parametrize(
    "name, said",
    [
        ("HCCL_ASYNC_ERROR_HANDLING", ""),  # torch_npu
        ("HCCL_EVENT_TIMEOUT", ""),
        ("HCCL_DESYNC_DEBUG", ""),
        ("HCCL_SO_PATH", ""),  # vllm-ascend
        ("HCCL_OP_BASE_FFTS_MODE_ENABLE", ""),  # HCCL, undocumented
        ("HCCL_CONCURRENT_ENABLE", ""),
        ("HCCL_BUFFERSIZE", "did you mean HCCL_BUFFSIZE?"),
        ("HCCL_EVEN_TIMEOUT", "did you mean HCCL_EVENT_TIMEOUT?"),
        ("HCCL_CONECT_TIMEOUT", "did you mean HCCL_CONNECT_TIMEOUT?"),
        ("HCCL_IFNAME", "did you mean HCCL_SOCKET_IFNAME?"),
        ("HCCL_INTRA_ROCE", "did you mean HCCL_INTRA_ROCE_ENABLE?"),
        ("HCCL_DEBUG_CONFIGS", "did you mean HCCL_DEBUG_CONFIG?"),
        ("HCCL_TIMEOUT", "not known as a variable of HCCL"),
        ("HCCL_SUPERPOD_MODE", "not known as a variable of HCCL"),
    ],
)
def test_names_that_others_read_are_known_and_slips_are_not(name: str, said: str) -> None:
    found = [message for _, _, message in variables.findings({name: "1"})]
    assert len(found) == bool(said) and "".join(found).startswith(said)


@pytest.mark.skipif(os.geteuid() == 0, reason="root may open every device")
def test_a_device_that_may_not_be_opened_is_an_error(tmp_path: Path) -> None:
    machine = server(tmp_path, table())
    (tmp_path / "dev/davinci3").chmod(0)
    assert by_name(machine)["access"].what == "device 3 may not be opened by this user"


def test_an_ill_device_is_named_with_the_command_that_tells_more(tmp_path: Path) -> None:
    finding = by_name(server(tmp_path, table(health="Alarm")))["health"]
    assert (finding.level, finding.what) == ("error", "device 7 is Alarm")
    assert "-i 7 -c 0" in finding.todo


def test_memory_without_a_holder_and_the_tools_own_words_are_told(tmp_path: Path) -> None:
    finding = by_name(server(tmp_path / "a", table().replace("0 / 65536  ", "60321/ 65536", 1)))["memory"]
    assert finding.level == "warning" and "device 0: 60,321 of 65,536 MB" in finding.what
    machine = server(tmp_path / "b", "DrvMng failed.\ndcmi module initialize failed. ret is -8005\n")
    assert "ret is -8005 (first: DrvMng failed.)" in by_name(machine)["npu-smi"].what


def test_the_process_that_holds_a_device_is_named(tmp_path: Path) -> None:
    row = "| 3       0                 | 6277          | python3 train.py         | 56485    |"
    finding = by_name(server(tmp_path, table(processes=row)))["holders"]
    told = "device 3: python3 train.py (pid 6277, 56,485 MB); 0 of 65,536 MB of its memory are taken"
    assert (finding.level, finding.what) == ("warning", told)


def test_unreserved_ports_are_counted_and_existing_ones_kept(tmp_path: Path) -> None:
    machine = server(tmp_path, table())
    write(tmp_path, "proc/sys/net/ipv4/ip_local_reserved_ports", "8080,60000-60015\n")
    finding = by_name(machine)["reserved ports"]
    assert finding.level == "warning" and finding.what.startswith("16 of the ports")
    assert "8080,60000-60015" in finding.todo
    write(tmp_path, "proc/sys/net/ipv4/ip_local_reserved_ports", "60000-60031,x-,9-3\n")
    assert by_name(machine)["reserved ports"].level == "ok"  # what is no port is skipped


def test_a_machine_without_npu_says_so_and_checks_the_rest(tmp_path: Path) -> None:
    found = by_name(RecordingMachine({"PATH": ""}, str(tmp_path), folder=str(tmp_path)))
    assert "no NPU on this machine" in found["devices"].what and found["devices"].level == "ok"
    assert {"disk", "limit nofile", "shared memory", "python"} <= set(found)
    assert not {"driver", "CANN", "adapter", "reserved ports", "device IPs"} & set(found)


def test_a_driver_without_devices_is_an_error(tmp_path: Path) -> None:
    tool(tmp_path, "npu-smi", {"*": ""})
    found = by_name(RecordingMachine({"PATH": "/bin"}, str(tmp_path), folder=str(tmp_path)))
    assert found["devices"].level == "error" and found["npu-smi"].level == "warning"


def test_a_tool_that_hangs_is_given_up_and_not_asked_again(tmp_path: Path) -> None:
    """Its child is killed too: a shell script around the vendor's program is common."""
    (tmp_path / "dev").mkdir()
    for number in range(8):
        write(tmp_path, f"dev/davinci{number}")
    for name, place in PLACES.items():
        line = f"#!/bin/sh\nsleep 60 &\necho $! >> {tmp_path}/asked-{name}\nwait\n"
        write(tmp_path, place, line).chmod(0o755)
    machine = RecordingMachine({"PATH": "/usr/bin:/bin"}, str(tmp_path), timeout=1.5, folder=str(tmp_path))
    findings = doctor.examine(machine)
    assert not [finding for finding in findings if finding.name == "device IPs"]
    late = [finding.what for finding in findings if finding.name == "tools"]
    assert len(late) == 2 and all("no answer within 1.5 s: not asked again" in what for what in late)
    for name in PLACES:
        children = (tmp_path / ("asked-" + name)).read_text().split()
        assert len(children) <= 2  # `info` and `info -m` run at once
        end = time.monotonic() + 10
        while any(alive(int(child)) for child in children) and time.monotonic() < end:
            time.sleep(0.05)
        assert not any(alive(int(child)) for child in children)


@pytest.mark.parametrize(
    "file, ids",
    [("npu-smi-info-a2-910B3.txt", list(range(8))), ("npu-smi-info-a3-910C.txt", list(range(16)))],
)
def test_real_tables_give_every_device_its_physical_id(shared: Path, file: str, ids: list[int]) -> None:
    chips, _, _ = parse_info((shared / "data" / "npu_samples" / file).read_text())
    assert [chip.device_id for chip in chips] == ids
    assert {chip.health for chip in chips} == {"OK"}


def test_the_command_prints_json_and_its_exit_code_tells_of_errors(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    machine = server(tmp_path, table(health="Critical"))
    monkeypatch.setattr("launcher.commands.doctor.this_machine", lambda environ, folder: machine)
    result = CliRunner().invoke(command, ["--json"])
    assert result.exit_code == 78
    findings = json.loads(result.output)
    assert {"name", "level", "what", "todo"} == set(findings[0])


def test_the_report_counts_errors_and_says_what_to_do() -> None:
    lines = doctor.report([Finding("a", "ok", "fine"), Finding("links", "error", "down", "plug it in")])
    assert [*lines][-2:] == ["                -> plug it in", "1 errors, 0 warnings"]
