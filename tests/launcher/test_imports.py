"""Who may import whom (docs/architecture.md)."""

from __future__ import annotations

import ast
import os
import subprocess
import sys
from pathlib import Path
from typing import Iterator

import pytest

ROOT = Path(__file__).resolve().parents[2]
FORBIDDEN = {
    "launcher": {"bert", "squad", "tensorflow", "numpy", "npu_bridge", "npu_device"},
    "rank_table": {"bert", "squad", "launcher", "tensorflow", "numpy", "npu_bridge"},
    "bert": {"squad", "launcher"},
    "squad": {"launcher", "npu_bridge", "npu_device"},
}


def imported(path: Path) -> Iterator[str]:
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name.split(".")[0] for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and not node.level:
            yield str(node.module).split(".")[0]


@pytest.mark.parametrize("room", sorted(FORBIDDEN))
def test_a_room_imports_only_what_it_may(room: str) -> None:
    found = {
        f"{path.relative_to(ROOT)} imports {name}"
        for path in sorted((ROOT / room).rglob("*.py"))
        for name in set(imported(path)) & FORBIDDEN[room]
    }
    assert not found


# The floors of launcher/, the ground first: a package imports what stands before it, and nothing after it.
FLOORS = (
    "errors", "text", "masking", "output", "typed_json", "foreign", "lines",
    "heartbeat", "run_dir", "worker", "beats", "config", "hccl", "profiles", "plan",
    "process", "runs", "locks",
    "diagnosis", "logs", "ui", "checks", "metrics", "supervision", "view", "reproduce", "page", "compare",
    "hosts", "engines", "submit", "cases", "repeat", "commands", "cli", "__main__",
)  # fmt: skip


def packages(path: Path) -> Iterator[str]:
    """Yield the packages (or root modules) of launcher/ that a file imports."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.ImportFrom) and str(node.module).startswith("launcher."):
            yield str(node.module).split(".")[1]
        elif isinstance(node, ast.ImportFrom) and node.module == "launcher":
            yield from (alias.name for alias in node.names if alias.name != "__version__")
        elif isinstance(node, ast.Import):
            names = [alias.name.split(".") for alias in node.names]
            yield from (words[1] for words in names if words[0] == "launcher" and words[1:])


def test_imports_go_one_way_between_the_packages_of_the_launcher() -> None:
    upward = []
    for path in sorted((ROOT / "launcher").rglob("*.py")):
        own = path.relative_to(ROOT / "launcher").parts[0].replace(".py", "")
        if own != "__init__":
            found = {name for name in packages(path) if FLOORS.index(name) > FLOORS.index(own)}
            upward += [f"{path.relative_to(ROOT)} imports launcher.{name}" for name in sorted(found)]
    assert not upward


def test_npu_adapters_are_imported_in_one_backend_module_only() -> None:
    holders: set[str] = {
        path.relative_to(ROOT).as_posix()
        for room in ("bert", "squad", "launcher", "rank_table")
        for path in (ROOT / room).rglob("*.py")
        if {"npu_bridge", "npu_device", "hccl"} & set(imported(path))
    }
    assert holders <= {"bert/backend/npu.py", "bert/backend/adapter.py"}


STARTED = [
    f"launcher.{name}" for name in ("cli", "commands.run", "engines.local", "supervision.supervisor")
]


@pytest.mark.parametrize("module", STARTED)
def test_the_launcher_starts_without_tensorflow_and_numpy(module: str) -> None:
    code = "import sys, %s; print([m for m in ('tensorflow', 'numpy', 'psutil', 'rich') if m in sys.modules])"
    command = [sys.executable, "-c", code % module]
    environ = dict(os.environ, PYTHONPATH=str(ROOT))
    done = subprocess.run(command, stdout=subprocess.PIPE, check=True, env=environ)
    assert done.stdout.decode().strip() == "[]"


def test_the_worker_file_needs_the_standard_library_alone() -> None:
    done = subprocess.run(
        [sys.executable, "-S", "-I", str(ROOT / "launcher" / "worker.py"), "-m", "this"],
        stdout=subprocess.PIPE, check=True,
    )  # fmt: skip
    assert b"Namespaces" in done.stdout
