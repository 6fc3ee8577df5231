"""Doctor's checks of versions that must match: driver, firmware, CANN, adapter, TensorFlow."""

from __future__ import annotations

import os
import re
from typing import Iterable

from launcher.checks.finding import ERROR, OK, WARNING, Finding
from launcher.checks.machine import Check, RecordingMachine, has_npu

CANN_FILES = (
    "/usr/local/Ascend/cann/*/ascend_toolkit_install.info",
    "/usr/local/Ascend/ascend-toolkit/latest/*/ascend_toolkit_install.info",
    "/usr/local/Ascend/ascend-toolkit/latest/ascend_toolkit_install.info",
    "/usr/local/Ascend/nnae/latest/*/ascend_nnae_install.info",
    "/usr/local/Ascend/nnae/latest/ascend_nnae_install.info",
)
# Adapter -> (TensorFlow it was built for, Pythons it has a wheel for, the release in words).
ADAPTERS: dict[str, tuple[str, tuple[tuple[int, int], ...], str]] = {
    "npu_bridge": ("1.15.", ((3, 7),), "TensorFlow 1.15 on Python 3.7"),
    "npu_device": ("2.6.5", ((3, 7), (3, 8), (3, 9)), "TensorFlow 2.6.5 on Python 3.7 to 3.9"),
}
SOURCED = ("ASCEND_HOME_PATH", "ASCEND_TOOLKIT_HOME", "ASCEND_OPP_PATH")  # set by set_env.sh
TENSORFLOWS = ("tensorflow", "tensorflow_cpu", "tensorflow_aarch64", "intel_tensorflow")


def _values(text: str) -> dict[str, str]:
    """Read `key=value` lines."""
    pairs = (line.split("=", 1) for line in text.splitlines() if "=" in line)
    return {key.strip(): value.strip() for key, value in pairs}


def check_driver(machine: RecordingMachine) -> Iterable[Finding]:
    """Show the driver's version, and compare the firmware with the range that the driver supports."""
    driver = _values(machine.read("/usr/local/Ascend/driver/version.info"))
    firmware = _values(machine.read("/usr/local/Ascend/firmware/version.info"))
    if not driver:
        if has_npu(machine):
            yield Finding(
                "driver",
                WARNING,
                "/usr/local/Ascend/driver/version.info cannot be read",
                "install the driver; in a container mount /usr/local/Ascend/driver",
            )
        return
    yield Finding("driver", OK, driver.get("Version", "?"))
    if not firmware:
        return
    version, fitting = firmware.get("Version", "?"), driver.get("compatible_version_fw", "")
    if _in_range(version, fitting):
        yield Finding("firmware", OK, version)
    else:
        todo = "install driver and firmware of one release"
        yield Finding("firmware", ERROR, f"{version}, but the driver needs {fitting}", todo)


def _in_range(version: str, text: str) -> bool:
    """Compare with a range as the driver writes it, [7.0.0,7.1.99]; without a range every version fits."""
    ends = re.findall(r"\d+(?:\.\d+)+", text)
    if len(ends) != 2:
        return True
    low, high = (_numbers(end) for end in ends)
    return low <= _numbers(version)[: len(low)] and _numbers(version)[: len(high)] <= high


def _numbers(version: str) -> list[int]:
    return [int(number) for number in re.findall(r"\d+", version)]


def check_cann(machine: RecordingMachine) -> Iterable[Finding]:
    """Show CANN, whether the driver lists its release, and whether its set_env.sh was sourced."""
    driver = _values(machine.read("/usr/local/Ascend/driver/version.info"))
    text = next(filter(None, (machine.newest(pattern) for pattern in CANN_FILES)), "")
    cann = _values(text)
    if not cann:
        if has_npu(machine):
            yield Finding(
                "CANN",
                WARNING,
                "no toolkit or nnae found below /usr/local/Ascend",
                "install Ascend-cann-toolkit, or name its set_env.sh in ascend_env:",
            )
        return
    inner, fitting = cann.get("innerversion", ""), driver.get("compatible_version", "")
    listed = re.findall(r"V\d+R\d+C\d+", fitting)
    what = f"{cann.get('package_name', 'CANN')} {cann.get('version', '?')}"
    if listed and not any(inner.startswith(release) for release in listed):
        yield Finding(
            "CANN",
            WARNING,
            f"{what} ({inner}) is not a release that driver {driver.get('Version', '?')} lists",
            "upgrade driver and firmware to the CANN release (mixed releases cause 507033 and E30006)",
        )
    else:
        yield Finding("CANN", OK, what)
    if not any(name in machine.environ for name in SOURCED):
        yield Finding(
            "CANN environment",
            WARNING,
            "set_env.sh has not been sourced in this shell",
            "`source <CANN>/set_env.sh`, or name it in ascend_env: of the YAML",
        )


def check_adapter(machine: RecordingMachine) -> Iterable[Finding]:
    """Show TensorFlow and the adapter, and check that a release exists for this combination and Python."""
    packages = machine.packages()
    tensorflow = next((packages[name] for name in TENSORFLOWS if name in packages), "")
    if tensorflow:
        yield Finding("tensorflow", OK, tensorflow)
    else:
        todo = "pip install 'npu-launch[squad]' to train with bert/"
        yield Finding("tensorflow", WARNING, "not installed", todo)
    adapters = [name for name in ADAPTERS if name in packages]
    for name in adapters:
        yield _adapter(name, packages[name], tensorflow, machine)
    if not adapters and has_npu(machine):
        yield _no_adapter(machine)
    plugin = machine.environ.get("TFPLUGIN_INSTALL_PATH", "")
    if adapters and plugin and plugin not in machine.environ.get("PYTHONPATH", "").split(os.pathsep):
        what = "TFPLUGIN_INSTALL_PATH is not on PYTHONPATH: ranks may not find the adapter"
        yield Finding("adapter", WARNING, what, f"export PYTHONPATH={plugin}:$PYTHONPATH (or under env:)")


def _no_adapter(machine: RecordingMachine) -> Finding:
    fitting = [words for _, pythons, words in ADAPTERS.values() if machine.python in pythons]
    what = "neither npu_bridge nor npu_device found, so --backend npu cannot train"
    if not fitting:
        what += f"; neither has a wheel for Python {_dotted(machine.python)}"
        return Finding("adapter", WARNING, what, "use Python 3.7 to 3.9 for the ranks (python: in the YAML)")
    releases = " or ".join(fitting)
    todo = f"install the tfplugin package of CANN ({releases}), or set TFPLUGIN_INSTALL_PATH"
    return Finding("adapter", WARNING, what, todo)


def _adapter(name: str, version: str, tensorflow: str, machine: RecordingMachine) -> Finding:
    wanted, pythons, words = ADAPTERS[name]
    what = f"{name} {version}"
    if not tensorflow.startswith(wanted) or machine.python not in pythons:
        found = f"TensorFlow {tensorflow or '(none)'} on Python {_dotted(machine.python)}"
        return Finding("adapter", ERROR, f"{what} is for {words}; found {found}", "install " + words)
    return Finding("adapter", OK, what)


def _dotted(version: tuple[int, int]) -> str:
    return ".".join(map(str, version))


CHECKS: list[Check] = [check_driver, check_cann, check_adapter]
