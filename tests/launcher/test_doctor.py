"""Doctor on machines made of a folder and fake tools: the real machine needs no NPU."""

from __future__ import annotations

import json
import os
import stat
import subprocess
import sys
import tarfile
from pathlib import Path

import pytest
import yaml
from click.testing import CliRunner

from launcher.checks import bundle, doctor, modules, network
from launcher.checks.bundle import write_bundle
from launcher.checks.finding import Finding
from launcher.checks.machine import RecordingMachine
from launcher.commands.doctor import doctor as command
from launcher.hccl import variables
from rank_table.sources.npu_smi import parse_info
from tests.faults.helpers import alive
from tests.launching import ROOT

DRIVER = (
    "Version=23.0.7\nInnerversion=V100R001C15SPC012B220\n"
    "compatible_version=[V100R001C29],[V100R001C13]\ncompatible_version_fw=[7.0.0,7.1.99]\n"
)
TOOLKIT = "package_name=Ascend-cann-toolkit\nversion=7.0.T10\ninnerversion=V100R001C13B222\n"


def write(root: Path, path: str, text: str = "") -> Path:
    target = root / path
    target.parent.mkdir(parents=True, exist_ok=True)
    target.write_text(text, encoding="utf-8")
    return target


PLACES = {"npu-smi": "usr/local/sbin/npu-smi", "hccn_tool": "usr/local/Ascend/driver/tools/hccn_tool"}


def tool(root: Path, name: str, cases: dict[str, str]) -> None:
    """Make a shell script that prints the text of the first pattern its arguments match."""
    lines = ["#!/bin/sh", 'case "$*" in']
    for number, (pattern, text) in enumerate(cases.items()):
        file = write(root, f"answers/{name}.{number}", text)
        lines.append(f'{pattern}) cat "{file}" ;;')
    script = write(root, PLACES[name], "\n".join([*lines, "*) exit 1 ;;", "esac", ""]))
    script.chmod(script.stat().st_mode | stat.S_IXUSR)


def packages(root: Path, *names: str) -> list[str]:
    for name in names:
        (root / "site" / (name + ".dist-info")).mkdir(parents=True)
    return [str(root / "site")]


def server(
    root: Path, table: str, devices: int = 8, tls: str = "0", link: str = "UP", pods: str = ""
) -> RecordingMachine:
    """Build a healthy server; the last device gets `tls` and `link`, every chip the super pod `pods`."""
    for number in range(devices):
        write(root, f"dev/davinci{number}")
    write(root, "dev/davinci_manager")
    write(root, "usr/local/Ascend/driver/version.info", DRIVER)
    write(root, "usr/local/Ascend/firmware/version.info", "Version=7.1.0.11.220\n")
    write(root, "usr/local/Ascend/ascend-toolkit/latest/x-linux/ascend_toolkit_install.info", TOOLKIT)
    write(root, "etc/hccn.conf", "".join(f"address_{n}=192.168.{n}.2\n" for n in range(devices)))
    write(root, "proc/sys/net/ipv4/ip_local_reserved_ports", "60000-60031\n")
    last = f"-i {devices - 1} "
    answer = "dev_id:0, tls switch[%s](0:disable, 1:enable), tls preconfigured[1]\n"
    pod = f"SDID : 169345036\nSuper Pod Size : 384\nSuper Pod ID : {pods}\nServer Index : 40\n"
    tool(root, "npu-smi", {"info": table, **({'*"-t spod-info"*': pod} if pods else {})})
    tool(
        root,
        "hccn_tool",
        {
            f'"{last}-tls -g"': answer % tls,
            '*"-tls -g"': answer % "0",
            f'"{last}-link -g"': f"link status: {link}\n",
            '*"-link -g"': "link status: UP\n",
            '*"-net_health -g"': "net health status: Success\n",
            **{f'"-i {n} -ip -g"': f"ipaddr:192.168.{n}.2\n" for n in range(devices)},
        },
    )
    paths = packages(root, "tensorflow-1.15.5", "npu_bridge-1.15.0")
    return RecordingMachine(
        {"PATH": "/usr/bin:/bin", "ASCEND_HOME_PATH": "/usr/local/Ascend/ascend-toolkit/latest"},
        str(root),
        folder=str(root),
        paths=paths,
        python=(3, 7),
    )


