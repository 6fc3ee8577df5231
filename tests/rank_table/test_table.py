"""The model: made from hosts, written, read, looked up, merged, converted."""

from __future__ import annotations

import json
import subprocess
import sys
from typing import Any

import pytest

from rank_table.check import ERROR, check
from rank_table.convert import convert
from rank_table.errors import InventoryError, RankTableError
from rank_table.inventory import Device, Host, Inventory, merge, natural, virtual_cpu
from rank_table.ranges import parse_lenient, parse_part, spell
from rank_table.render import render
from rank_table.show import show
from rank_table.table import RankTable
from rank_table.table import merge as merge_tables
from tests.rank_table.documents import ALL, cloud, v1, v1_1, v1_2, v2


def loads(document: dict[str, Any]) -> RankTable:
    return RankTable.loads(json.dumps(document))


def host(name: str, ids: list[int], chip: str = "A2", **more: Any) -> Host:
    devices = tuple(Device(n, index, f"10.9.{len(name)}.{n + 1}") for index, n in enumerate(ids))
    return Host(name, devices, chip=chip, **more)


@pytest.mark.parametrize("layout", sorted(ALL))
def test_unknown_keys_are_kept_and_written_back_everywhere(layout: str) -> None:
    def spoil(value: Any) -> Any:
        if isinstance(value, dict):
            return dict(
                {key: spoil(item) for key, item in value.items()}, vendor_key={"a": [1, None, "é<&'"]}
            )
        return [spoil(item) for item in value] if isinstance(value, list) else value

    document = spoil(ALL[layout]())
    table = loads(document)
    written = json.loads(render(table))

    def count(value: Any) -> int:
        children = value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
        return ("vendor_key" in value if isinstance(value, dict) else 0) + sum(map(count, children))

    assert count(written) == count(document)
    assert RankTable.loads(json.dumps(written)) == table


@pytest.mark.parametrize("layout", sorted(ALL))
def test_the_same_table_gives_the_same_bytes(layout: str) -> None:
    table = loads(ALL[layout]())
    assert render(table) == render(RankTable.loads(render(table)))


def test_hosts_are_numbered_in_order_without_a_gap_whatever_their_device_ids() -> None:
    table = RankTable.from_hosts([host("b", [4, 6]), host("a", [0])])
    assert [(r.rank_id, r.server_id, r.device_id) for r in table.ranks] == [
        (0, "b", 4),
        (1, "b", 6),
        (2, "a", 0),
    ]
    assert table.servers == ("b", "a")
    assert [r.rank_id for r in table.ranks_of("a")] == [2]
    assert table.ranks_of("c") == ()
    assert table.world_size == 3


def test_one_device_gives_the_same_kind_of_table_as_eight() -> None:
    one, eight = (json.loads(render(RankTable.from_hosts(virtual_cpu(range(n)).hosts))) for n in (1, 8))
    assert one["server_list"][0]["device"] == eight["server_list"][0]["device"][:1]
    assert {k: v for k, v in one.items() if k != "server_list"} == {
        k: v for k, v in eight.items() if k != "server_list"
    }


def test_a_missing_rank_is_an_error_that_names_those_there_are() -> None:
    table = RankTable.from_hosts([host("a", [0, 1])])
    for rank in (-1, 2):
        with pytest.raises(RankTableError, match="ranks 0 to 1"):
            table.by_rank(rank)


def test_the_layout_goes_by_the_chip_unless_it_is_asked_for() -> None:
    sdids = tuple(Device(n, n, super_device_id=str(n)) for n in range(2))
    levels = tuple(
        Device(n, n, local_id=n, levels=({"net_layer": 0, "net_instance_id": "r"},)) for n in range(2)
    )
    cases = [
        ([host("a", [0], "910A")], "", "1.0"),
        ([host("a", [0], "A2")], "", "1.0"),
        ([host("a", [0], "A3")], "", "1.0"),  # no super_device_id: an AI server
        ([Host("a", sdids, chip="A3")], "", "1.2"),
        ([Host("a", sdids, chip="A3")], "1.0", "1.0"),
        ([Host("a", levels, chip="950")], "", "2.0"),
        ([host("a", [0], "910A")], "cloud", "cloud"),
    ]
    for hosts, asked, layout in cases:
        table = RankTable.from_hosts(hosts, asked)
        assert table.layout == layout
        assert RankTable.loads(render(table)) == table


def test_host_ip_is_written_for_a3_alone_and_never_beside_devices_without_an_address() -> None:
    for chip, address, written in (("A3", "10.9.0.1", True), ("A3", "", False), ("A2", "10.9.0.1", False)):
        device = Device(0, 0, address, super_device_id="5")
        text = render(RankTable.from_hosts([Host("a", (device,), "10.0.0.1", chip=chip)]))
        assert ("host_ip" in text) == written


