"""A host's inventory from every source: tool programs on PATH answer, hang, fail, or print garbage."""

from __future__ import annotations

import json
import os
import signal
import subprocess
from pathlib import Path
from typing import Any

import pytest

from launcher.plan.devices import numbering
from rank_table.check import check
from rank_table.errors import InventoryError
from rank_table.render import render
from rank_table.rules.finding import ERROR
from rank_table.sources.host import discover, present
from rank_table.sources.server_id import own_server_id
from rank_table.table import RankTable
from tests.rank_table.conftest import FakeHost, read
from tests.rank_table.test_sources import NEWEST


def a2(host: FakeHost, samples: Path) -> None:
    """An A2 host as its tools print it."""
    host.nodes(*range(8), "davinci_manager", "vdavinci100")
    host.file("/etc/hccn.conf", read(samples / "hccn.conf-8p.txt"))
    host.tool(
        "npu-smi",
        {
            "info": read(samples / "npu-smi-info-a2-910B3.txt"),
            "info -l": read(samples / "npu-smi-info-l-a2.txt"),
            "info -t topo": read(samples / "npu-smi-topo-a2-910B3.txt"),
        },
    )


def sdid(npu: int, die: int, server: int = 40) -> int:
    """Return the SDID, built as all eleven known values are."""
    return server << 22 | (npu * 4 + die) << 16 | (npu * 2 + die)


def a3(host: FakeHost, samples: Path) -> None:
    """An A3 host: two dies per NPU, addresses only from hccn_tool."""
    host.nodes(*range(16))
    answers: dict[str, Any] = {"info": read(samples / "npu-smi-info-a3-910C.txt")}
    for npu in range(8):
        for die in (0, 1):
            lines = f"SDID : {sdid(npu, die)}\nSuper Pod Size : 384\nSuper Pod ID : 3\nServer Index : 40\n"
            answers[f"info -t spod-info -i {npu} -c {die}"] = "\t" + lines.replace("\n", "\n\t")
    host.tool("npu-smi", answers)
    host.tool(
        "hccn_tool",
        {
            f"-i {n} -ip -g": f"ipaddr:10.0.{245 - n % 2}.{11 + n // 2}\nnetmask:255.255.255.0\n"
            for n in range(16)
        },
    )


def test_an_a2_host_is_known_in_every_numbering_space(host: FakeHost, samples: Path) -> None:
    a2(host, samples)
    inventory = discover(host.machine(), "10.0.0.1")
    mine = inventory.hosts[0]
    assert mine.chip == "A2" and inventory.notes == ("npu-smi info -m: exit code 1: unknown command",)
    device = mine.devices[6]
    assert (device.device_id, device.logical_id, device.npu_id, device.chip_id) == (6, 6, 6, 0)
    assert (device.device_ip, device.health, device.cores) == ("192.170.100.106", "OK", "48-71")
    assert device.origin["device_ip"] == "/etc/hccn.conf: address_6"
    assert device.origin["device_id"] == "/dev/davinci6"
    assert device.origin["cores"] == "npu-smi -t topo"


def test_a_made_a2_table_is_good(host: FakeHost, samples: Path) -> None:
    a2(host, samples)
    inventory = discover(host.machine(), "10.0.0.1")
    table = RankTable.from_hosts(inventory.hosts)
    assert table.version == "1.0"
    assert check(render(table), "A2") == []


def test_an_a3_host_gives_a_super_pod_table_with_the_drivers_sdids(host: FakeHost, samples: Path) -> None:
    a3(host, samples)
    inventory = discover(host.machine(), "10.0.0.1")
    table = RankTable.from_hosts(inventory.hosts)
    assert (table.version, table.super_pods[0].super_pod_id) == ("1.2", "3")
    assert table.by_rank(12).super_device_id == "169345036"  # seen on a real host 40: NPU 6, die 0
    assert table.by_rank(10).super_device_id == "169082890"
    assert table.by_rank(11).device_ip == "10.0.244.16"
    assert check(render(table), "A3") == []


def test_the_tools_run_in_the_c_locale(host: FakeHost, samples: Path) -> None:
    a3(host, samples)
    discover(host.machine({"LC_ALL": "zh_CN.UTF-8"}), "h")
    assert {line.split("LC_ALL=")[1] for line in host.calls("npu-smi").splitlines()} == {"C"}


def test_a_container_that_shows_one_device_keeps_its_physical_id_and_gets_logical_id_0(
    host: FakeHost, samples: Path
) -> None:
    a2(host, samples)
    for number in (0, 1, 2, 3, 5, 6, 7):
        (host.root / "dev" / (f"davinci{number}")).unlink()
    inventory = discover(host.machine({"ASCEND_VISIBLE_DEVICES": "4"}), "h")
    assert [(d.device_id, d.logical_id) for d in inventory.hosts[0].devices] == [(4, 0)]
    assert (
        json.loads(render(RankTable.from_hosts(inventory.hosts)))["server_list"][0]["device"][0]["device_id"]
        == "4"
    )