def by_name(machine: RecordingMachine) -> dict[str, Finding]:
    """Return the most severe finding of each name."""
    found: dict[str, Finding] = {}
    for finding in doctor.examine(machine):
        rank = ("ok", "warning", "error").index
        if finding.name not in found or rank(finding.level) > rank(found[finding.name].level):
            found[finding.name] = finding
    return found


def table(devices: int = 8, health: str = "OK", processes: str = "", kind: str = "910A") -> str:
    """Write what `npu-smi info` prints of a 910A, A2 (910B3) or A3 (two dies per card)."""
    third = kind == "A3"
    rows = [
        "| NPU   Name                | Health        | Power(W)    Temp(C)           Hugepages-Usage(page)|",
        f"| Chip  {'Phy-ID' * third:<20}| Bus-Id        | AICore(%)   Memory-Usage(MB)  HBM-Usage(MB)      |",
    ]
    for number in range(devices):
        state = health if number == devices - 1 else "OK"
        npu, chip = divmod(number, 2) if third else (number, 0)
        name = "Ascend910" if third else kind
        rows.append(
            f"| {npu:<5d} {name:<20}| {state:<13} | 67.0        38                0    / 0             |"
        )
        place = f"{chip:<5d} {number if third else ''}"
        rows.append(
            f"| {place:<25} | 0000:{number:02X}:00.0  | 0           0    / 0          0 / 65536            |"
        )
        rows.append("+===========================+===============+=====================================+")
    return "\n".join([*rows, processes]) + "\n"


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


def test_variables_that_hccl_refuses_or_ignores_are_reported(tmp_path: Path) -> None:
    machine = server(tmp_path, table())
    machine.environ = {**machine.environ, "HCCL_BUFFERSIZE": "200", "POD_NAME": "p", "CM_RANK": "0"}
    machine.environ["AOE_MODE"] = "2"
    machine.environ["ASCEND_RT_VISIBLE_DEVICES"] = "0,1"
    found = by_name(machine)
    assert found["HCCL variables"].level == "warning" and "HCCL_BUFFSIZE" in found["HCCL variables"].what
    texts = [finding.what for finding in doctor.examine(machine) if finding.name == "environment"]
    assert texts[0].startswith("AOE_MODE, CM_RANK, POD_NAME set: a rank would train alone, tune")
    assert texts[1].startswith("ASCEND_RT_VISIBLE_DEVICES=0,1")
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


def test_an_adapter_beside_the_path_and_a_python_without_wheels_are_reported(tmp_path: Path) -> None:
    machine = server(tmp_path, table())
    machine.environ = {**machine.environ, "TFPLUGIN_INSTALL_PATH": "/plugin"}
    assert "not on PYTHONPATH" in by_name(machine)["adapter"].what
    machine.paths, machine.python = [], (3, 11)
    assert "neither has a wheel for Python 3.11" in by_name(machine)["adapter"].what


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


@pytest.mark.parametrize(
    "names, python, level",
    [
        (("tensorflow-1.15.5", "npu_bridge-1.15.0"), (3, 7), "ok"),
        (("tensorflow-1.15.5", "npu_bridge-1.15.0"), (3, 8), "error"),
        (("tensorflow-2.6.5", "npu_device-2.6.5"), (3, 9), "ok"),
        (("tensorflow-2.21.0", "npu_device-2.6.5"), (3, 11), "error"),
        (("npu_bridge-1.15.0",), (3, 7), "error"),
        (("tensorflow-2.6.5",), (3, 9), "warning"),
    ],
)
def test_adapter_tensorflow_and_python_must_be_a_set_that_exists(
    tmp_path: Path, names: tuple[str, ...], python: tuple[int, int], level: str
) -> None:
    write(tmp_path, "dev/davinci0")
    machine = RecordingMachine(
        {"PATH": ""},
        str(tmp_path),
        folder=str(tmp_path),
        paths=packages(tmp_path, *names),
        python=python,
    )
    assert by_name(machine)["adapter"].level == level


