"""Doctor on versions that must match: driver, firmware, CANN, adapter, TensorFlow."""

from __future__ import annotations

from pathlib import Path

import pytest

from launcher.checks.machine import RecordingMachine
from tests.launcher.machines import DRIVER, TOOLKIT, by_name, packages, server, table, write


def test_an_adapter_beside_the_path_and_a_python_without_wheels_are_reported(tmp_path: Path) -> None:
    machine = server(tmp_path, table())
    machine.environ = {**machine.environ, "TFPLUGIN_INSTALL_PATH": "/plugin"}
    assert "not on PYTHONPATH" in by_name(machine)["adapter"].what
    machine.paths, machine.python = [], (3, 11)
    assert "neither has a wheel for Python 3.11" in by_name(machine)["adapter"].what


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
