"""The one view of the devices: every layout of npu-smi's tables, its numbers, and its words when it fails."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rank_table.sources import chips, npu_smi, words
from rank_table.sources.chips import look
from rank_table.sources.npu_smi import SmiProcess, parse_info
from tests.rank_table.conftest import FakeHost

A2_HEAD = (
    "| NPU   Name                | Health        | Power(W)    Temp(C)           Hugepages-Usage(page)|\n"
    "| Chip                      | Bus-Id        | AICore(%)   Memory-Usage(MB)  HBM-Usage(MB)        |\n"
)
A3_HEAD = A2_HEAD.replace("Chip        ", "Chip  Phy-ID")
DUO_HEAD = (
    "| NPU     Name        | Health          | Power(W)     Temp(C)           Hugepages-Usage(page) |\n"
    "| Chip    Device      | Bus-Id          | AICore(%)    Memory-Usage(MB)                        |\n"
)
HEAD_950 = (
    "| NPU ID | Name             | Health        | Power(W)    Temp(C)           Hugepages-Usage(page) |\n"
    "|        |                  | Bus-Id        | NPU Util(%) Memory-Usage(MB)  HBM-Usage(MB)         |\n"
)
PROCESSES = (
    "| NPU     Chip              | Process id    | Process name             | Process memory(MB)      |\n"
)
PROCESSES_26 = (
    "| NPU   Chip  | Process id  | Process name  | Process memory(MB)  | Process id in container |\n"
)
RULE = "+===========================+===============+====================================================+\n"


def card(slot: int, health: str = "OK", used: str = "3318 / 65536", name: str = "910B3") -> str:
    """Write the two rows of a card of one chip."""
    return (
        f"| {slot:<5} {name:<20}| {health:<13} | 101.8       43                0    / 0             |\n"
        f"| 0                         | 0000:C1:00.0  | 0           0    / 0          {used:<20} |\n{RULE}"
    )


def mapping(*rows: tuple[Any, ...], phy: bool = True) -> str:
    """Write what `info -m` prints."""
    titles = ["NPU ID", "Chip ID", "Chip Logic ID", *(["Chip Phy-ID"] if phy else []), "Chip Name"]
    return "".join("\t" + "".join(f"{cell!s:<31}" for cell in row) + "\n" for row in [titles, *rows])


def test_a_910b_has_memory_and_processes_with_and_without_names() -> None:
    text = A2_HEAD + RULE + card(0, used="60111/ 65536") + card(1) + PROCESSES + RULE
    text += (
        "| 0       0                 | 1333928       |                          | 37709                   |\n"
    )
    text += (
        "| No running processes found in NPU 1                                                         |\n"
    )
    found = parse_info(text)
    assert [(chip.used, chip.total) for chip in found.chips] == [(60111, 65536), (3318, 65536)]
    assert [chip.processes for chip in found.chips] == [(SmiProcess(1333928, "", 37709),), ()]
    assert found.unread == ()


def test_npu_smi_26_has_a_fifth_column_of_processes() -> None:
    text = A3_HEAD
    for die in (0, 1):
        text += "| 4     Ascend910           | OK            | -          33         0    / 0             |\n"
        text += f"| {die}     {8 + die}             | 0000:9D:00.0  | 0     0    / 0        2870 / 65536 |\n"
    text += PROCESSES_26
    text += "| 4       1   | 4190001     | VLLMWorker_TP | 57001               | NA                      |\n"
    text += "| 4       1   | 4190002     | VLLMWorker_TP | 12                  | 77                      |\n"
    found = parse_info(text)
    assert found.generation == "A3" and [chip.device_id for chip in found.chips] == [8, 9]
    assert found.chips[1].processes == (
        SmiProcess(4190001, "VLLMWorker_TP", 57001),
        SmiProcess(4190002, "VLLMWorker_TP", 12, 77),
    )
    assert str(found.chips[1].processes[1]) == "VLLMWorker_TP (pid 4190002, pid 77 in its container, 12 MB)"


def test_a_950_has_columns_of_its_own_and_no_chip_ids() -> None:
    text = HEAD_950 + "+========+==================+===============+=====+\n"
    text += "| 3      | Ascend950DT      | Alarm         | 377.2       48          0     / 0          |\n"
    text += "|        |                  | NA            | 0           0     / 0   90633 / 98304      |\n"
    text += "| NPU ID | Process id | Process name | Process memory(MB) | Process id in container |\n"
    text += "| 3      | 1001       | python       | 256                | NA                      |\n"
    (chip,) = parse_info(text).chips
    assert (chip.npu_id, chip.name, chip.health) == (3, "Ascend950DT", "Alarm")
    assert (chip.used, chip.total) == (90633, 98304)
    assert chip.processes == (SmiProcess(1001, "python", 256),)


def test_a_300i_duo_has_a_device_column_and_no_hbm() -> None:
    text = DUO_HEAD
    for die in (0, 1):
        text += "| 2       310P3       | OK              | NA           45         0     / 0             |\n"
        text += f"| {die}       {die}   | 0000:01:00.0    | 0            1529 / 44280                     |\n"
    found = parse_info(text)
    assert [(chip.npu_id, chip.chip_id, chip.device_id, chip.used) for chip in found.chips] == [
        (2, 0, 0, 1529),
        (2, 1, 1, 1529),
    ]
    assert found.generation == ""


@pytest.mark.parametrize(
    "text",
    [
        "DrvMngGetConsoleLogLevel failed. (g_conLogLevel=3)\n" + A2_HEAD + card(0, "Alarm"),
        ("\ufeff" + A2_HEAD + card(0, "Alarm")).replace("\n", "\r\n"),
        A2_HEAD + card(0, "Alarm", name="Ascend910B3-64GB-HCCS|").replace("HCCS|", "HCCS"),
        A2_HEAD + card(0, "Alarm").replace("101.8    ", "\n101.8 "),  # broken by a narrow terminal
        A2_HEAD + card(0, "Alarm").splitlines()[0],  # the second row is missing
        A2_HEAD + card(0, "Alarm", used="- / NA").replace("0000:C1:00.0", "NA          "),
    ],
)
def test_the_health_is_read_from_tables_in_bad_shape(text: str) -> None:
    (chip,) = parse_info(text).chips
    assert (chip.npu_id, chip.chip_id, chip.health) == (0, 0, "Alarm")


def test_rows_of_processes_that_are_not_understood_are_told() -> None:
    text = A2_HEAD + card(0) + PROCESSES + "| a new kind of row | 1 | 2 | 3 |\n"
    assert parse_info(text).unread == ("a new kind of row | 1 | 2 | 3",)
    odd = (
        "| 9       0                 | 12            | python                   | 1                       |\n"
    )
    assert parse_info(A2_HEAD + card(0) + PROCESSES + odd).unread == ("python (pid 12, 1 MB)",)
    bars = (
        PROCESSES
        + "| 0       0                 | 12            | a|b                   | -                       |\n"
    )
    assert parse_info(A2_HEAD + card(0) + bars).chips[0].processes == (SmiProcess(12, "a|b"),)


@given(st.text(alphabet="|+- \t\n0123456789abNPUHealthChipBus-IdProcess id/", max_size=400))
def test_no_text_breaks_the_reading(text: str) -> None:
    for table in (text, A2_HEAD + text, A2_HEAD + card(0) + PROCESSES + text):
        parse_info(table)
    npu_smi.parse_mapping(text)
    words.explained(text)


@pytest.mark.parametrize(
    "nodes, phy, rows, wanted",
    [
        ((), True, [(2, 0, 0, 0, "x"), (5, 0, 1, 1, "x")], [0, 1]),
        ((0, 1), True, [(2, 0, 0, 0, "x"), (5, 0, 1, 1, "x")], [0, 1]),
        ((), False, [(2, 0, 0, "x"), (5, 0, 1, "x")], [0, 1]),  # 910A and A2 print no Phy-ID
        ((0, 1), False, [(2, 0, 1, "x"), (5, 0, 0, "x")], [1, 0]),
        ((2, 5), False, [(2, 0, 0, "x"), (5, 0, 1, "x")], [2, 5]),  # a container with two of eight
        ((2, 5), True, [], [2, 5]),
        ((0, 1), True, [], [0, 1]),  # no mapping: in the order of the slots
        ((), True, [], [2, 5]),
    ],
)
def test_cards_are_found_by_their_device_id(
    host: FakeHost, nodes: tuple[int, ...], phy: bool, rows: list[tuple[Any, ...]], wanted: list[int]
) -> None:
    host.nodes(*nodes)
    table = A2_HEAD + card(2) + card(5, "Alarm") + PROCESSES
    table += (
        "| 5       0                 | 4190001       | python                   | 900                     |\n"
    )
    answers: dict[str, Any] = {"info": table}
    if rows:
        answers["info -m"] = mapping(*rows, phy=phy)
    host.tool("npu-smi", answers)
    seen = look(host.machine())
    assert [chip.device_id for chip in seen.chips] == wanted
    (held,) = seen.of([wanted[1]])
    assert (held.health, held.processes[0].pid, held.npu_id) == ("Alarm", 4190001, 5)


@pytest.mark.parametrize("code", [0, 255])
def test_the_reason_is_told_and_not_the_banner_alone(host: FakeHost, code: int) -> None:
    text = "DrvMngGetConsoleLogLevel failed. (g_conLogLevel=3)\ndcmi module initialize failed. ret is -8005\n"
    host.tool("npu-smi", {"*": {"exit": code, "text": text}})
    (problem,) = look(host.machine()).problems
    assert "dcmi module initialize failed. ret is -8005 (first: DrvMng" in problem
    assert "(g_conLogLevel=3)): the driver does not answer" in problem
    assert look(host.machine()).known is False


def test_a_device_of_another_container_is_explained(host: FakeHost, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("rank_table.sources.tools.WAITS", (0.0,))
    said = "dcmi model initialized failed, because the device is used. ret is -8020"
    host.tool("npu-smi", {"*": {"exit": 1, "text": said}})
    assert "ret is -8020: another container or process owns the device" in look(host.machine()).problems[0]


def test_a_tool_that_this_user_may_not_run_is_told_from_one_that_is_missing(host: FakeHost) -> None:
    (host.bin / "npu-smi").write_text("#!/bin/sh\n")
    (problem,) = look(host.machine()).problems
    assert (
        problem.startswith("npu-smi: ")
        and "may not be run by this user; join the group HwHiAiUser" in problem
    )
    (host.bin / "npu-smi").unlink()
    assert look(host.machine()).problems == ("npu-smi: not found on PATH",)


def test_the_tools_are_found_beside_the_driver_wherever_that_is(host: FakeHost) -> None:
    host.file("/opt/huawei/driver/tools/hccn_tool", "#!/bin/sh\necho ipaddr:10.0.0.1\n")
    (host.root / "opt/huawei/driver/tools/hccn_tool").chmod(0o755)
    for environ in (
        {"ASCEND_HOME_PATH": "/opt/huawei/ascend-toolkit/latest"},
        {"ASCEND_TOOLKIT_HOME": "/opt/huawei/cann-8.5.0/"},
    ):
        assert "10.0.0.1" in host.machine(dict(environ, PATH="/bin")).ask("hccn_tool").text
    assert host.machine({"PATH": "/bin"}).find("hccn_tool") is None
    host.file("/etc/ascend_install.info", "UserName=HwHiAiUser\nDriver_Install_Path_Param=/opt/huawei\n")
    assert host.machine({"PATH": "/bin"}).find("hccn_tool")


def test_a_view_keeps_what_is_known_when_the_mapping_fails(host: FakeHost) -> None:
    host.tool("npu-smi", {"info": A2_HEAD + card(0)})
    seen = look(host.machine())
    assert seen.known and seen.generation == "A2"
    assert seen.problems == ("npu-smi info -m: exit code 1: unknown command",)
    host.tool("npu-smi", {"info -m": mapping((3, 0, 0, 0, "Ascend 910B3"))})
    seen = look(host.machine())
    assert not seen.known and [chip.device_id for chip in seen.chips] == [0] and seen.generation == "A2"


def test_nothing_is_known_without_the_tool(host: FakeHost) -> None:
    assert look(host.machine()) == chips.View(problems=("npu-smi: not found on PATH",))
