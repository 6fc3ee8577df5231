"""Who may import whom (README, "The house")."""

from __future__ import annotations

import ast
import os
import subprocess
import sys
from pathlib import Path
from typing import Iterator, Set

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
        "%s imports %s" % (path.relative_to(ROOT), name)
        for path in sorted((ROOT / room).rglob("*.py"))
        for name in set(imported(path)) & FORBIDDEN[room]
    }
    assert not found


def test_npu_adapters_are_imported_in_one_backend_module_only() -> None:
    holders: Set[str] = {
        path.relative_to(ROOT).as_posix()
        for room in ("bert", "squad", "launcher", "rank_table")
        for path in (ROOT / room).rglob("*.py")
        if {"npu_bridge", "npu_device", "hccl"} & set(imported(path))
    }
    assert holders <= {"bert/backend/npu.py", "bert/backend/adapter.py"}


@pytest.mark.parametrize("module", ["launcher.cli", "launcher.commands.run", "launcher.session"])
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