def test_a_privileged_container_that_may_use_some_keeps_the_logical_ids_of_all(
    host: FakeHost, samples: Path
) -> None:
    a2(host, samples)
    inventory = discover(host.machine({"ASCEND_VISIBLE_DEVICES": "npu-4,npu-6"}), "h")
    assert [(d.device_id, d.logical_id) for d in inventory.hosts[0].devices] == [(4, 4), (6, 6)]


def test_the_runtime_variable_renumbers_logical_ids_and_leaves_physical_ones(
    host: FakeHost, samples: Path
) -> None:
    a2(host, samples)
    inventory = discover(host.machine({"ASCEND_RT_VISIBLE_DEVICES": "4,6, 7"}), "h")
    rows = [(n.rank, n.device_id, n.logical_id, n.visible, n.npu, n.chip) for n in numbering(inventory.hosts)]
    assert rows == [("0", "4", "0", "0", "4", "0"), ("1", "6", "1", "1", "6", "0")]
    assert any("stops there and sees 4,6" in note for note in inventory.notes)


def test_void_hides_every_device(host: FakeHost, samples: Path) -> None:
    a2(host, samples)
    assert discover(host.machine({"ASCEND_VISIBLE_DEVICES": "void"}), "h").hosts[0].devices == ()


def test_a_visible_device_that_is_not_here_is_noted(host: FakeHost) -> None:
    host.nodes(0, 1)
    inventory = discover(host.machine({"ASCEND_VISIBLE_DEVICES": "0-2"}), "h")
    assert [d.device_id for d in inventory.hosts[0].devices] == [0, 1]
    assert any("ASCEND_VISIBLE_DEVICES: device 2 is not on this host" in note for note in inventory.notes)


def test_a_descending_visible_range_is_refused(host: FakeHost) -> None:
    with pytest.raises(InventoryError, match="descending"):
        discover(host.machine({"ASCEND_VISIBLE_DEVICES": "3-1"}), "h")


def test_without_device_nodes_npu_smi_tells_the_devices(host: FakeHost, samples: Path) -> None:
    host.tool("npu-smi", {"info": read(samples / "npu-smi-info-a3-910C.txt")})
    inventory = discover(host.machine(), "h")
    assert [d.device_id for d in inventory.hosts[0].devices] == list(range(16))
    assert inventory.hosts[0].devices[3].origin["device_id"] == "npu-smi info"


def test_a_950_takes_its_levels_from_the_root_info(host: FakeHost) -> None:
    host.nodes(0, 1)
    host.tool("npu-smi", {"info": NEWEST})
    level = {"net_layer": 0, "net_instance_id": "az0-rack0", "net_type": "TOPO_FILE_DESC"}
    ranks = [
        {
            "device_id": n,
            "local_id": n,
            "level_list": [
                dict(
                    level,
                    rank_addr_list=[{"addr_type": "IPV4", "addr": f"10.1.0.{n + 1}", "ports": ["0/1"]}],
                )
            ],
        }
        for n in range(2)
    ]
    host.file("/etc/hccl_rootinfo.json", json.dumps({"version": "2.0", "rank_count": 2, "rank_list": ranks}))
    inventory = discover(host.machine(), "h1")
    table = RankTable.from_hosts(inventory.hosts)
    assert (table.version, inventory.hosts[0].devices[1].health) == ("2.0", "Alarm")
    assert [f for f in check(render(table), "950") if f.level == ERROR] == []
    assert RankTable.loads(render(table)).servers == ("h1",)


def test_the_pci_ids_tell_the_generation_without_npu_smi(host: FakeHost) -> None:
    host.nodes(0)
    host.file("/sys/bus/pci/devices/0000:c1:00.0/vendor", "0x19e5\n")
    host.file("/sys/bus/pci/devices/0000:c1:00.0/device", "0xd801\n")
    host.file("/sys/bus/pci/devices/0000:00:1f.0/vendor", "0x8086\n")
    assert discover(host.machine(), "h").hosts[0].chip == "910A"


def test_the_board_tells_the_generation_when_the_name_is_masked(host: FakeHost, samples: Path) -> None:
    board = read(samples / "npu-smi-23.0.5-info-health-ecc-board-usages-910A.txt")
    host.tool("npu-smi", {"info": board, "info -t board -i 0": board})
    assert discover(host.machine(), "h").hosts[0].chip == "910A"


