"""Doctor's check of the top-level modules of npu-launch, whose names other distributions use as well."""

from __future__ import annotations

import os
import re
import sys
from importlib.machinery import ModuleSpec, PathFinder
from pathlib import Path
from typing import Iterable, Sequence

import launcher
from launcher.checks.finding import ERROR, OK, WARNING, Finding
from launcher.checks.machine import Check, RecordingMachine

NAMES = ("bert", "launcher", "rank_table", "squad", "templates")
HOME = os.path.dirname(os.path.dirname(os.path.realpath(launcher.__file__)))
APART = "install npu-launch in a virtual environment of its own"
_INSTALLED = re.compile(rf"(?m)^({'|'.join(NAMES)})(?:/__init__)?\.py,")


def check_modules(machine: RecordingMachine) -> Iterable[Finding]:
    """Name modules that a rank would import instead of those of this installation; import nothing.

    A rank has the launch folder, or its script's, before the interpreter's own path.
    """
    folder = os.path.realpath(machine.folder)
    paths = [path for path in machine.paths if os.path.realpath(path) != folder]
    overwritten = _owners(Path(HOME))
    problems: list[Finding] = []
    for name in NAMES:
        local, installed = _find(name, [folder]), _find(name, paths) or _find_by_hook(name)
        others = [owner for owner in overwritten.get(name, ()) if owner.partition("-")[0] != "npu_launch"]
        if local and not _is_own(local, name):
            what = f"in this folder, `import {name}` finds {local}, not npu-launch's own {name}"
            problems.append(Finding("modules", WARNING, what, "start jobs in another folder, or rename it"))
        elif not local and installed and not _is_own(installed, name):
            problems.append(_shadowed(name, installed))
        elif others:
            what = f"{', '.join(others)} has installed its own {name} over npu-launch's in {HOME}"
            problems.append(Finding("modules", ERROR, what, APART))
    yield from problems or [Finding("modules", OK, f"{', '.join(NAMES)} from {HOME}")]


def _find(name: str, paths: Sequence[str]) -> str:
    """Return the file that `import name` would load from these folders, or "".

    A folder without __init__.py (a namespace package) hides nothing and is left out.
    """
    return _file(PathFinder.find_spec(name, list(paths)))


def _find_by_hook(name: str) -> str:
    """Ask the import hooks that follow the path; editable installations use them."""
    hooks = [hook for hook in sys.meta_path if hook is not PathFinder and hasattr(hook, "find_spec")]
    return next(filter(None, (_file(hook.find_spec(name, None, None)) for hook in hooks)), "")


def _file(spec: ModuleSpec | None) -> str:
    return str(spec.origin) if spec is not None and spec.has_location else ""


def _is_own(file: str, name: str) -> bool:
    return os.path.realpath(file) == os.path.join(HOME, name, "__init__.py")


def _shadowed(name: str, file: str) -> Finding:
    folder = Path(file).parent.parent if Path(file).stem == "__init__" else Path(file).parent
    owner = next(iter(_owners(folder).get(name, ())), "")
    whose = f"{file} of {owner}" if owner else file
    todo = f"`pip uninstall {owner.partition('-')[0]}`" if owner else f"take {folder} off PYTHONPATH"
    what = f"`import {name}` finds {whose}, not npu-launch's own {name}"
    return Finding("modules", ERROR, what, f"{todo}, or {APART}")


def _owners(folder: Path) -> dict[str, list[str]]:
    """Map each of NAMES to the distributions (NAME-VERSION) that have installed it into a folder."""
    found: dict[str, list[str]] = {}
    for info in sorted(folder.glob("*-info")):
        names = set(_INSTALLED.findall(_text(info / "RECORD")))
        names |= set(_text(info / "top_level.txt").split()) & set(NAMES)
        for name in names:
            found.setdefault(name, []).append(info.stem)
    return found


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""


CHECKS: list[Check] = [check_modules]