def test_a_layout_whose_facts_are_unknown_is_refused() -> None:
    with pytest.raises(RankTableError, match="hccl_rootinfo"):
        RankTable.from_hosts([host("a", [0], "950")])
    with pytest.raises(RankTableError, match="spod-info"):
        RankTable.from_hosts([host("a", [0])], "1.2")


def test_a_cloud_table_is_numbered_as_hccl_orders_it() -> None:
    document = cloud()
    document["group_list"][0]["instance_list"].reverse()
    document["group_list"][0]["instance_list"][0]["devices"].reverse()
    assert [(r.server_id, r.device_id, r.pod_name) for r in loads(document).ranks] == [
        ("10.0.0.1", 0, "job-0"),
        ("10.0.0.1", 1, "job-0"),
        ("10.0.0.2", 0, "job-1"),
        ("10.0.0.2", 1, "job-1"),
    ]


def test_cloud_servers_order_as_text_and_pods_by_their_number_when_asked_for() -> None:
    document = cloud()
    first, second = document["group_list"][0]["instance_list"]
    first["server_id"], second["server_id"] = "10.0.0.9", "10.0.0.10"
    table, notes = convert(loads(document), "1.0")
    assert table.servers == ("10.0.0.10", "10.0.0.9") and "--by-pod" in notes[0]
    table, notes = convert(loads(document), "1.0", by_pod=True)
    assert table.servers == ("10.0.0.9", "10.0.0.10") and "ModelArts" in notes[0]


def test_hosts_of_a_2_0_table_are_told_apart_by_their_local_ids() -> None:
    document = v2(4)
    for rank in document["rank_list"][2:]:
        rank["device_id"] -= 2
    assert loads(document).servers == ("az0-rack0", "az0-rack0+2")


def test_a_process_of_the_host_in_1_1_has_no_device() -> None:
    table = loads(v1_1())
    assert [rank.device_id for rank in table.ranks] == [0, -1]
    assert "host" in show(table)


@pytest.mark.parametrize(
    "spoil, said",
    [
        (
            lambda d: d["server_list"][0]["device"][1].pop("rank_id"),
            r"server_list\[0\].device\[1\].rank_id: missing",
        ),
        (lambda d: d["server_list"][0]["device"][1].update(rank_id="0"), "0 is duplicate"),
        (lambda d: d["server_list"][0]["device"][1].update(rank_id="9"), "rank_ids are not 0 to 3"),
        (lambda d: d["server_list"][0]["device"][1].update(device_id="x"), "'x' is not a number"),
        (lambda d: d["server_list"].append(3), r"server_list\[2\]: not an object"),
        (lambda d: d.update(server_list="x"), "server_list: not a list"),
        (lambda d: d.update(server_list=[]), "server_list: empty"),
        (lambda d: d.update(version="3.0"), "unknown version"),
        (lambda d: d.pop("version"), "no version"),
    ],
)
def test_a_document_that_is_not_a_table_is_refused_with_its_path(spoil: Any, said: str) -> None:
    document = v1(2, 2)
    spoil(document)
    with pytest.raises(RankTableError, match=said):
        loads(document)


def test_a_file_that_cannot_be_read_is_named(tmp_path: Any) -> None:
    with pytest.raises(RankTableError, match=r"none\.json"):
        RankTable.load(str(tmp_path / "none.json"))
    (tmp_path / "bad.json").write_bytes(b"\xff")
    with pytest.raises(RankTableError, match=r"bad\.json"):
        RankTable.load(str(tmp_path / "bad.json"))


def test_the_cluster_spec_has_an_address_and_a_port_for_every_rank() -> None:
    document = v1(2, 2)
    document["server_list"][1]["host_ip"] = "fd00::1"
    assert loads(document).cluster_spec(6000) == {
        "worker": ["10.0.0.1:6000", "10.0.0.1:6001", "[fd00::1]:6000", "[fd00::1]:6001"]
    }


def test_merged_tables_have_contiguous_ranks_in_natural_order_of_the_servers() -> None:
    tables = [RankTable.from_hosts([host(name, [0, 1])]) for name in ("node10", "node2", "node1")]
    merged = merge_tables(tables)
    assert merged.servers == ("node1", "node2", "node10")
    assert [rank.rank_id for rank in merged.ranks] == list(range(6))
    assert merge_tables(tables, ["node10", "node1", "node2"]).servers == ("node10", "node1", "node2")
    assert merge_tables(tables[::-1]) == merged  # the order of the arguments decides nothing


def test_merged_super_pods_keep_their_servers() -> None:
    one, two = v1_2(1, 1), v1_2(1, 1)
    two["server_list"][0]["server_id"] = "10.0.0.2"
    two["super_pod_list"][0]["server_list"][0]["server_id"] = "10.0.0.2"
    for device in two["server_list"][0]["device"]:
        device["super_device_id"] = str(int(device["super_device_id"]) + 8)
        device["device_ip"] = device["device_ip"].replace(".0.", ".1.", 1)
    merged = merge_tables([loads(one), loads(two)])
    assert [f for f in check(render(merged), "A3") if f.level == ERROR] == []
    assert len(merged.super_pods) == 1


