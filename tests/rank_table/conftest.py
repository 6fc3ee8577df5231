"""A fake machine: its own root folder, and programs on PATH that print what the real tools print."""

from __future__ import annotations

import json
import stat
import sys
from pathlib import Path
from typing import Any, Mapping

import pytest

from rank_table.sources.tools import Machine

# Answers by arguments: a text, or {"exit": code, "sleep": seconds, "text": ...}; "*" is any other call.
TOOL = """#!%s
import json, os, sys, time
answers = json.load(open(sys.argv[0] + ".json"))
with open(sys.argv[0] + ".calls", "a") as calls:
    calls.write(" ".join(sys.argv[1:]) + " LC_ALL=" + os.environ.get("LC_ALL", "") + "\\n")
answer = answers.get(" ".join(sys.argv[1:]), answers.get("*", {"exit": 1, "text": "unknown command"}))
answer = {"text": answer} if isinstance(answer, str) else answer
time.sleep(answer.get("sleep", 0))
sys.stdout.buffer.write(answer.get("text", "").encode("latin-1"))
sys.exit(answer.get("exit", 0))
"""


class FakeHost:
    """A machine made of device nodes, files and tools."""

    def __init__(self, folder: Path) -> None:
        self.root = folder / "root"
        self.bin = folder / "bin"
        self.bin.mkdir(parents=True)
        self.nodes()

    def nodes(self, *names: object) -> None:
        """Make /dev entries: numbers are davinciN."""
        dev = self.root / "dev"
        dev.mkdir(parents=True, exist_ok=True)
        for name in names:
            (dev / (f"davinci{name}" if isinstance(name, int) else str(name))).write_text("")

    def file(self, name: str, text: str) -> None:
        """Write a file below the root."""
        path = self.root / name.lstrip("/")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")

    def tool(self, name: str, answers: Mapping[str, Any]) -> None:
        """Put a tool on PATH."""
        path = self.bin / name
        path.write_text(TOOL % sys.executable)
        path.chmod(path.stat().st_mode | stat.S_IXUSR)
        (self.bin / (name + ".json")).write_text(json.dumps(answers))

    def calls(self, name: str) -> str:
        """Return the calls of a tool so far, one per line."""
        path = self.bin / (name + ".calls")
        return path.read_text() if path.exists() else ""

    def machine(self, environ: dict[str, str] | None = None, timeout: float = 20.0) -> Machine:
        """Return the machine, without anything of the test's own environment."""
        return Machine(dict({"PATH": str(self.bin)}, **(environ or {})), str(self.root), timeout)


@pytest.fixture
def host(tmp_path: Path) -> FakeHost:
    return FakeHost(tmp_path)


@pytest.fixture(scope="session")
def tables(shared: Path) -> Path:
    """Return the folder of the 92 public rank tables."""
    return shared / "data" / "rank_tables"


@pytest.fixture(scope="session")
def samples(shared: Path) -> Path:
    """Return the folder of samples of what the tools print."""
    return shared / "data" / "npu_samples"


def read(path: Path) -> str:
    return path.read_text(encoding="utf-8", errors="replace")
