"""Where a run comes from: versions, the commit of its folder, the files that its command names.

Taken some seconds after the start of a run (launcher/engines/recorder.py), else at its end. Files are hashed
whole as long as that is cheap; of bigger ones the size and three blocks are hashed, which is named as such.
"""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
import time
from contextlib import suppress
from itertools import islice
from pathlib import Path
from typing import Any, Iterator, Mapping, NamedTuple, Sequence

import launcher
from launcher import foreign
from launcher.checks import job_python, packages, versions
from launcher.checks.machine import RecordingMachine, this_machine
from launcher.errors import ReadError, UsageError
from launcher.masking import mask
from launcher.plan.model import Plan, RankSpec
from launcher.profiles.imports import module_file

MOST_FILES = 24
WHOLE, WHOLE_TOGETHER = 64 << 20, 256 << 20  # bytes: of one file that is hashed whole, of all of them
BLOCK = 1 << 20  # bytes of each of the three blocks of a bigger file
GIT_TIME = 1.0  # seconds that git may take to compare a work tree with its index
_WORKER = str(Path(launcher.__file__).with_name("worker.py"))
_ROOT = str(Path(launcher.__file__).resolve().parents[1])  # an editable installation's is in no path
_REFLOG = 64 << 20  # bytes


class _Python(NamedTuple):
    """The Python of the ranks: its version, its packages, and where it looks for modules."""

    release: str = ""
    installed: Mapping[str, str] = {}
    paths: Sequence[str] = ()


def take(plan: Plan, started: float) -> dict[str, Any]:
    """Describe what a run was made of; what is not known, or not there, is left out. Secrets are masked."""
    specs = plan.local_ranks or plan.ranks
    environ = specs[0].env if specs else os.environ
    machine = this_machine(environ, os.getcwd())
    spec = specs[0] if specs else None
    names = packages.OF.get(environ.get("NPU_LAUNCH_FRAMEWORK", ""), packages.NOTHING).every
    python = _python_of(machine, spec, bool(names))
    found = {
        **_versions(machine, spec, python, names),
        **commit_of(environ.get("NPU_LAUNCH_CWD") or environ.get("PWD") or os.getcwd(), started),
        "files": [mask(item) for item in _files(spec, python.paths)] if spec else [],
    }
    return {name: value for name, value in found.items() if value}


def _python_of(machine: RecordingMachine, spec: RankSpec | None, framework: bool) -> _Python:
    """Find the Python of the ranks; nothing is known where they run something else.

    The launcher's own is not asked, unless a framework counts that lies where only PYTHONPATH leads.
    """
    argv = spec.argv if spec else ()
    own = not argv or os.path.dirname(argv[0]) == os.path.dirname(sys.executable)
    python = job_python.interpreter(argv) if argv and (framework or not own) else ""
    with suppress(UsageError):
        if spec and python:
            asked = job_python.ask(python, spec.env)
            return _Python(asked.release, RecordingMachine({}, paths=asked.paths).packages(), asked.paths)
    if not own:
        return _Python()
    release = ".".join(map(str, sys.version_info[:3]))
    return _Python(release, machine.packages(), (*sys.path, _ROOT))


def _versions(
    machine: RecordingMachine, spec: RankSpec | None, python: _Python, names: Sequence[str]
) -> dict[str, str]:
    """Return the versions: the launcher's, those of the ranks' Python and its packages, the machine's."""
    cann, installed = versions.installed(machine), python.installed
    return {
        "launcher": launcher.__version__,
        "python": python.release,
        "program": spec.argv[0] if spec and spec.argv else "",
        "tensorflow": packages.TENSORFLOW.version(installed),
        "numpy": installed.get("numpy", ""),
        "adapter": ", ".join(f"{name} {installed[name]}" for name in versions.ADAPTERS if name in installed),
        "framework": ", ".join(f"{name} {installed[name]}" for name in names if name in installed),
        "driver": versions.driver(machine),
        "cann": str(cann[0]) if cann else "",
        "kernel": os.uname().release,
    }


