"""Every rule of the checker: a valid table is broken in one way, and exactly that is reported."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any, Callable, Dict

import pytest

from rank_table.check import ERROR, WARNING, RuleFinding, check, check_file, check_host, check_process
from rank_table.inventory import Device, Host
from rank_table.rules.catalogue import RULES
from rank_table.table import RankTable
from tests.launching import ROOT
from tests.rank_table.documents import ALL, v1, v1_2, v2
from tests.rank_table.spoiled import SPOILED

Document = Dict[str, Any]
SEEN: set[str] = set()


def found(document: Any, chip: str = "", **environ: str) -> list[RuleFinding]:
    text = document if isinstance(document, (str, bytes)) else json.dumps(document)
    findings = check(text, chip, environ)
    SEEN.update(finding.rule for finding in findings)
    return findings


def put(document: Document, path: str, value: Any) -> Document:
    """Set the value at a JSON path; None deletes it."""
    keys: list[Any] = []
    for part in path.replace("]", "").split("."):
        name, *numbers = part.split("[")
        keys += [name, *map(int, numbers)]
    for key in keys[:-1]:
        document = document[key]
    if value is None:
        del document[keys[-1]]
    else:
        document[keys[-1]] = value
    return document


@pytest.mark.parametrize("layout", sorted(ALL))
def test_a_good_table_has_no_error(layout: str) -> None:
    assert [str(finding) for finding in found(ALL[layout]()) if finding.level == ERROR] == []


@pytest.mark.parametrize("make, path, value, chip, rule, level", SPOILED)
def test_one_fault_is_named_by_its_rule_with_its_path(
    make: Callable[[], Document], path: str, value: Any, chip: str, rule: str, level: str
) -> None:
    document = make()
    put(document, path, value)
    mine = [finding for finding in found(document, chip) if finding.rule == rule]
    assert mine and mine[0].level == level
    assert mine[0].message and mine[0].todo
    assert mine[0].code == RULES[rule].code


def _swap(document: Document) -> Document:
    first, second = document["server_list"][0]["device"][7], document["server_list"][1]["device"][0]
    first["rank_id"], second["rank_id"] = second["rank_id"], first["rank_id"]
    return document


def test_interleaved_ranks_are_warned_of() -> None:
    assert {f.rule for f in found(_swap(v1()), "A2")} == {"doc.interleaved"}


def test_ranks_against_the_order_of_the_devices_are_warned_of() -> None:
    document = v1(1, 2)
    devices = document["server_list"][0]["device"]
    devices[0]["rank_id"], devices[1]["rank_id"] = "1", "0"
    assert {f.rule for f in found(document, "910A")} == {"doc.order"}


def test_a_127_server_id_is_warned_of_only_when_there_are_several_servers() -> None:
    document = v1()
    document["server_list"][0]["server_id"] = "127.0.1.1"
    assert "doc.server-id" in {f.rule for f in found(document)}
    alone = v1(1)
    alone["server_list"][0]["server_id"] = "127.0.1.1"
    assert "doc.server-id" not in {f.rule for f in found(alone)}


def test_unequal_servers_are_an_error_on_910a_and_a_warning_on_a2() -> None:
    document = v1()
    del document["server_list"][1]["device"][7]
    assert [f.level for f in found(document, "910A") if f.rule == "server.balance"] == [ERROR]
    assert [f.level for f in found(document, "A2") if f.rule == "doc.equal-counts"] == [WARNING]
    assert "server.balance" not in {f.rule for f in found(document, "A2")}


def test_910a_servers_with_other_devices_than_the_first_are_warned_of() -> None:
    document = v1(2, 2)
    for number, device in enumerate(document["server_list"][1]["device"]):
        device["device_id"] = str(number + 2)
    assert [f.rule for f in found(document, "910A")] == ["doc.910a-same-set"]


def test_one_subnet_for_all_devices_is_right_unless_the_chip_is_a_910a() -> None:
    document = v1(1, 8)
    for number, device in enumerate(document["server_list"][0]["device"]):
        device["device_ip"] = f"192.170.100.{100 + number}"
    assert found(document) == found(document, "A2") == []
    assert [f.rule for f in found(document, "910A")] == ["doc.910a-subnet"]


def test_super_pods_are_not_checked_for_a_chip_that_does_not_read_them() -> None:
    document = v1_2()
    del document["super_pod_list"][0]["super_pod_id"]
    assert {f.rule for f in found(document, "A2")} == {"version.chip"}
    assert "super_pod.id" in {f.rule for f in found(document, "A3")}


def test_910a_servers_of_eight_need_addresses_on_the_same_devices() -> None:
    document = v1()
    for server in document["server_list"]:
        server["host_ip"] = "10.9.9." + server["server_id"][-1]
    del document["server_list"][1]["device"][3]["device_ip"]
    assert [f.rule for f in found(document, "910A")] == ["device.nic-list"]


def test_host_ip_stands_in_for_device_ip_but_then_on_every_server() -> None:
    document = v1()
    for server in document["server_list"]:
        for device in server["device"]:
            del device["device_ip"]
    document["server_list"][0]["host_ip"] = "10.9.9.1"
    rules = {f.rule for f in found(document, "910A") if f.level == ERROR}
    assert rules == {"host_ip.mode", "device_ip.missing"}
    document["server_list"][1]["host_ip"] = "10.9.9.2"
    assert [f for f in found(document, "910A") if f.level == ERROR] == []
    assert "device_ip.missing" in {f.rule for f in found(document, "A2")}


def test_one_server_needs_addresses_only_with_roce_inside_it() -> None:
    document = v1(1, 2)
    for device in document["server_list"][0]["device"]:
        device["device_ip"] = ""
    assert found(document) == []
    assert "device_ip.missing" in {f.rule for f in found(document, HCCL_INTRA_ROCE_ENABLE="1")}


def test_a3_needs_no_addresses_inside_one_super_pod_but_between_two() -> None:
    for pods, rules in ((1, set()), (2, {"device_ip.missing"})):
        document = v1_2(pods)
        for server in document["server_list"]:
            for device in server["device"]:
                del device["device_ip"]
        assert {f.rule for f in found(document, "A3")} == rules
    one = v1_2(1)
    del one["server_list"][0]["device"][0]["device_ip"]
    assert "doc.a3-device_ip" in {f.rule for f in found(one, "A3", HCCL_INTER_HCCS_DISABLE="TRUE")}


def test_super_pods_whose_servers_are_apart_are_warned_of() -> None:
    document = v1_2()
    document["super_pod_list"][0]["server_list"][1], document["super_pod_list"][1]["server_list"][0] = (
        {"server_id": "10.0.0.3"},
        {"server_id": "10.0.0.2"},
    )
    assert "doc.pods-adjacent" in {f.rule for f in found(document)}


def test_a3_backup_addresses_are_the_sister_dies() -> None:
    document = v1_2(1, 1, 2)
    one, two = document["server_list"][0]["device"]
    one.update(
        backup_device_ip=two["device_ip"], device_port="16666", backup_device_port="16667", host_port="20000"
    )
    two.update(
        backup_device_ip=one["device_ip"], device_port="16666", backup_device_port="16667", host_port="20001"
    )
    assert found(document, "A3") == []
    two.update(backup_device_ip="192.9.9.9", backup_device_port="16666", host_port="20000")
    assert [f.rule for f in found(document, "A3")] == ["doc.host-port", "doc.backup", "doc.backup"]


def test_a_950_spare_names_the_one_it_replaces_and_that_one_is_gone() -> None:
    document = v2(3)
    document["rank_list"][2].update(local_id=64, replaced_local_id=2)
    assert [f.rule for f in found(document) if f.level == ERROR] == []
    document["rank_list"][2]["replaced_local_id"] = 1
    assert "v2.backup" in {f.rule for f in found(document)}
    document["rank_list"][1].update(local_id=64, replaced_local_id=5)
    assert "v2.backup" in {f.rule for f in found(document)}


def test_a_950_port_belongs_to_one_address_of_a_layer() -> None:
    document = v2()
    for rank in document["rank_list"]:
        addresses = rank["level_list"][0]["rank_addr_list"]
        addresses.append({"addr_type": "IPV4", "addr": "10.9.0.1", "ports": ["0/1"]})
    assert {f.rule for f in found(document)} == {"v2.port-address"}


OTHER_KINDS = {
    "kind.inventory": {"hosts": [{"server_id": "a", "devices": [0]}]},
    "kind.configmap": {"kind": "ConfigMap", "data": {"hccl.json": "{}"}},
    "kind.annotation": {"pod_name": "p", "server_id": "10.0.0.1", "devices": [{"device_id": "0"}]},
    "kind.rootinfo": {"version": "2.0", "rank_list": [{"device_id": 0, "local_id": 0, "level_list": []}]},
    "kind.topology": {"version": "2.0", "peer_list": [], "edge_list": []},
    "kind.prefill-decode": {"version": "1.2", "prefill_device_list": []},
    "kind.global-ranktable": {"version": "1.0", "server_group_list": []},
    "kind.tor": {"version": "1.0", "server_list": [{"tor_id": 0, "server": []}]},
    "kind.local-comm-res": {"version": "1.2", "server_list": [{"device": [{"device_id": "0"}]}]},
    "kind.unknown": {"server_lst": []},
}


@pytest.mark.parametrize("rule", sorted(OTHER_KINDS))
def test_another_document_is_recognised_and_nothing_else_is_said_of_it(rule: str) -> None:
    assert [f.rule for f in found(OTHER_KINDS[rule])] == [rule]


def test_a_misspelt_key_is_answered_with_the_right_one() -> None:
    assert found(OTHER_KINDS["kind.unknown"])[0].todo == "did you mean server_list?"


TEXTS: list[tuple[Any, str, int, int]] = [
    ('{"a": 1 // why\n}', "json.comment", 1, 9),
    ('{"a": 1,\n /* why */ "b": 2}', "json.comment", 2, 2),
    ('{"a": 1}\n# why', "json.comment", 2, 1),
    ('{"a": [1, 2,]}', "json.trailing-comma", 1, 12),
    ('{"a": 1\n"b": 2}', "json.missing-comma", 1, 7),
    ('{"a": [1, ... ]}', "json.elision", 1, 11),
    ('{"a": [{{ servers }}]}', "json.placeholder", 1, 8),
    ('{"a": ${SERVERS}}', "json.placeholder", 1, 7),
    ('{"a": <ip>}', "json.placeholder", 1, 7),
    ('{"a": [1}', "json.bracket", 1, 9),
    ('{"a": [1', "json.bracket", 1, 7),
    ("{'a': 1}", "json.syntax", 1, 2),
    ('{"a": "b\n"}', "json.syntax", 1, 7),
    ("apiVersion: v1\nkind: ConfigMap\ndata:\n  hccl.json: '{}'", "json.kubectl", 1, 1),
    ("Name:  rings-config\nData\n====\nhccl.json:\n----\n{}", "json.kubectl", 1, 1),
]


@pytest.mark.parametrize("text, rule, line, column", TEXTS)
def test_what_is_not_json_is_reported_with_its_place(text: str, rule: str, line: int, column: int) -> None:
    places = [(f.rule, f.line, f.column) for f in found(text) if f.code == "EI0004"]
    assert (rule, line, column) in places


def test_texts_that_are_no_document_are_named() -> None:
    cases = {
        b"": "json.empty",
        b" \n": "json.empty",
        b"\xff\xfe{": "json.encoding",
        b"[" * 100000: "json.depth",
        b'{"version": NaN}': "json.syntax",
        b'{"version": %s}' % (b"9" * 5000): "json.syntax",
        b" " * ((40 << 20) + 1): "json.size",
        b"[]": "kind.unknown",
        b'{"status": "completed", "status": "completed"}': "json.duplicate-key",
    }
    for text, rule in cases.items():
        assert rule in {f.rule for f in found(text)}, text[:20]


def test_the_rest_of_a_commented_table_is_checked_too_with_its_lines_kept() -> None:
    text = json.dumps(v1(1, 2), indent=1).replace('"192.0.0.1",', '"192.0.0", // wrong')
    rules = {f.rule for f in found(text)}
    assert {"json.comment", "ip.invalid"} <= rules


def test_of_a_thousand_faults_of_one_rule_twenty_are_shown_and_the_rest_counted() -> None:
    document = v1(128, 8)
    for server in document["server_list"]:
        for device in server["device"]:
            device["device_ip"] = "masked"
    findings = [f for f in found(document, "A2") if f.rule == "ip.invalid"]
    assert len(findings) == 21
    assert findings[-1].message.startswith("1004 more")


def test_the_file_name_is_checked_as_hccl_reads_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tmp_path / "x.json.d"
    folder.mkdir()
    for name in ("rank_table.txt", "table.json.bak", "x.json.d/table.json"):
        (tmp_path / name).write_text(json.dumps(v1()))
        SEEN.update(f.rule for f in check_file(str(tmp_path / name)))
        assert ("file.name", ERROR) in {(f.rule, f.level) for f in check_file(str(tmp_path / name))}, name
    monkeypatch.chdir(folder)
    assert ("file.name", WARNING) in {(f.rule, f.level) for f in check_file("table.json")}
    good = tmp_path / "table.json"
    good.write_text(json.dumps(v1()))
    assert check_file(str(good), "A2") == []
    (tmp_path / "link.json").symlink_to(good)
    assert [f.rule for f in check_file(str(tmp_path / "link.json"), "A2")] == ["file.symlink"]
    SEEN.add("file.symlink")
    assert "file.kind" in {f.rule for f in check_file(os.devnull)}
    SEEN.add("file.kind")


def test_a_process_is_compared_with_its_rank() -> None:
    table = RankTable.loads(json.dumps(v1(1, 2)))
    for environ, physical, rule in (
        ({"RANK_ID": "1x"}, None, "process.rank_id"),
        ({}, None, "process.rank_id"),
        ({"RANK_ID": "2"}, None, "process.rank_size"),
        ({"RANK_ID": "1"}, 4, "process.device"),
    ):
        assert [f.rule for f in check_process(table, environ, physical)] == [rule]
        SEEN.add(rule)
    assert check_process(table, {"RANK_ID": "1"}, 1) == []


def test_a_host_is_compared_with_its_entry() -> None:
    table = RankTable.loads(json.dumps(v1_2(1, 2, 2)))
    devices = tuple(
        Device(n, n, r.device_ip, super_device_id=r.super_device_id) for n, r in enumerate(table.ranks[:2])
    )
    assert check_host(table, Host("10.0.0.1", devices)) == []
    stale = (devices[0], Device(1, 1, "192.9.9.9", super_device_id="77"))
    for host, rules in (
        (Host("10.0.0.9", devices), ["host.server"]),
        (Host("10.0.0.1", devices[:1]), ["host.device"]),
        (Host("10.0.0.1", stale), ["host.device_ip", "host.super_device_id"]),
    ):
        assert [f.rule for f in check_host(table, host)] == rules
        SEEN.update(rules)


def test_every_rule_is_in_the_documentation_with_its_code_and_what_it_wants() -> None:
    text = (Path(__file__).resolve().parents[2] / "docs" / "rank-table.md").read_text(encoding="utf-8")
    missing = [
        name
        for name, rule in RULES.items()
        if "| `{}` | {} | {} |".format(name, rule.code or "-", rule.requires) not in text
    ]
    assert missing == []


def test_every_rule_of_the_catalogue_was_broken_above(monkeypatch: pytest.MonkeyPatch) -> None:
    """Runs last in this file: every rule of the catalogue was broken by a test before."""
    if "PYTEST_XDIST_WORKER" in os.environ:  # other processes have run a part: once more, in one
        monkeypatch.delenv("PYTEST_XDIST_WORKER")
        words = [sys.executable, "-m", "pytest", "-p", "no:xdist", __file__]
        done = subprocess.run(words, cwd=str(ROOT), capture_output=True, text=True)
        assert done.returncode == 0, done.stdout
        return
    if len(SEEN) < 20:
        pytest.skip("runs with the whole file")
    assert set(RULES) - SEEN == set()
