"""Any bytes give findings, never an exception; any table survives being written and read."""

from __future__ import annotations

import json
from typing import Any

from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from rank_table.check import ERROR, check
from rank_table.errors import RankTableError
from rank_table.inventory import Device, Host
from rank_table.render import render
from rank_table.rules.catalogue import RULES
from rank_table.sources import hccn, npu_smi
from rank_table.table import RankTable
from tests.rank_table.documents import ALL

FUZZ = settings(max_examples=100, deadline=None, suppress_health_check=list(HealthCheck))
KEYS = st.sampled_from(
    "version status server_count server_list server_id device device_id device_ip rank_id super_pod_list "
    "super_pod_id super_device_id group_list group_count instance_list devices pod_name deploy_mode "
    "node_list ranks node_addr rank_list rank_count local_id level_list net_layer net_instance_id addr "
    "addr_type ports control_plane host_ip host_port backup_device_ip device_port plane_id x".split()
)
SCALARS = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.floats(),
    st.text(max_size=6),
    st.sampled_from(["1.0", "1.1", "1.2", "2.0", "completed", "0", "1", "10.0.0.1", "fd00::1", "IPV4", 0, 1]),
)
VALUES = st.recursive(
    SCALARS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(KEYS, inner, max_size=5),
    max_leaves=25,
)


def both(text: Any) -> None:
    """Check and load: the checker never raises, the loader only its own error."""
    for chip in ("", "910A", "A2", "A3", "950"):
        for finding in check(text, chip, {"HCCL_INTRA_ROCE_ENABLE": "1", "HCCL_INTER_HCCS_DISABLE": "TRUE"}):
            assert finding.rule in RULES and "\n" not in str(finding)
            str(finding).encode("utf-8")
    if isinstance(text, bytes):
        text = text.decode("utf-8", "replace")
    try:
        table = RankTable.loads(text)
    except RankTableError as error:
        assert len(str(error)) < 2000
        return
    assert RankTable.loads(render(table)) == table


@FUZZ
@given(st.binary(max_size=300))
@example(b"")
@example(b"\xef\xbb\xbf{}")
@example(b"\x00" * 50)
def test_any_bytes_give_findings(text: bytes) -> None:
    both(text)
    assert check(text)


@FUZZ
@given(st.text(alphabet='{}[]:,"\\/*#.$<>%01eE-+ \n\tan', max_size=200))
@example('{"a": "\\ud800"}')
@example("[" * 5000)
@example('{"version": ' + "9" * 5000 + "}")
@example("/*" * 2000)
@example("{" * 3000)
@example('"' * 3000)
def test_any_heap_of_json_signs_gives_findings(text: str) -> None:
    both(text)


@FUZZ
@given(st.dictionaries(KEYS, VALUES, max_size=6))
@example({"version": None, "group_list": []})
@example({"group_list": [{"instance_list": [{"devices": []}]}]})
def test_any_document_with_the_keys_of_a_table_gives_findings_or_a_table(document: Any) -> None:
    both(json.dumps(document))


@FUZZ
@given(st.data())
def test_a_good_document_with_one_value_replaced_gives_findings_or_a_table(data: Any) -> None:
    document = ALL[data.draw(st.sampled_from(sorted(ALL)))]()
    place: Any = document
    while True:
        keys = list(place) if isinstance(place, dict) else list(range(len(place)))
        if not keys:
            break
        key = data.draw(st.sampled_from(keys))
        if not isinstance(place[key], (dict, list)) or data.draw(st.booleans()):
            place[key] = data.draw(VALUES)
            break
        place = place[key]
    both(json.dumps(document))


@FUZZ
@given(st.data())
def test_a_good_text_with_a_piece_cut_out_gives_findings_or_a_table(data: Any) -> None:
    text = json.dumps(ALL[data.draw(st.sampled_from(sorted(ALL)))](), indent=1)
    start = data.draw(st.integers(0, len(text)))
    length = data.draw(st.integers(1, 40))
    both(text[:start] + data.draw(st.text(max_size=3)) + text[start + length :])


@FUZZ
@given(st.lists(st.lists(st.integers(0, 15), min_size=1, max_size=8, unique=True), min_size=1, max_size=5))
def test_any_hosts_give_a_table_that_reads_back_and_that_a_checker_takes(hosts: Any) -> None:
    made = [
        Host(
            f"node{number}",
            tuple(Device(n, i, f"10.{number}.0.{n}") for i, n in enumerate(ids)),
            chip="A2",
        )
        for number, ids in enumerate(hosts)
    ]
    table = RankTable.from_hosts(made)
    assert RankTable.loads(render(table)) == table
    assert [finding for finding in check(table, "A2") if finding.level == ERROR] == []
    assert [table.by_rank(rank).rank_id for rank in range(table.world_size)] == list(range(table.world_size))


@FUZZ
@given(st.text(alphabet="NPUIDChipBus-Id Health|+=0123456789:.\n\tAscend910ipaddr", max_size=300))
def test_any_output_of_a_tool_is_read_without_an_exception(text: str) -> None:
    npu_smi.parse_info(text)
    npu_smi.parse_mapping(text)
    npu_smi.parse_list(text)
    npu_smi.parse_topo(text)
    npu_smi.parse_spod(text)
    hccn.parse_conf(text)
    hccn.parse_ip(text)
