"""Doctor's check of the top-level modules of npu-launch, whose names other distributions use as well."""

from __future__ import annotations

import os
import sys
from importlib.machinery import ModuleSpec, PathFinder
from pathlib import Path
from typing import Iterable, Sequence

import launcher
from launcher.checks.finding import ERROR, OK, WARNING, Finding
from launcher.checks.machine import Check, RecordingMachine

NAMES = ("bert", "launcher", "rank_table", "squad", "templates")
HOME = os.path.dirname(os.path.dirname(os.path.realpath(launcher.__file__)))


def check_modules(machine: RecordingMachine) -> Iterable[Finding]:
    """Name modules that a rank would import instead of those of this installation.

    A rank has the launch folder (or its script's) before the interpreter's own path. Nothing is imported.
    """
    folder = os.path.realpath(machine.folder)
    paths = [path for path in machine.paths if os.path.realpath(path) != folder]
    clean = True
    for name in NAMES:
        local, installed = _find(name, [folder]), _find(name, paths) or _find_by_hook(name)
        if local and not _is_own(local, name):
            clean = False
            what = f"in this folder, `import {name}` finds {local}, not npu-launch's own {name}"
            yield Finding("modules", WARNING, what, "start jobs in another folder, or rename it")
        elif installed and not local and not _is_own(installed, name):
            clean = False
            yield _shadowed(name, installed)
    if clean:
        yield Finding("modules", OK, f"{', '.join(NAMES)} from {HOME}")


def _find(name: str, paths: Sequence[str]) -> str:
    """Return the file that `import name` would load from these folders, or "".

    A folder without __init__.py (a namespace package) hides nothing and is left out.
    """
    return _file(PathFinder.find_spec(name, list(paths)))


def _find_by_hook(name: str) -> str:
    """Ask the import hooks behind the path, as editable installations use them."""
    hooks = [hook for hook in sys.meta_path if hook is not PathFinder and hasattr(hook, "find_spec")]
    return next(filter(None, (_file(hook.find_spec(name, None, None)) for hook in hooks)), "")


def _file(spec: ModuleSpec | None) -> str:
    return str(spec.origin) if spec is not None and spec.has_location else ""


def _is_own(file: str, name: str) -> bool:
    return os.path.realpath(file) == os.path.join(HOME, name, "__init__.py")


def _shadowed(name: str, file: str) -> Finding:
    folder = Path(file).parent.parent if Path(file).name.startswith("__init__.") else Path(file).parent
    owner = _distribution(folder, name)
    what = f"`import {name}` finds {file}{f' of {owner}' if owner else ''}, not npu-launch's own {name}"
    todo = "install npu-launch in a virtual environment of its own"
    if owner:
        todo = f"`pip uninstall {owner.partition('-')[0]}`, or {todo}"
    else:
        todo = f"take {folder} off PYTHONPATH, or {todo}"
    return Finding("modules", ERROR, what, todo)


def _distribution(folder: Path, name: str) -> str:
    """Return NAME-VERSION of the distribution that installed a module into a folder, or ""."""
    for info in sorted(folder.glob("*-info")):
        for listing in (info / "RECORD", info / "top_level.txt"):
            try:
                lines = listing.read_text(encoding="utf-8", errors="replace").splitlines()
            except OSError:
                continue
            if any(line.partition(",")[0].partition("/")[0] in (name, f"{name}.py") for line in lines):
                return info.stem
    return ""


CHECKS: list[Check] = [check_modules]