def commit_of(cwd: str, started: float) -> dict[str, Any]:
    """Return the commit of a folder when the run began, and whether its files differ from it now."""
    folders = (Path(cwd), *Path(cwd).parents)
    root = next((path for path in folders if os.path.lexists(str(path / ".git"))), None)
    if root is None:
        return {}
    commit = commit_at(root, started)
    if not commit:
        return {}
    changed = _changed(root)
    patch = "" if changed == "no changes" else _patch(root)
    told = {"commit": commit, "repository": str(root), "changed": changed}
    return {**told, "changed_sha256": patch} if patch else told


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
    said = _git(root, "status", "--porcelain", "-uno")
    if said is None:
        return "not known"
    count = len(said.splitlines())
    return f"{count} changed file{'s' if count > 1 else ''}" if count else "no changes"


def _patch(root: Path) -> str:
    """Return the sha256 of `git diff HEAD`, by which two sets of changes are compared; "": not known."""
    said = _git(root, "diff", "--no-ext-diff", "--no-textconv", "HEAD")
    return hashlib.sha256(said).hexdigest() if said else ""


def _git(root: Path, *words: str) -> bytes | None:
    """Return what git prints; None when it fails or takes too long."""
    command = ["git", "-c", "core.fsmonitor=false", "-C", str(root), *words]
    environ = {**os.environ, "GIT_OPTIONAL_LOCKS": "0", "LC_ALL": "C"}
    try:
        return subprocess.run(
            command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, stdin=subprocess.DEVNULL,
            timeout=GIT_TIME, env=environ, check=True,
        ).stdout  # fmt: skip
    except (OSError, subprocess.SubprocessError):
        return None


def _files(spec: RankSpec, paths: Sequence[str]) -> Iterator[Mapping[str, Any]]:
    """Describe the files and folders that a command names: data, weights, vocabulary, scripts, modules."""
    count = together = 0
    for name, path in (*_modules(spec, paths), *_named(spec.argv)):
        if count == MOST_FILES:
            return
        with suppress(OSError, ValueError):
            about = os.stat(path)
            regular = os.path.isfile(path)
            size = about.st_size if regular else _size(path)
            when = time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(about.st_mtime))
            count += 1
            told = {"option": name, "path": path, "bytes": size, "changed": when}
            if regular:
                whole = size <= min(WHOLE, WHOLE_TOGETHER - together)
                together += size if whole else 0
                told["sha256" if whole else "sha256_of_samples"] = digest(path, whole)
            yield told


def _modules(spec: RankSpec, paths: Sequence[str]) -> Iterator[tuple[str, str]]:
    """Yield (option, path) of a program that is run as a module. paths: where its Python looks for it."""
    words = list(spec.argv)
    if "-m" not in words[:-1]:
        return
    module = words[words.index("-m") + 1]
    first = (spec.env.get("NPU_LAUNCH_CWD", ""), *spec.env.get("PYTHONPATH", "").split(os.pathsep))
    files = (module_file(module, folder) for folder in (*first, *paths) if folder)
    for path in islice(filter(None, files), 1):
        yield f"-m {module}", path


def _named(argv: Sequence[str]) -> Iterator[tuple[str, str]]:
    """Yield (option, path) of what may be files; of a checkpoint of TensorFlow those that it consists of."""
    for word in argv[1:]:
        name, _, value = word.partition("=") if word.startswith("-") else ("", "", word)
        if os.sep not in value or value == _WORKER:
            continue
        with suppress(ValueError):
            parts = [value + end for end in (".index", ".data-00000-of-00001")]
            is_prefix = os.path.isfile(parts[0]) and not os.path.exists(value)
            for path in parts if is_prefix else [value]:
                yield name.lstrip("-") + (path[len(value) :] if is_prefix else ""), path


def digest(path: str, whole: bool) -> str:
    """Return the sha256 of a file; not `whole`: of its size and its first, middle and last MiB.

    "": it cannot be read.
    """
    made = hashlib.sha256()
    with suppress(ReadError, OSError), foreign.open_regular(Path(path), follow=True) as stream:
        size = os.fstat(stream.fileno()).st_size
        if not whole:
            made.update(f"{size}\n".encode())
        for place in (0,) if whole else (0, max(0, size // 2), max(0, size - BLOCK)):
            stream.seek(place)
            left = size if whole else BLOCK
            while left > 0:
                data = stream.read(min(left, BLOCK))
                made.update(data)
                left -= len(data) or left
        return made.hexdigest()
    return ""


def _size(folder: str) -> int:
    """Add up the files of a folder, not of those in it."""
    with os.scandir(folder) as entries:
        return sum(entry.stat().st_size for entry in entries if entry.is_file())
