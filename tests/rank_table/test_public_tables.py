"""The verdict on every public rank table of the reference data, with the reason for each refusal."""

from __future__ import annotations

from pathlib import Path

import pytest

from rank_table.check import ERROR, check, check_file
from rank_table.render import render
from rank_table.table import RankTable

# file: (chip, rules that must be among the errors, whether they must be all of them).
BAD = {
    "duplicate-rank-empty-device": (
        "",
        "version.missing status.missing device_id.number rank_id.sequence",
        False,
    ),
    "global-ranktable-1.0": ("", "kind.global-ranktable", True),
    "global-ranktable-1.2": ("", "kind.global-ranktable", True),
    "json-brace-only": ("", "json.bracket", True),
    "json-comments-300iduo": ("", "json.comment", True),
    "json-comments-910-template1": ("910A", "json.comment", True),
    "json-comments-910-template2": ("910A", "json.comment", True),
    "json-comments-a2": ("A2", "json.comment", True),
    "json-comments-a3-superpod": ("A3", "json.comment", True),
    "json-comments-a3-typical": ("A3", "json.comment", True),
    "json-comments-a5-1": ("950", "json.comment kind.topology", True),
    "json-comments-a5-2": ("950", "json.comment", True),
    "json-kubectl-a2": ("A2", "json.kubectl json.comment json.elision json.missing-comma ip.invalid", False),
    "json-kubectl-a3": ("A3", "json.kubectl json.comment json.elision ip.invalid rank_id.sequence", True),
    "json-kubectl-a5": ("950", "json.kubectl json.comment json.elision json.trailing-comma v2.address", True),
    "json-missing-bracket": ("", "json.bracket", True),
    "json-trailing-comma-lab-2p": ("", "json.trailing-comma json.bracket", True),
    "json-trailing-comma": ("", "json.trailing-comma", True),
    "json-unrendered-template": ("", "json.placeholder", True),
    "no-version-placeholders": ("", "version.missing device_id.number rank_id.number ip.invalid", True),
    "server_list-is-string": ("", "version.missing status.missing server_list.missing", True),
    "status-initializing": ("", "status.waiting", True),
    "v1.0-4p-set-0167": ("910A", "device.four-set", True),
    "v1.0-device_id-10": ("910A", "device_id.range", True),
    "v1.0-duplicate-device_ip": ("", "device_ip.unique", True),
    "v1.0-duplicate-rank_id": ("", "rank_id.sequence", True),
    "v1.0-empty-server_id": ("", "server_id.length", True),
    "v1.0-masked-ips-mindspore-16p": ("", "ip.invalid server_id.unique", True),
    "v1.0-masked-ips-mindspore-cross-cluster": ("", "ip.invalid", True),
    "v1.0-rank_id-not-from-0": ("", "rank_id.sequence", True),
    "v1.0-server_count-mismatch": ("", "server_count", True),
    "v1.0-tor-node-not-a-ranktable": ("", "kind.tor", True),
    "v1.2-local-comm-res-no-rank_id": ("", "kind.local-comm-res", True),
    "v1.2-no-super_pod_id": ("", "super_pod.id super_device_id.missing", True),
    "v1.2-unknown-server-in-pod": ("", "super_pod.server super_pod.cover", True),
    "v1.2-vllm-prefill-decode": ("", "kind.prefill-decode", True),
    "v2.0-hccl-ut-detour": ("", "v2.detour", True),
    "v2.0-hccl-ut-invalid-rank": ("", "v2.rank_count", True),
    "v2.0-hccl-ut-no-version": ("", "version.missing", True),
    "v2.0-hccl-ut-rank_count-max": ("", "v2.rank_count", True),
    "v2.0-hccl-ut-rank_count": ("", "v2.rank_count", True),
    "v2.0-hccl-ut-rank_id": ("", "v2.rank_id", True),
    "v2.0-hccl-ut-same-rank_id": ("", "v2.rank_id", True),
    "v2.0-old-field-names-2p": ("", "kind.old-draft v2.rank_count v2.number", False),
    "v2.0-old-field-names-3p": ("", "kind.old-draft v2.rank_count v2.number", False),
    "v2.0-old-field-names-4p": ("", "kind.old-draft v2.rank_count v2.number", False),
    "v2.0-on-1.0-layout": ("", "version.layout", True),
    "v8.0-hccl-ut": ("", "version.unknown", True),
    "wrong-top-key": ("", "kind.unknown", True),
}

