"""The tools and files of an Ascend host, in every layout, and what is read from them."""

from __future__ import annotations

from pathlib import Path

import pytest

from rank_table.errors import InventoryError
from rank_table.inventory import Device
from rank_table.sources import hccn, npu_smi
from rank_table.sources.visible import parse_rt_visible, parse_visible, renumber

WIDE = """
+-------------------------------------------------------------------------------------------------+
| npu-smi 25.2.0                   Version: 25.2.0                                                |
+---------------------------+---------------+-----------------------------------------------------+
| NPU   Name                | Health        | Power(W)     Temp(C)           Hugepages-Usage(page)|
| Chip                      | Bus-Id        | AICore(%)    Memory-Usage(MB)  HBM-Usage(MB)        |
+===========================+===============+=====================================================+
| 4     910B4               | Warning       | 101.8        43                0    / 0             |
| 0                         | 0000:C1:00.0  | 0            0    / 0          3318 / 65536         |
+===========================+===============+=====================================================+
| NPU     Chip              | Process id    | Process name             | Process memory(MB)       |
+===========================+===============+=====================================================+
| 4       0                 | 6277          | python                   | 56485                    |
+===========================+===============+=====================================================+
[WARNING]The driver package may not be completely installed
"""
NEWEST = """
+-------------------------------------------------------------------------------------------------+
| npu-smi 26.0.0                   Version: 26.0.0                                                |
+---------------------------+---------------+-----------------------------------------------------+
| NPU ID   Name             | Health        | Power(W)     Temp(C)           Hugepages-Usage(page)|
|                           | Bus-Id        | NPU Util(%)  Memory-Usage(MB)  HBM-Usage(MB)        |
+===========================+===============+=====================================================+
| 0        Ascend950PR      | OK            | 101.8        43                0    / 0             |
|                           | NA            | 0            0    / 0          3318 / 131072        |
+===========================+===============+=====================================================+
| 1        Ascend950PR      | Alarm         | 100.1        41                0    / 0             |
|                           | NA            | 0            0    / 0          3318 / 131072        |
+===========================+===============+=====================================================+
| NPU ID                    | Process id    | Process name             | Process memory(MB)       |
+===========================+===============+=====================================================+
| 0                         | 6277          | python                   | 56485                    |
"""
# `info -m` of A3 and 950 after the titles that npu-smi's source prints; no public sample was found.
MAPPING_A3 = (
    "\tNPU ID                         Chip ID                        Chip Logic ID                  "
    "Chip Phy-ID                    Chip Name\n"
    "\t5                              1                              3                              "
    "11                             Ascend910\n"
    "\t5                              2                              -                              "
    "-                              Mcu\n"
)
MAPPING_950 = (
    "\tNPU ID                         Slot ID                        Chip ID                        "
    "Chip Phy-ID                    Chip Name\n"
    "\t3                              1                              0                              "
    "3                              Ascend950PR\n"
)


def text(path: Path) -> str:
    return path.read_text(encoding="utf-8")


def test_npu_smi_info_of_a2_gives_its_chips_and_its_generation(samples: Path) -> None:
    chips, generation, _ = npu_smi.parse_info(text(samples / "npu-smi-info-a2-910B3.txt"))
    assert generation == "A2"
    assert [chip.npu_id for chip in chips] == list(range(8))
    assert (chips[4].name, chips[4].health, chips[4].bus) == ("910B3", "OK", "0000:01:00.0")