def test_addresses_come_from_the_file_first_and_the_tool_for_the_rest(host: FakeHost) -> None:
    host.nodes(0, 1, 2)
    host.file("/etc/hccn.conf", "address_1=10.0.0.1\n")
    host.tool(
        "hccn_tool", {"-i 0 -ip -g": "ipaddr:10.0.0.9\n", "-i 2 -ip -inet6 -g": "ipv6_address:fd00::2\n"}
    )
    devices = discover(host.machine(), "h").hosts[0].devices
    assert [d.device_ip for d in devices] == ["10.0.0.9", "10.0.0.1", "fd00::2"]
    assert devices[2].origin["device_ip"] == "hccn_tool -i 2 -ip -inet6 -g"
    assert "-i 1 " not in host.calls("hccn_tool")


@pytest.mark.parametrize(
    "answer, said",
    [
        ({"sleep": 30}, "no answer within 0.5 s"),
        ({"exit": 139, "text": ""}, "exit code 139"),
        ({"exit": 1, "text": "dcmi module initialize failed. ret is -8005"}, "ret is -8005"),
        ("\xff\xfe\x00|||\n" * 50, "no chip in its output"),
        ("", "no chip in its output"),
    ],
)
def test_a_tool_that_hangs_fails_or_prints_garbage_is_named_and_the_nodes_still_count(
    host: FakeHost, answer: Any, said: str
) -> None:
    host.nodes(0, 1)
    host.tool("npu-smi", {"*": answer})
    timeout = 0.5 if isinstance(answer, dict) and "sleep" in answer else 20.0
    inventory = discover(host.machine(timeout=timeout), "h")
    assert [d.device_id for d in inventory.hosts[0].devices] == [0, 1]
    assert any(said in note for note in inventory.notes), inventory.notes


def test_a_tool_that_did_not_answer_is_not_asked_again(host: FakeHost) -> None:
    host.tool("hccn_tool", {"*": {"sleep": 30}})
    host.nodes(*range(4))
    machine = host.machine(timeout=0.5)
    discover(machine, "h")
    assert machine.ask("hccn_tool", "-i", "0").problem.endswith("not asked again")
    assert len(host.calls("hccn_tool").splitlines()) <= 4


def test_a_tool_that_floods_its_output_is_stopped(host: FakeHost) -> None:
    host.tool("npu-smi", {})
    (host.bin / "npu-smi").write_text("#!/bin/sh\nexec yes\n")
    machine = host.machine({"PATH": f"{host.bin}:/usr/bin:/bin"}, timeout=5.0)
    problem = machine.ask("npu-smi", "info").problem
    assert "exit code -25" in problem or "no answer" in problem  # SIGXFSZ, where the kernel has limits


def test_no_tool_is_left_running_when_the_launcher_is_interrupted(
    host: FakeHost, monkeypatch: pytest.MonkeyPatch
) -> None:
    host.tool("npu-smi", {"*": {"sleep": 60}})
    started = []

    def interrupted(process: subprocess.Popen[bytes], *rest: object) -> None:
        started.append(process)
        raise KeyboardInterrupt

    monkeypatch.setattr("rank_table.sources.tools._finish", interrupted)
    with pytest.raises(KeyboardInterrupt):
        host.machine().ask("npu-smi", "info")
    assert started[0].poll() == -signal.SIGKILL


def test_a_tool_that_cannot_be_started_is_named(host: FakeHost) -> None:
    host.tool("npu-smi", {})
    (host.bin / "npu-smi").write_text("#!/nowhere/python\n")
    assert "npu-smi info: No such file" in discover(host.machine(), "h").notes[0]


def test_a_host_without_npus_has_none_and_says_so(host: FakeHost) -> None:
    inventory = discover(host.machine(), "h")
    assert inventory.hosts[0].devices == ()
    assert inventory.notes
    assert present(host.machine()) == ((), "")


def test_server_id_comes_from_the_user_then_the_platform_and_is_never_127(host: FakeHost) -> None:
    assert own_server_id(host.machine({"XDL_IP": "10.1.1.1"}), "mine")[0] == "mine"
    assert own_server_id(host.machine({"XDL_IP": "10.1.1.1"}))[:2] == ("10.1.1.1", "XDL_IP")
    host.file("/etc/machine-id", "3d1219c7c4c5404aaa1f6d2a48adfda4\n")
    for loopback in ("127.0.0.1", "127.0.1.1", "::1", "0.0.0.0", "", "none"):
        name, source, _ = own_server_id(host.machine({"XDL_IP": loopback}))
        assert source != "XDL_IP" and not name.startswith(("127.", "::1"))


