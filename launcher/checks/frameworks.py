"""torch, MindSpore and Paddle as the ranks' Python has them: is the part for NPUs there, and does CANN fit?

None is imported: names and versions are those of the folders that pip leaves.
"""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import Callable, Iterator

from launcher.checks import packages, pairs, versions
from launcher.checks.finding import ERROR, OK, WARNING, Finding
from launcher.checks.machine import Check, RecordingMachine, has_npu


def version_of(machine: RecordingMachine, name: str) -> str:
    """Return the version of a framework, "?" for one that pip has not installed, "" for none."""
    known = packages.OF[name].version(machine.packages())
    return known or ("?" if _file(machine, f"{name}/__init__.py") else "")


def check_frameworks(machine: RecordingMachine) -> Iterator[Finding]:
    """Show each framework that is installed, what it lacks for NPUs, and the CANN that it wants."""
    gravity = WARNING if has_npu(machine) else OK
    for function in CHECK_OF.values():
        yield from function(machine, gravity)


def check_torch(machine: RecordingMachine, gravity: str = ERROR) -> Iterator[Finding]:
    """Compare torch, torch_npu and CANN. gravity: how bad it is that torch_npu is missing."""
    torch = version_of(machine, "torch")
    npu = machine.packages().get("torch_npu", "") or ("?" if _file(machine, "torch_npu/__init__.py") else "")
    if torch and npu:
        yield _torch(machine, torch, npu)
    elif torch:
        fitting = pairs.torch_npu_for(_base(torch), _used(machine)[1]) or _base(torch)
        yield _lacking(
            "torch", f"torch {torch} without torch_npu", gravity, f"pip install torch-npu=={fitting}"
        )


def _torch(machine: RecordingMachine, torch: str, npu: str) -> Finding:
    what, base, wanted = f"torch {torch}, torch_npu {npu}", _base(torch), _base(npu)
    if "?" not in (torch, npu) and wanted != base:
        todo = f"pip install torch=={wanted}, or torch-npu=={base}"
        return Finding("torch", WARNING, f"{what}: this torch_npu is built for torch {wanted}", todo)
    made_for = pairs.cann_of_torch_npu(npu.partition("+")[0])
    cann, here = _used(machine)
    if not here or not made_for or pairs.runs_on(made_for, here):
        return Finding("torch", OK, f"{what} {_made_for(made_for)}")
    fitting = pairs.torch_npu_for(base, here)
    todo = f"pip install torch-npu=={fitting}, or " if fitting else ""
    return _foreign("torch", f"{what} for CANN {made_for}", cann, todo + _source(made_for))


def check_mindspore(machine: RecordingMachine, gravity: str = ERROR) -> Iterator[Finding]:
    """Look for MindSpore's plugin for Ascend, and compare its CANN."""
    version = version_of(machine, "mindspore")
    plugin = _file(machine, "mindspore/lib/plugin/libmindspore_ascend.so*")
    if version and (plugin or "mindspore_ascend" in machine.packages()):
        yield _mindspore(machine, version)
    elif version:
        todo = "install MindSpore's wheel for Ascend (mindspore.cn/install)"
        yield _lacking("mindspore", f"mindspore {version} without its Ascend plugin", gravity, todo)


def _mindspore(machine: RecordingMachine, version: str) -> Finding:
    """Compare CANN with the published table, and with the list by which MindSpore itself warns.

    The list is of the numbers in CANN's compiler/version.info, which up to CANN 8.1 are not the release's:
    7.6 for 8.0.0.
    """
    made_for, listed = pairs.MINDSPORE.get(version, ""), _mindspore_takes(machine)
    cann, here = _used(machine)
    number = _number(machine)
    if here == made_for or not number or not listed or number in listed:
        return Finding("mindspore", OK, f"mindspore {version} {_made_for(made_for or ' or '.join(listed))}")
    wanted = f"for CANN {made_for or ' or '.join(listed)}"
    todo = _source(made_for) if made_for else "install a pair that mindspore.cn/install lists"
    return _foreign("mindspore", f"mindspore {version} {wanted}", cann, todo)


def check_paddle(machine: RecordingMachine, gravity: str = ERROR) -> Iterator[Finding]:
    """Compare paddlepaddle, its plugin paddle-custom-npu and CANN."""
    version = version_of(machine, "paddle")
    plugin = machine.packages().get("paddle_custom_npu", "") or ("?" if _paddle_library(machine) else "")
    if version and plugin:
        yield _paddle(machine, version, plugin)
    elif version and "paddlepaddle_npu" in machine.packages():
        yield Finding("paddle", OK, f"paddlepaddle-npu {version}")
    elif version:
        todo = "install paddle-custom-npu (paddlepaddle.org.cn, hardware support), or set CUSTOM_DEVICE_ROOT"
        yield _lacking("paddle", f"paddlepaddle {version} without paddle-custom-npu", gravity, todo)