def test_npu_smi_info_of_a3_gives_both_dies_of_every_npu(samples: Path) -> None:
    chips, generation, _ = npu_smi.parse_info(text(samples / "npu-smi-info-a3-910C.txt"))
    assert generation == "A3"
    assert [(chip.npu_id, chip.chip_id, chip.phy_id) for chip in chips] == [
        (n // 2, n % 2, n) for n in range(16)
    ]


def test_npu_smi_info_of_910a_with_other_output_around_it_gives_its_chips(samples: Path) -> None:
    chips, generation, _ = npu_smi.parse_info(
        text(samples / "npu-smi-23.0.5-info-health-ecc-board-usages-910A.txt")
    )
    assert [(chip.npu_id, chip.health) for chip in chips] == [(0, "OK"), (7, "OK")]
    assert generation == ""  # the name is masked; the board tells


def test_the_wider_table_is_read_too_and_its_processes_are_no_chips() -> None:
    chips, generation, _ = npu_smi.parse_info(WIDE)
    assert [(chip.npu_id, chip.health) for chip in chips] == [(4, "Warning")]
    assert generation == "A2"
    assert [str(process) for process in chips[0].processes] == ["python (pid 6277, 56,485 MB)"]


def test_npu_smi_info_of_950_has_one_row_a_device() -> None:
    chips, generation, _ = npu_smi.parse_info(NEWEST)
    assert generation == "950"
    assert [(chip.npu_id, chip.name, chip.health) for chip in chips] == [
        (0, "Ascend950PR", "OK"),
        (1, "Ascend950PR", "Alarm"),
    ]
    assert [[process.pid for process in chip.processes] for chip in chips] == [[6277], []]


def test_the_mapping_is_read_by_its_titles_without_the_mcu(samples: Path) -> None:
    old = npu_smi.parse_mapping(text(samples / "fd-npu_info_before-npu-smi-m-910A.txt"))
    assert [(chip.npu_id, chip.logic_id, chip.name) for chip in old] == [
        (n, n, "Ascend 910A") for n in range(8)
    ]
    assert [(c.npu_id, c.chip_id, c.logic_id, c.phy_id) for c in npu_smi.parse_mapping(MAPPING_A3)] == [
        (5, 1, 3, 11)
    ]
    assert [(c.npu_id, c.chip_id, c.phy_id) for c in npu_smi.parse_mapping(MAPPING_950)] == [(3, 0, 3)]


def test_the_list_gives_npus_and_their_chip_counts(samples: Path) -> None:
    assert npu_smi.parse_list(text(samples / "npu-smi-info-l-a2.txt")) == [(n, 1) for n in range(8)]
    assert npu_smi.parse_list("Total Count : 2\nNPU ID : 0\nChip Count : 2\nNPU ID : 4\n") == [(0, 2), (4, 1)]


def test_the_topology_gives_the_cores_near_each_npu_in_any_order(samples: Path) -> None:
    cores = npu_smi.parse_topo(text(samples / "npu-smi-topo-a2-910B3.txt"))
    assert [cores[n] for n in range(8)] == ["144-167"] * 2 + ["96-119"] * 2 + ["0-23"] * 2 + ["48-71"] * 2
    assert npu_smi.parse_topo("       NPU0  NPU1\nNPU0  X  HCCS\nNPU1  HCCS  X\n") == {}


def test_health_board_and_super_pod_are_read_from_their_lines(samples: Path) -> None:
    board = text(samples / "npu-smi-23.0.5-info-health-ecc-board-usages-910A.txt")
    assert npu_smi.parse_health(board) == "OK"
    assert npu_smi.parse_board(board) == "910A"
    spod = npu_smi.parse_spod(text(samples / "a3-spod-info-doc.txt"))
    assert spod == {"SDID": "16777216", "Super Pod Size": "384", "Super Pod ID": "0", "Server Index": "4"}


def test_every_reading_of_npu_smi_takes_garbage_for_nothing() -> None:
    odd = MAPPING_950.replace("\t3", "\t\xb2")  # a digit, and no number
    bars = ("|||", "| |\n|0|\n|0|0|0|")
    for garbage in ("", *bars, "NPU ID : x\n", "\x00\xff" * 100, "NPU ID  a\n1 2 3", odd, "NPU ID : \xb2"):
        assert npu_smi.parse_info(garbage)[0] == []
        assert npu_smi.parse_mapping(garbage) == []
        assert npu_smi.parse_list(garbage) == []
        assert npu_smi.parse_topo(garbage) == {}
        assert npu_smi.parse_spod(garbage) == {}


def test_hccn_conf_gives_addresses_among_other_keys_in_any_order(samples: Path) -> None:
    found = hccn.parse_conf(text(samples / "hccn.conf-8p.txt"))
    assert found.addresses == {n: (f"192.170.100.{100 + n}", f"address_{n}") for n in range(8)}
    assert found.problems == []


def test_hccn_conf_takes_ipv6_where_there_is_no_ipv4() -> None:
    conf = "IPv6address_1=fd00::1\naddress_0=10.0.0.1\nIPv6address_0=fd00::0\nnetmask_0=255.0.0.0\n"
    found = hccn.parse_conf(conf + "gateway_1=10.9.9.9\n#address_2=10.0.0.2\naddress_3=unset\n")
    assert found.addresses == {0: ("10.0.0.1", "address_0"), 1: ("fd00::1", "IPv6address_1")}
    assert found.problems == ["/etc/hccn.conf: line 7: address_3=unset: no address"]


@pytest.mark.parametrize(
    "text, addresses, said",
    [
        ("\ufeffaddress_0 = 10.0.0.1 # first\r\n; a comment\r\n", {0: "10.0.0.1"}, []),
        ("address_0=10.0.0.1/24\nnetmask_0=255.255.255.0\n", {0: "10.0.0.1"}, []),
        ("address_0=0.0.0.0\n", {}, ["line 1: address_0=0.0.0.0: not the address of a port"]),
        ("\n\naddress_1=224.0.0.5\n", {}, ["line 3: address_1=224.0.0.5: not the address of a port"]),
        ("address_1=255.255.255.255\naddress_2=127.0.0.1\n", {}, ["line 1", "line 2"]),
        (
            "IPv6address_1=ff02::1\nIPv6address_2=::\nIPv6address_3=fd00::3\n",
            {3: "fd00::3"},
            ["line 1", "line 2"],
        ),
        (
            "address_0=10.0.0.1\naddress_0=10.0.0.2\n",
            {0: "10.0.0.2"},
            ["line 1: address_0=10.0.0.1: given again"],
        ),
        ("address_0=10.0.0.1\naddress_0=10.0.0.1\n", {0: "10.0.0.1"}, []),
        (
            "address_0=10.0.0.1\naddress_1=10.0.0.1\n",
            {},
            ["line 2: address_1=10.0.0.1: also that of device 0"],
        ),
        ("address_0=\naddress_x=1\naddress=10.0.0.1\n", {}, ["line 1: address_0=: empty"]),
        ("\x00\xff|||\n=\n_=\n", {}, []),
    ],
)
def test_hccn_conf_is_read_as_people_and_tools_write_it(
    text: str, addresses: dict[int, str], said: list[str]
) -> None:
    found = hccn.parse_conf(text)
    assert {number: address for number, (address, _) in found.addresses.items()} == addresses
    assert len(found.problems) == len(said)
    assert all(part in problem for part, problem in zip(said, found.problems)), found.problems


def test_hccn_tool_answers_give_addresses_of_both_families() -> None:
    assert hccn.parse_ip("ipaddr:192.1.45.172\nnetmask:255.255.0.0\n") == "192.1.45.172"
    assert hccn.parse_ip("ipv6_address:fd00::12\n") == "fd00::12"
    assert hccn.parse_ip("ipaddr:-.-.-.-\n") == ""
    assert hccn.parse_ip("hccn_tool is busy, please try again") == ""


@pytest.mark.parametrize(
    "value, ids",
    [
        ("0", [0]),
        ("1,3", [1, 3]),
        ("0-2,4", [0, 1, 2, 4]),
        (" 4 , 0-1 , 1 ", [0, 1, 4]),
        ("npu-1,npu-3", [1, 3]),
        ("Ascend910-1", [1]),
        ("void", []),
    ],
)
def test_ascend_visible_devices_is_read_as_the_docker_runtime_reads_it(value: str, ids: list[int]) -> None:
    assert parse_visible(value) == tuple(ids)


def test_an_empty_ascend_visible_devices_hides_nothing() -> None:
    assert parse_visible("") is None


@pytest.mark.parametrize("value", ["3-1", "a", "0,,1", "npu-1,2", "npu-1,Ascend910-2", "0-200", "-1", "0;1"])
def test_what_the_docker_runtime_refuses_is_refused(value: str) -> None:
    with pytest.raises(InventoryError, match="ASCEND_VISIBLE_DEVICES=" + value):
        parse_visible(value)


@pytest.mark.parametrize(
    "value, ids, reason",
    [
        ("4,5", [4, 5], ""),
        ("1, 2,3", [1], "not a number"),
        ("1,3,8", [1, 3], "does not exist"),
        ("3,1", [3], "not greater"),
        ("1,1", [1], "not greater"),
        ("x", [], "not a number"),
    ],
)
def test_ascend_rt_visible_devices_is_cut_at_the_first_bad_token(
    value: str, ids: list[int], reason: str
) -> None:
    found, warning = parse_rt_visible(value, 8)
    assert list(found) == ids
    assert reason in warning and bool(warning) == bool(reason)


def test_the_runtime_renumbers_what_it_shows() -> None:
    devices = [Device(physical, logical) for logical, physical in enumerate((2, 5, 7))]
    shown = renumber(devices, (1, 2))
    assert [(d.device_id, d.logical_id, d.visible_index) for d in shown] == [(5, 0, 0), (7, 1, 1)]