# The chips that valid files are checked for, by the beginning of their names.
CHIPS = {
    "legacy": ("", "910A"),
    "v1.0": ("", "910A", "A2"),
    "v1.1": ("",),
    "v1.2": ("", "A3"),
    "v2.0": ("", "950"),
}
# Line and column of what is no JSON.
PLACES = {
    "json-brace-only": (1, 1),
    "json-missing-bracket": (17, 9),
    "json-trailing-comma": (11, 26),
    "json-trailing-comma-lab-2p": (32, 18),
    "json-unrendered-template": (8, 23),
    "json-comments-a2": (2, 28),
    "json-kubectl-a3": (1, 1),
}


def _names(folder: Path, prefix: str) -> list[str]:
    return sorted(path.stem[len(prefix) :] for path in folder.glob(prefix + "*.json"))


def test_the_reference_data_is_the_one_that_the_verdicts_are_for(tables: Path) -> None:
    assert _names(tables, "bad-") == sorted(BAD)
    assert len(_names(tables, "valid-")) == 43


@pytest.mark.parametrize("name", sorted(BAD))
def test_every_bad_table_is_refused_for_its_own_reason(name: str, tables: Path) -> None:
    chip, rules, all_of_them = BAD[name]
    found = {
        finding.rule
        for finding in check_file(str(tables / (f"bad-{name}.json")), chip)
        if finding.level == ERROR
    }
    assert found >= set(rules.split())
    if all_of_them:
        assert found == set(rules.split())


@pytest.mark.parametrize("name", sorted(PLACES))
def test_what_is_no_json_is_named_with_line_and_column(name: str, tables: Path) -> None:
    first = check_file(str(tables / (f"bad-{name}.json")))[0]
    assert (first.line, first.column) == PLACES[name]


def _valid(folder: Path) -> list[tuple[Path, str]]:
    pairs = []
    for path in sorted(folder.glob("valid-*.json")):
        kind = next(kind for kind in CHIPS if path.stem.startswith("valid-" + kind))
        pairs.extend((path, chip) for chip in CHIPS[kind])
    return pairs


def test_every_valid_table_passes_without_an_error_for_every_chip_that_reads_it(tables: Path) -> None:
    errors = [
        "{} for {}: {}".format(path.name, chip or "any chip", finding)
        for path, chip in _valid(tables)
        for finding in check_file(str(path), chip)
        if finding.level == ERROR
    ]
    assert errors == []


def test_every_valid_table_says_the_same_after_it_was_written_and_read(tables: Path) -> None:
    for path in sorted(tables.glob("valid-*.json")):
        table = RankTable.load(str(path))
        text = render(table)
        assert RankTable.loads(text) == table, path.name
        assert render(RankTable.loads(text)) == text, path.name
        assert not [finding for finding in check(text) if finding.level == ERROR], path.name


def test_commented_documentation_is_refused_for_its_comments_alone(tables: Path) -> None:
    for path in sorted(tables.glob("bad-json-comments-*.json")):
        findings = check_file(str(path))
        assert all("delete it" in finding.todo for finding in findings if finding.rule == "json.comment")
        assert all(finding.line for finding in findings if finding.code == "EI0004")


def test_the_four_devices_that_910a_does_not_link_are_only_a_warning_while_the_chip_is_open(
    tables: Path,
) -> None:
    path = str(tables / "bad-v1.0-4p-set-0167.json")
    assert [finding.level for finding in check_file(path) if finding.rule == "device.four-set"] == ["warning"]
    assert "device.four-set" not in {finding.rule for finding in check_file(path, "A2")}


def test_a_set_that_hccl_links_against_its_documentation_is_a_warning_that_names_the_chip(
    tables: Path,
) -> None:
    findings = check_file(str(tables / "valid-v1.0-1s4p-0145.json"), "910A")
    assert [(finding.rule, finding.level, finding.chip) for finding in findings] == [
        ("doc.910a-group", "warning", "910A")
    ]