def test_firmware_outside_the_drivers_range_and_a_foreign_cann_are_reported(tmp_path: Path) -> None:
    machine = server(tmp_path, table())
    write(tmp_path, "usr/local/Ascend/firmware/version.info", "Version=6.4.12\n")
    info = "usr/local/Ascend/ascend-toolkit/latest/x-linux/ascend_toolkit_install.info"
    write(tmp_path, info, TOOLKIT.replace("C13B222", "C19B137"))
    found = by_name(machine)
    assert found["firmware"].level == "error" and "[7.0.0,7.1.99]" in found["firmware"].what
    assert found["CANN"].level == "warning" and "V100R001C19B137" in found["CANN"].what


CFG = "# version: 1.0\nruntime_running_version=[7.6.0.1.220:8.0.0]\nhccl_running_version=[7.6.0:8.0.0]\n"


@pytest.mark.parametrize(
    "place, text, version",
    [
        ("x86_64-linux/ascend_toolkit_install.info", TOOLKIT, "Ascend-cann-toolkit 7.0.T10"),
        ("version.cfg", CFG, "CANN 8.0.0"),
        ("share/info/runtime/version.info", "Version=8.5.0\n", "CANN 8.5.0"),
        ("compiler/version.info", "Version=7.6.0.1.220\n", "CANN 7.6.0.1.220"),
    ],
)
def test_the_installation_that_the_environment_names_is_the_one_shown(
    tmp_path: Path, place: str, text: str, version: str
) -> None:
    machine = server(tmp_path, table())
    write(tmp_path, f"opt/Ascend/cann-8.5.0/{place}", text)
    for name in ("ASCEND_HOME_PATH", "ASCEND_TOOLKIT_HOME"):
        machine.environ = {"PATH": "/bin", name: "/opt/Ascend/cann-8.5.0/"}
        finding = by_name(machine)["CANN"]
        assert finding.what.startswith(f"{version} in /opt/Ascend/cann-8.5.0; also here: Ascend-cann-toolkit")


def test_a_variable_that_leads_to_no_installation_is_named(tmp_path: Path) -> None:
    machine = server(tmp_path, table())
    machine.environ = {"PATH": "/bin", "ASCEND_HOME_PATH": "/opt/gone"}
    found = by_name(machine)
    assert found["CANN environment"].what == "ASCEND_HOME_PATH=/opt/gone has no CANN installation"
    assert found["CANN"].level == "ok"


def test_a_link_and_what_it_leads_to_are_one_installation(tmp_path: Path) -> None:
    machine = server(tmp_path, table())
    toolkit = tmp_path / "usr/local/Ascend/ascend-toolkit"
    (toolkit / "latest").rename(toolkit / "8.0.0")
    (toolkit / "latest").symlink_to("8.0.0")
    write(toolkit, "7.0.0/x-linux/ascend_toolkit_install.info", TOOLKIT.replace("7.0.T10", "7.0.0"))
    what = by_name(machine)["CANN"].what
    folder = "/usr/local/Ascend/ascend-toolkit"
    assert what.startswith(f"Ascend-cann-toolkit 7.0.T10 in {folder}/latest; also here: ")
    assert what.endswith(f"here: Ascend-cann-toolkit 7.0.0 in {folder}/7.0.0")


