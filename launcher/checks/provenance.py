"""Where a run comes from: versions, the commit of its folder, the files that its command names.

Taken at the end of a run, for result.json and the page. Nothing big is read: of data and weights the size and
the time of the last change are told.
"""

from __future__ import annotations

import os
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path
from typing import Any, Iterator, Mapping, Sequence

import launcher
from launcher import foreign
from launcher.checks import job_python, packages, versions
from launcher.checks.machine import RecordingMachine, this_machine
from launcher.errors import ReadError, UsageError
from launcher.masking import mask
from launcher.plan.model import Plan, RankSpec

MOST_FILES = 24
GIT_TIME = 1.0  # seconds that git may take to compare a work tree with its index
_WORKER = str(Path(launcher.__file__).with_name("worker.py"))
_REFLOG = 64 << 20  # bytes


def take(plan: Plan, started: float) -> dict[str, Any]:
    """Describe what a run was made of; what is not known, or not there, is left out. Secrets are masked."""
    specs = plan.local_ranks or plan.ranks
    environ = specs[0].env if specs else os.environ
    machine = this_machine(environ, os.getcwd())
    found = {
        **_versions(machine, specs[0].argv if specs else ()),
        "framework": _framework(specs[0]) if specs else "",
        **commit_of(environ.get("PWD") or os.getcwd(), started),
        "files": [mask(item) for item in _files(specs[0].argv if specs else ())],
    }
    return {name: value for name, value in found.items() if value}


def _versions(machine: RecordingMachine, argv: Sequence[str]) -> dict[str, str]:
    """Return the versions; of Python and its packages when the ranks have the launcher's own."""
    cann = versions.installed(machine)
    own = not argv or os.path.dirname(argv[0]) == os.path.dirname(sys.executable)
    installed = machine.packages() if own else {}
    return {
        "launcher": launcher.__version__,
        "python": ".".join(map(str, sys.version_info[:3])) if own else "",
        "program": argv[0] if argv else "",
        "tensorflow": packages.TENSORFLOW.version(installed),
        "numpy": installed.get("numpy", ""),
        "adapter": ", ".join(f"{name} {installed[name]}" for name in versions.ADAPTERS if name in installed),
        "driver": versions.driver(machine),
        "cann": str(cann[0]) if cann else "",
        "kernel": os.uname().release,
    }


def _framework(spec: RankSpec) -> str:
    """Return the versions of the ranks' torch, MindSpore or Paddle and its part for NPUs; else ""."""
    names = packages.OF.get(spec.env.get("NPU_LAUNCH_FRAMEWORK", ""), packages.NOTHING).every
    python = job_python.interpreter(spec.argv) if names else ""
    if not python:
        return ""
    with suppress(UsageError):
        installed = RecordingMachine({}, paths=job_python.ask(python, spec.env).paths).packages()
        return ", ".join(f"{name} {installed[name]}" for name in names if name in installed)
    return ""


def commit_of(cwd: str, started: float) -> dict[str, Any]:
    """Return the commit of a folder when the run began, and whether its files differ from it now."""
    folders = (Path(cwd), *Path(cwd).parents)
    root = next((path for path in folders if os.path.lexists(str(path / ".git"))), None)
    if root is None:
        return {}
    commit = commit_at(root, started)
    return {"commit": commit, "repository": str(root), "changed": _changed(root)} if commit else {}


def commit_at(root: Path, moment: float) -> str:
    """Return the commit that was checked out in a work tree at a moment, by git's own log; "": not known."""
    folder = root / ".git"
    commit = ""
    with suppress(ReadError, OSError):
        if folder.is_file():  # a worktree's
            said = foreign.read_bytes(folder).decode("utf-8", "replace")
            folder = root / said.partition("gitdir:")[2].strip()
        log = foreign.read_bytes(folder / "logs" / "HEAD", _REFLOG).decode("utf-8", "replace")
        for line in log.splitlines():
            words = line.partition("\t")[0].split()
            if len(words) > 4 and words[-2].isdigit() and (not commit or int(words[-2]) <= moment):
                commit = words[1]
    return commit


def _changed(root: Path) -> str:
    """Tell in words whether tracked files differ from the commit."""
    words = ["git", "-c", "core.fsmonitor=false", "-C", str(root), "status", "--porcelain", "-uno"]
    environ = {**os.environ, "GIT_OPTIONAL_LOCKS": "0", "LC_ALL": "C"}
    try:
        done = subprocess.run(
            words, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, stdin=subprocess.DEVNULL,
            timeout=GIT_TIME, env=environ, check=True,
        )  # fmt: skip
    except (OSError, subprocess.SubprocessError):
        return "not known"
    count = len(done.stdout.splitlines())
    return f"{count} changed file{'s' if count > 1 else ''}" if count else "no changes"


def _files(argv: Sequence[str]) -> Iterator[Mapping[str, Any]]:
    """Describe the files and folders that a command names: data, weights, scripts."""
    count = 0
    for word in argv[1:]:
        name, _, value = word.partition("=") if word.startswith("-") else ("", "", word)
        if os.sep not in value or value == _WORKER or count == MOST_FILES:
            continue
        with suppress(OSError, ValueError):
            about = os.stat(value)
            size = about.st_size if os.path.isfile(value) else _size(value)
            when = time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(about.st_mtime))
            count += 1
            yield {"option": name.lstrip("-"), "path": value, "bytes": size, "changed": when}


def _size(folder: str) -> int:
    """Add up the files of a folder, not of those in it."""
    with os.scandir(folder) as entries:
        return sum(entry.stat().st_size for entry in entries if entry.is_file())
