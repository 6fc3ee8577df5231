"""Doctor on the devices' own network: addresses, links, tls, super pod."""

from __future__ import annotations

import os
from pathlib import Path

from launcher.checks import network
from tests.launcher.machines import by_name, server, table, tool, write


def test_a_missing_address_is_an_error_on_910a_and_a_warning_where_one_server_can_do_without(
    tmp_path: Path,
) -> None:
    for kind, level in (("910A", "error"), ("910B3", "warning"), ("A3", "warning")):
        machine = server(tmp_path / kind, table(kind=kind), pods="7")
        os.remove(str(tmp_path / kind / "etc/hccn.conf"))
        tool(tmp_path / kind, "hccn_tool", {})
        finding = by_name(machine)["device IPs"]
        assert finding.level == level and finding.what.startswith("device 0-7 has no IP address")


def test_a_stale_hccn_conf_is_reported_before_hccl_does(tmp_path: Path) -> None:
    machine = server(tmp_path, table())
    write(tmp_path, "etc/hccn.conf", "".join(f"address_{n}=10.0.{n}.9\n" for n in range(8)))
    finding = by_name(machine)["device IPs"]
    assert finding.level == "error" and "its port has 192.168." in finding.what and "EI0014" in finding.todo


def test_an_a3_without_sdid_or_in_two_super_pods_is_reported(tmp_path: Path) -> None:
    assert by_name(server(tmp_path / "a", table(4, kind="A3"), 4))["super pod"].level == "warning"
    machine = server(tmp_path / "b", table(2, kind="A3"), 2, pods="7")
    machine.answers["npu-smi info -t spod-info -i 0 -c 1"] = "SDID : 5\nSuper Pod ID : 8\n"
    assert by_name(machine)["super pod"].what == "devices of one server in super pods 7, 8"


def test_a_tls_switch_unlike_the_others_and_a_dead_link_are_errors(tmp_path: Path) -> None:
    found = by_name(server(tmp_path, table(), tls="1", link="DOWN"))
    assert found["tls switch"].level == "error"
    assert found["tls switch"].what == "off on device 0-6; on on device 7"
    assert found["links"].level == "error" and found["links"].what.endswith("device 7")


def test_a_missing_and_a_doubled_address_are_errors(tmp_path: Path) -> None:
    machine = server(tmp_path, table())
    tool(tmp_path, "hccn_tool", {})
    write(tmp_path, "etc/hccn.conf", "".join(f"address_{n}=192.168.0.{n % 6}\n" for n in range(7)))
    findings = [f.what for f in network.check_addresses(machine) if f.name == "device IPs"]
    line = "/etc/hccn.conf: line 7: address_6=192.168.0.0: also that of device 0; give each device its own"
    assert findings[:2] == [line, "device 0,6-7 has no IP address"]
    assert findings[2].startswith("device 0,6-7: hccn_tool -i N -ip -g: exit code 1")


def test_addresses_come_from_hccn_tool_where_hccn_conf_is_absent(tmp_path: Path) -> None:
    machine = server(tmp_path, table(), devices=1)
    os.remove(str(tmp_path / "etc/hccn.conf"))
    tool(tmp_path, "hccn_tool", {'"-i 0 -ip -g"': "ipaddr:192.1.45.172\nnetmask:255.255.0.0\n"})
    assert [f.what for f in network.check_addresses(machine)] == ["192.1.45.172"]


def test_a_shared_address_is_named_once_also_where_another_device_has_none(tmp_path: Path) -> None:
    machine = server(tmp_path, table(3), devices=3)
    os.remove(str(tmp_path / "etc/hccn.conf"))
    same = "ipaddr:10.0.0.9\n"
    tool(tmp_path, "hccn_tool", {'"-i 0 -ip -g"': same, '"-i 2 -ip -g"': same})
    findings = [f.what for f in network.check_addresses(machine)]
    assert [what for what in findings if "10.0.0.9" in what] == ["10.0.0.9 belongs to devices 0,2"]
    assert findings[0].startswith("device 1 has no IP address")