def _paddle(machine: RecordingMachine, version: str, plugin: str) -> Finding:
    what = f"paddlepaddle {version}, paddle-custom-npu {plugin}"
    if "?" not in (version, plugin) and plugin.split(".")[:2] != version.split(".")[:2]:
        todo = f"pip install paddlepaddle=={plugin}"
        return Finding("paddle", WARNING, f"{what}: they are of different releases", todo)
    made_for = _paddle_made_for(machine) or pairs.PADDLE.get(plugin, "")
    cann, here = _used(machine)
    if not here or pairs.release(made_for) in ("", here):  # 8.0.T13 is of no release
        return Finding("paddle", OK, f"{what} {_made_for(made_for)}")
    return _foreign("paddle", f"{what} for CANN {made_for}", cann, _source(made_for))


def _lacking(name: str, what: str, gravity: str, todo: str) -> Finding:
    if gravity == OK:
        return Finding(name, OK, what)
    return Finding(name, gravity, f"{what}: a job for NPUs fails late, or trains on the CPU", todo)


def _foreign(name: str, what: str, cann: str, todo: str) -> Finding:
    return Finding(name, WARNING, f"{what}, but the ranks would use {cann}", todo)


def _source(release: str) -> str:
    return f"source the set_env.sh of CANN {release} (ascend_env: in the YAML)"


def _made_for(release: str) -> str:
    return (
        f"for CANN {release}" if release else "(of no release in npu-launch's table: its CANN is not checked)"
    )


def _base(version: str) -> str:
    """Return the torch for which a torch_npu is built: 2.7.1 of 2.7.1.post2, and of 2.7.1a0+git1f."""
    return re.split(r"\.post|\.?rc|\.dev|\+|[ab]\d", version)[0]


def _used(machine: RecordingMachine) -> tuple[str, str]:
    """Return the CANN that a rank would use, in words and as a release; "" for what is not known."""
    cann = next(iter(versions.installed(machine)), None)
    found = pairs.release(cann.version) if cann else ""
    return (str(cann), "" if pairs.is_newer(found) else found) if cann else ("", "")


def _file(machine: RecordingMachine, pattern: str) -> str:
    """Return the first file of this pattern in the folders from which the ranks import; "" for none."""
    found = (str(path) for folder in machine.paths for path in sorted(Path(folder or ".").glob(pattern)))
    return next(found, "")


def _text(path: str) -> str:
    try:
        return Path(path).read_text(encoding="utf-8", errors="replace") if path else ""
    except OSError:
        return ""


def _mindspore_takes(machine: RecordingMachine) -> list[str]:
    """Read the numbers of CANN that MindSpore takes, such as 8.5; empty when its file does not say so."""
    text = _text(_file(machine, "mindspore/run_check/_check_version.py"))
    found = re.search(r"self\.version = \[([^\]]*)\]", text.partition("class AscendEnvChecker")[2])
    return re.findall(r"\d+\.\d+", found.group(1)) if found else []


def _number(machine: RecordingMachine) -> str:
    """Return the number that MindSpore reads; where that file is missing, the release's, as from 8.2 on."""
    cann = next(iter(versions.installed(machine)), None)
    text = machine.read(f"{cann.folder}/compiler/version.info") if cann else ""
    found = re.search(r"(?m)^Version=(\d+\.\d+)\.", text)
    release = pairs.release(cann.version) if cann and not found else ""
    own = "" if release.startswith(("7.", "8.0", "8.1")) else release
    return found.group(1) if found else ".".join(own.split(".")[:2])


def _paddle_library(machine: RecordingMachine) -> bool:
    root = machine.environ.get("CUSTOM_DEVICE_ROOT", "")
    inside = bool(root) and os.path.isfile(os.path.join(root, "libpaddle-custom-npu.so"))
    return inside or bool(_file(machine, "paddle_custom_device/libpaddle-custom-npu.so"))


def _paddle_made_for(machine: RecordingMachine) -> str:
    """Read the CANN that the plugin was built with (PaddleCustomDevice, backends/npu/setup.py.in)."""
    text = _text(_file(machine, "paddle_custom_device/npu/__init__.py"))
    found = re.search(r"(?m)^cann_version\s*=\s*'(\d[^']*)'", text)
    return found.group(1) if found else ""


CHECK_OF: dict[str, Callable[[RecordingMachine, str], Iterator[Finding]]] = {
    "torch": check_torch,
    "mindspore": check_mindspore,
    "paddle": check_paddle,
}
CHECKS: list[Check] = [check_frameworks]