def test_the_driver_is_found_where_its_installer_put_it(tmp_path: Path) -> None:
    machine = server(tmp_path, table())
    (tmp_path / "usr/local/Ascend/driver/version.info").unlink()
    write(tmp_path, "etc/ascend_install.info", "Driver_Install_Path_Param=/data/Ascend\n")
    write(tmp_path, "data/Ascend/driver/version.info", DRIVER)
    assert by_name(machine)["driver"].what == "23.0.7"


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
    machine = RecordingMachine({"PATH": "/usr/bin:/bin"}, str(tmp_path), timeout=0.5, folder=str(tmp_path))
    findings = doctor.examine(machine)
    assert not [finding for finding in findings if finding.name == "device IPs"]
    late = [finding.what for finding in findings if finding.name == "tools"]
    assert len(late) == 2 and all("no answer within 0.5 s: not asked again" in what for what in late)
    for name in PLACES:
        children = (tmp_path / ("asked-" + name)).read_text().split()
        assert len(children) <= 2  # `info` and `info -m` run at once
        assert not any(alive(int(child)) for child in children)


@pytest.mark.parametrize(
    "file, ids",
    [("npu-smi-info-a2-910B3.txt", list(range(8))), ("npu-smi-info-a3-910C.txt", list(range(16)))],
)
def test_real_tables_give_every_device_its_physical_id(shared: Path, file: str, ids: list[int]) -> None:
    chips, _, _ = parse_info((shared / "data" / "npu_samples" / file).read_text())
    assert [chip.device_id for chip in chips] == ids
    assert {chip.health for chip in chips} == {"OK"}


def test_the_bundle_holds_the_answers_without_secrets_and_replaces_nothing(tmp_path: Path) -> None:
    machine = server(tmp_path, table() + "proxy http://me:hunter2@proxy:80/ password=hunter2\n")
    machine.environ = {**machine.environ, "AWS_SECRET_ACCESS_KEY": "hunter2", "HOME": "/home/me"}
    write(tmp_path, "run/report.txt", "token: hunter2\nrank 3 failed\n")
    path = str(tmp_path / "bundle.tar.gz")
    members = write_bundle(path, machine, doctor.examine(machine), str(tmp_path / "run"))
    with tarfile.open(path) as tar:
        texts = {m.name: tar.extractfile(m).read().decode() for m in tar.getmembers()}  # type: ignore[union-attr]
    assert len(texts) == len(members) and not [name for name, text in texts.items() if "hunter2" in text]
    assert "rank 3 failed" in texts["npu-launch-doctor/run/report.txt"]
    assert "/home/me" in texts["npu-launch-doctor/environment.json"]
    assert stat.S_IMODE(os.stat(path).st_mode) == 0o600
    with pytest.raises(FileExistsError):
        write_bundle(path, machine, [])


PLANTED = {
    "OBS_SK": "leak-1",
    "DB_PWD": "leak-2 and leak-3, leak-4",
    "MY_PASSWORD": "'leak-5' \"leak-6",
    "SLACK_WEBHOOK_URL": "https://hooks.example.com/leak-7",
    "http_proxy": "http://me:leak-8@proxy:80/",
}


