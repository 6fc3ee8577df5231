"""Machines made of a folder and fake tools, for tests of doctor."""

from __future__ import annotations

import stat
from pathlib import Path

from launcher.checks import doctor
from launcher.checks.finding import Finding
from launcher.checks.machine import RecordingMachine

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