def test_server_id_falls_back_to_the_host_name_and_then_the_machine_id(
    host: FakeHost, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("rank_table.sources.server_id._routed_address", lambda: "")
    monkeypatch.setattr("socket.gethostname", lambda: "node7")
    assert own_server_id(host.machine()) == ("node7", "host name", "")
    monkeypatch.setattr("socket.gethostname", lambda: "localhost")
    with pytest.raises(InventoryError, match="--server-id"):
        own_server_id(host.machine())
    host.file("/etc/machine-id", "3d1219c7c4c5404aaa1f6d2a48adfda4\n")
    assert own_server_id(host.machine())[:2] == ("host-3d1219c7c4c5404a", "/etc/machine-id")


def test_a_server_id_longer_than_hccl_takes_is_refused(host: FakeHost) -> None:
    with pytest.raises(InventoryError, match="64"):
        own_server_id(host.machine(), "n" * 65)


def busy(host: FakeHost, refusals: int) -> None:
    """Make a hccn_tool that refuses calls that run at once, and the first calls of each device."""
    (host.bin / "hccn_tool").write_text(
        "#!/bin/sh\nno() { echo hccn_tool is busy, please try again.; exit 1; }\n"
        f"mkdir {host.bin}/lock 2>/dev/null || no\n"
        f'echo $2 >> {host.bin}/asked; n=$(grep -c "^$2\\$" {host.bin}/asked); rmdir {host.bin}/lock\n'
        f"[ $n -gt {refusals} ] || no\n"
        'case "$*" in *inet6*) exit 1;; *) echo ipaddr:10.20.1.$((10+$2));; esac\n'
    )
    (host.bin / "hccn_tool").chmod(0o755)


@pytest.mark.parametrize("refusals", [0, 2])
def test_a_tool_that_is_busy_is_asked_again_one_device_at_a_time(
    host: FakeHost, monkeypatch: pytest.MonkeyPatch, refusals: int
) -> None:
    monkeypatch.setattr("rank_table.sources.tools.WAITS", (0.0, 0.0))
    host.nodes(*range(4))
    busy(host, refusals)
    machine = host.machine({"PATH": f"{host.bin}:/usr/bin:/bin"})
    devices = discover(machine, "h", everything=False).hosts[0].devices
    assert [device.device_ip for device in devices] == [f"10.20.1.{10 + n}" for n in range(4)]


def test_every_device_that_stays_without_an_address_is_named_with_the_tools_words(
    host: FakeHost, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("rank_table.sources.tools.WAITS", (0.0,))
    host.nodes(*range(4))
    said = {"exit": 1, "text": "hccn_tool is busy, please try again."}
    host.tool("hccn_tool", {"-i 1 -ip -g": "ipaddr:10.0.0.1\n", "-i 3 -ip -g": "ipaddr:0.0.0.0\n", "*": said})
    notes = [note for note in discover(host.machine(), "h").notes if note.startswith("device_ip")]
    assert notes == [
        "device_ip: device 0,2: hccn_tool -i N -ip -g: exit code 1: hccn_tool is busy, please try again.",
        "device_ip: device 3: hccn_tool -i N -ip -g: no address in its output: ipaddr:0.0.0.0",
    ]


def test_an_address_that_devices_share_is_named(host: FakeHost) -> None:
    host.nodes(*range(3))
    host.tool("hccn_tool", {"-i 1 -ip -g": "ipaddr:10.0.0.1\n", "*": "ipaddr:10.0.0.9\n"})
    notes = [note for note in discover(host.machine(), "h").notes if note.startswith("device_ip")]
    assert len(notes) == 1 and notes[0].startswith("device_ip: device 0,2: all have 10.0.0.9; give each")


@pytest.mark.parametrize(
    "text, said",
    [
        (None, "no such file"),
        ('{"version": "1.0", "server_list": []}', "a table of version 1.0 (expected a 2.0 document"),
        ("[]", "not a rank table"),
        ("{", "invalid: "),
        ('{"rank_list": [{"device_id": 0, "local_id": 0}]}', "'level_list' is missing"),
    ],
)
def test_a_950_says_what_its_root_info_lacks(host: FakeHost, text: str | None, said: str) -> None:
    host.nodes(0)
    host.tool("npu-smi", {"info": NEWEST})
    if text is not None:
        host.file("/etc/hccl_rootinfo.json", text)
    notes = discover(host.machine(), "h", everything=False).notes
    (note,) = [note for note in notes if note.startswith("/etc/hccl_rootinfo.json: ")]
    assert said in note and "mount the host's file" in note


def test_a_fifo_in_place_of_a_file_of_the_host_is_not_waited_for(host: FakeHost) -> None:
    host.nodes(0)
    os.mkfifo(str(host.root / "hccn.conf"))
    assert host.machine().read("/hccn.conf") is None