def test_tables_that_do_not_belong_together_are_not_merged() -> None:
    one = loads(v1(1, 2))
    with pytest.raises(RankTableError, match=r"duplicate server_id .*: in two tables"):
        merge_tables([one, one])
    with pytest.raises(RankTableError, match=r"cannot merge tables of 1\.0, 2\.0"):
        merge_tables([one, loads(v2())])
    with pytest.raises(RankTableError, match=r"the order has 10\.0\.0\.7"):
        merge_tables([one], ["10.0.0.1", "10.0.0.7"])


def test_inventories_merge_in_natural_order_and_refuse_a_repeated_server() -> None:
    inventories = [Inventory((host(name, [0]),)) for name in ("n10", "n9")]
    assert [h.server_id for h in merge(inventories).hosts] == ["n9", "n10"]
    assert [h.server_id for h in merge(inventories, ["n10", "n9"]).hosts] == ["n10", "n9"]
    with pytest.raises(InventoryError, match="duplicate server_id n9"):
        merge([inventories[1], inventories[1]])
    with pytest.raises(InventoryError, match="n11"):
        merge(inventories, ["n9", "n11"])


def test_1_2_becomes_1_0_without_its_super_pods_and_says_so() -> None:
    table, notes = convert(loads(v1_2()), "1.0")
    document = json.loads(render(table))
    assert "super_pod_list" not in document and "super" not in json.dumps(document)
    assert notes and [f for f in check(json.dumps(document), "A2") if f.level == ERROR] == []


def test_what_a_layout_cannot_hold_is_refused() -> None:
    cases = [
        (v1(), "1.2", "super_device_id"),
        (v1(), "2.0", "network levels"),
        (v2(), "1.0", "network levels"),
        (v1_1(), "1.0", "process of the host"),
        (v1(), "9.9", "one of 1.0"),
    ]
    for document, layout, said in cases:
        with pytest.raises(RankTableError, match=said):
            convert(loads(document), layout)


def test_a_table_in_another_order_than_the_cloud_templates_is_not_converted_to_it() -> None:
    table, _ = convert(loads(v1(2, 2)), "cloud")
    assert [f for f in check(render(table)) if f.level == ERROR] == []
    swapped = v1(2, 2)
    swapped["server_list"][0]["server_id"] = "10.0.0.3"
    with pytest.raises(RankTableError, match="no rank_ids"):
        convert(loads(swapped), "cloud")


def test_a_two_server_table_is_shown_with_its_servers_ranks_and_addresses() -> None:
    lines = show(loads(v1_2(1, 2, 1))).splitlines()
    assert lines[0] == "version 1.2, status completed: 2 ranks on 2 servers"
    assert lines[1].split("  ")[0] == "SERVER"
    assert [line.split() for line in lines[2:]] == [
        ["10.0.0.1", "0", "0", "192.0.0.1", "pod-0", "0"],
        ["10.0.0.2", "1", "0", "192.0.1.1", "pod-0", "1"],
    ]


def test_names_sort_as_people_count_and_numbers_are_spelt_as_devices_takes_them() -> None:
    assert sorted(["a10", "a9", "10.0.0.10", "10.0.0.9"], key=natural) == [
        "10.0.0.9",
        "10.0.0.10",
        "a9",
        "a10",
    ]
    assert (spell([0, 1, 2, 7]), spell([]), spell([3])) == ("0-2,7", "", "3")


def test_one_part_of_a_list_is_a_number_or_a_range_and_nothing_else() -> None:
    assert (parse_part("7"), parse_part("0-3"), parse_part("3-3")) == (range(7, 8), range(4), range(3, 4))
    assert parse_part("3-0") is not None and not parse_part("3-0")  # descending: empty
    refused = ("", "-", "-1", "1-", "1-2-3", " 1", "1 - 2", "a", "\u00b2", "\u0663", "1234567890")
    assert [parse_part(text) for text in refused] == [None] * len(refused)


def test_a_list_of_the_kernel_is_read_past_what_is_no_part_of_it() -> None:
    assert parse_lenient("0-2,8\n") == {0, 1, 2, 8}
    assert parse_lenient(" 0-1  4 , 6,x,9-3,-,0-999999999") == {0, 1, 4, 6}
    assert parse_lenient("") == set()


def test_a_rank_imports_nothing_but_the_standard_library_with_the_table() -> None:
    code = (
        "import sys; import rank_table.table;"
        "print([n for n in ('yaml', 'jinja2', 'click', 'numpy', 'tensorflow', 'psutil') if n in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], stdout=subprocess.PIPE, check=True)
    assert done.stdout.decode().strip() == "[]"