def test_a_run_of_the_bundle_holds_no_secret_in_any_of_its_files(tmp_path: Path) -> None:
    machine = RecordingMachine(PLANTED, str(tmp_path), folder=str(tmp_path))
    texts = "".join(f"{name}={value}\n" for name, value in PLANTED.items())
    documents = {
        "plan.json": json.dumps({"ranks": [{"env": PLANTED, "argv": ["x", "--token", "leak-9"]}]}),
        "train.yaml": yaml.safe_dump({"env": PLANTED, "args": {"hub_token": "leak-10"}}),
        "result.json": json.dumps({"metrics": {"exact": 70.5}, "command": "x --api-key leak-11"}),
        "events.jsonl": json.dumps({"data": PLANTED}) + "\n" + '{"data": {"DB_PWD": "leak-12 half',
        "report.txt": texts + "  raised with password=leak-13, leak-14\n",
        "rank_table.json": "{" + json.dumps(PLANTED),
    }
    for name, text in documents.items():
        write(tmp_path, f"run/{name}", text)
    os.mkfifo(str(tmp_path / "run" / "launcher.log.fifo"))
    (tmp_path / "run" / "logs").mkdir()
    (tmp_path / "run" / "logs" / "launcher.log").symlink_to(tmp_path / "run" / "launcher.log.fifo")
    members = bundle._run_files(str(tmp_path / "run"))
    assert not [name for name, text in members.items() if "leak" in text]
    assert "70.5" in members["run/result.json"] and "http_proxy" in members["run/plan.json"]
    assert "a link (expected a regular file)" in members["run/logs/launcher.log"]
    write_bundle(str(tmp_path / "b.tgz"), machine, [Finding("x", "ok", "quotes leak-2 and leak-3, leak-4")])
    with tarfile.open(str(tmp_path / "b.tgz")) as tar:
        assert not [m for m in tar.getmembers() if b"leak" in tar.extractfile(m).read()]  # type: ignore[union-attr]


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


def foreign(folder: Path, name: str, distribution: str = "") -> str:
    """Install a package with a name of npu-launch into a folder, by a distribution or by hand."""
    write(folder, f"{name}/__init__.py", "raise RuntimeError('imported')\n")
    if distribution:
        write(folder, f"{distribution}.dist-info/RECORD", f"other.py,,\n{name}/__init__.py,sha256=x,9\n")
    return str(folder)


def test_a_module_of_another_distribution_before_our_own_is_an_error(tmp_path: Path) -> None:
    """Runs the command with a second package on the path of a real interpreter."""
    other = foreign(tmp_path / "site", "squad", "squad_metrics-1.0")
    foreign(tmp_path / "site", "bert")
    env = dict(os.environ, PYTHONPATH=os.pathsep.join((other, str(ROOT))))
    line = [sys.executable, "-c", "from launcher.cli import main; main()", "doctor", "--json"]
    done = subprocess.run(line, cwd=str(tmp_path), env=env, stdout=subprocess.PIPE, check=False)
    found = [Finding(**item) for item in json.loads(done.stdout.decode()) if item["name"] == "modules"]
    assert done.returncode == 78 and [finding.level for finding in found] == ["error", "error"]
    assert f"`import bert` finds {other}/bert/__init__.py, not npu-launch's own" in found[0].what
    assert found[0].todo.startswith(f"take {other} off PYTHONPATH")
    assert f"finds {other}/squad/__init__.py of squad_metrics-1.0" in found[1].what
    assert found[1].todo.startswith("`pip uninstall squad_metrics`")


def test_a_module_in_the_launch_folder_is_a_warning_and_a_folder_without_init_is_none(tmp_path: Path) -> None:
    machine = RecordingMachine({"PATH": ""}, str(tmp_path), folder=str(tmp_path), paths=[str(ROOT)])
    (tmp_path / "templates").mkdir()  # a namespace package: every other module of that name wins
    (found,) = modules.check_modules(machine)
    assert (found.level, found.what) == ("ok", f"bert, launcher, rank_table, squad, templates from {ROOT}")
    write(tmp_path, "bert.py")
    (found,) = modules.check_modules(machine)
    assert found.level == "warning" and f"`import bert` finds {tmp_path}/bert.py" in found.what


def test_a_distribution_that_installed_over_ours_is_an_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(modules, "HOME", foreign(tmp_path / "site", "templates", "flask_templates-2.1"))
    write(tmp_path / "site", "npu_launch-0.1.0.dist-info/top_level.txt", "templates\n")
    machine = RecordingMachine({}, str(tmp_path), folder=str(tmp_path), paths=[modules.HOME])
    found = [finding for finding in modules.check_modules(machine) if "templates" in finding.what]
    assert [finding.level for finding in found] == ["error"]
    assert found[0].what.startswith("flask_templates-2.1 has installed its own templates over")
