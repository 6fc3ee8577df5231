"""Doctor's checks of versions that must match: driver, firmware, CANN, adapter, TensorFlow."""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from typing import Iterable, Mapping, Sequence

from launcher.checks import packages
from launcher.checks.finding import ERROR, OK, WARNING, Finding
from launcher.checks.machine import Check, RecordingMachine, has_npu
from rank_table.sources import install

# Where CANN 5 to 9 say their version, below their folder: toolkit and nnae, then parts of them.
CANN_FILES = (
    "ascend_toolkit_install.info",
    "*/ascend_toolkit_install.info",
    "ascend_nnae_install.info",
    "*/ascend_nnae_install.info",
    "version.cfg",
    "share/info/*/version.info",
    "*/version.info",
    "version.info",
)
# Installations below /usr/local/Ascend and the like; "latest" and "cann" are links to the newest.
CANN_FOLDERS = ("ascend-toolkit/latest", "cann", "nnae/latest", "ascend-toolkit/*", "cann-*", "nnae/*")
# Adapter -> (TensorFlow it was built for, Pythons it has a wheel for, the release in words).
ADAPTERS: dict[str, tuple[str, tuple[tuple[int, int], ...], str]] = {
    "npu_bridge": ("1.15.", ((3, 7),), "TensorFlow 1.15 on Python 3.7"),
    "npu_device": ("2.6.5", ((3, 7), (3, 8), (3, 9)), "TensorFlow 2.6.5 on Python 3.7 to 3.9"),
}
SOURCED = (*install.HOMES, "ASCEND_OPP_PATH")  # set by set_env.sh


def _version_info(machine: RecordingMachine, part: str) -> dict[str, str]:
    """Read the version.info of `driver` or `firmware`, wherever the driver's installer put it."""
    for root in install.roots(machine.environ, machine.read):
        found = install.values(machine.read(f"{root}/{part}/version.info"))
        if found:
            return found
    return {}


def driver(machine: RecordingMachine) -> str:
    """Return the driver's version, "" where there is none."""
    return _version_info(machine, "driver").get("Version", "")


def check_driver(machine: RecordingMachine) -> Iterable[Finding]:
    """Show the driver's version, and compare the firmware with the range that the driver supports."""
    about, firmware = _version_info(machine, "driver"), _version_info(machine, "firmware")
    if not about:
        if has_npu(machine):
            places = [f"{root}/driver/version.info" for root in install.roots(machine.environ, machine.read)]
            yield Finding(
                "driver",
                WARNING,
                f"{' and '.join(places)} cannot be read",
                "install the driver; in a container mount /usr/local/Ascend/driver",
            )
        return
    yield Finding("driver", OK, about.get("Version", "?"))
    if not firmware:
        return
    version, fitting = firmware.get("Version", "?"), about.get("compatible_version_fw", "")
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


@dataclass(frozen=True)
class Cann:
    """A CANN installation: its folder, the package's name, version and inner version as far as known."""

    folder: str
    name: str
    version: str
    inner: str = ""

    def __str__(self) -> str:
        return f"{self.name} {self.version} in {self.folder}"


def _cann_in(machine: RecordingMachine, folder: str) -> Cann | None:
    """Read what an installation says of its version; None when the folder has none."""
    for pattern in CANN_FILES:
        said = install.values(machine.newest(f"{folder}/{pattern}"))
        # version.cfg: runtime_running_version=[7.5.0.1.129:8.0.0]
        running = next((text for key, text in said.items() if key.endswith("running_version")), "")
        version = said.get("version") or said.get("Version") or running.strip("[]").rpartition(":")[2]
        if version:
            name = said.get("package_name", "CANN")
            return Cann(folder, name, version.strip("[]"), said.get("innerversion", ""))
    return None


def installed(machine: RecordingMachine) -> list[Cann]:
    """List CANN installations, first the one a rank would use: that of the environment, else `latest`."""
    named = list(dict.fromkeys(install.homes(machine.environ).values()))
    roots = install.roots(machine.environ, machine.read)
    folders = [f for root in roots for pattern in CANN_FOLDERS for f in machine.matching(f"{root}/{pattern}")]
    found: dict[str, Cann] = {}
    for folder in [*named, *folders]:
        cann = _cann_in(machine, folder)
        if cann is not None:
            found.setdefault(os.path.realpath(machine.path(folder)), cann)
    return list(found.values())


def check_cann(machine: RecordingMachine) -> Iterable[Finding]:
    """Show CANN, whether the driver lists its release, and whether its set_env.sh was sourced."""
    every = installed(machine)
    yield from _homes(machine, every)
    if not every:
        if has_npu(machine):
            yield Finding(
                "CANN",
                WARNING,
                f"no toolkit or nnae found below {' or '.join(install.roots(machine.environ, machine.read))}",
                "install Ascend-cann-toolkit, or name its set_env.sh in ascend_env:",
            )
        return
    yield _fits_driver(every, _version_info(machine, "driver"))
    if not any(name in machine.environ for name in SOURCED):
        yield Finding(
            "CANN environment",
            WARNING,
            "set_env.sh has not been sourced in this shell",
            "`source <CANN>/set_env.sh`, or name it in ascend_env: of the YAML",
        )


def _homes(machine: RecordingMachine, every: Sequence[Cann]) -> Iterable[Finding]:
    """Name a variable of set_env.sh that leads to no installation: ranks load their libraries from there."""
    real = {os.path.realpath(machine.path(cann.folder)) for cann in every}
    for name, folder in install.homes(machine.environ).items():
        if os.path.realpath(machine.path(folder)) not in real:
            what = f"{name}={folder} has no CANN installation"
            todo = "source the set_env.sh of one that is there"
            yield Finding("CANN environment", WARNING, what, todo)


def _fits_driver(every: Sequence[Cann], driver: Mapping[str, str]) -> Finding:
    used, others = every[0], every[1:]
    listed = re.findall(r"V\d+R\d+C\d+", driver.get("compatible_version", ""))
    if used.inner and listed and not any(used.inner.startswith(release) for release in listed):
        return Finding(
            "CANN",
            WARNING,
            f"{used} ({used.inner}) is not a release that driver {driver.get('Version', '?')} lists",
            "upgrade driver and firmware to the CANN release (mixed releases cause 507033 and E30006)",
        )
    return Finding(
        "CANN", OK, "; also here: ".join([str(used), *([", ".join(map(str, others))] if others else [])])
    )


def check_adapter(machine: RecordingMachine) -> Iterable[Finding]:
    """Show TensorFlow and the adapter, and check that a release exists for this combination and Python."""
    installed = machine.packages()
    tensorflow = packages.TENSORFLOW.version(installed)
    others = any(framework.version(installed) for framework in packages.OF.values())
    if tensorflow:
        yield Finding("tensorflow", OK, tensorflow)
    elif not others:  # with one of them nobody need have TensorFlow
        todo = "pip install 'npu-launch[squad]' to train with bert/"
        yield Finding("tensorflow", WARNING, "not installed", todo)
    adapters = [name for name in ADAPTERS if name in installed]
    for name in adapters:
        yield _adapter(name, installed[name], tensorflow, machine)
    if not adapters and has_npu(machine) and (tensorflow or not others):
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
