"""What doctor may use: files below a root, and the vendor's query tools with a time limit."""

from __future__ import annotations

import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import Callable, Iterable, Mapping, Sequence

from launcher.checks.finding import Finding
from rank_table.inventory import natural
from rank_table.sources import dev_nodes
from rank_table.sources.tools import Machine, ToolResult

OWN_PYTHON = (sys.version_info[0], sys.version_info[1])
TOOL_TIMEOUT = 20.0  # seconds; npu-smi needs one to three on a busy server


@dataclass
class RecordingMachine(Machine):
    """A machine that keeps every answer for the bundle, and knows where Python packages are installed."""

    timeout: float = TOOL_TIMEOUT
    folder: str = "."  # where the user typed the command
    paths: Sequence[str] = ()  # where Python packages are looked for
    python: tuple[int, int] = OWN_PYTHON
    answers: dict[str, str] = field(default_factory=dict)  # file or command -> what it says
    results: dict[str, ToolResult] = field(default_factory=dict)

    def read(self, name: str) -> str:
        """Return a file's text, or "" when it cannot be read."""
        text = super().read(name)
        if text is not None:
            self.answers[name] = text
        return text or ""

    def newest(self, pattern: str) -> str:
        """Return the text of the last file that matches a pattern, or ""."""
        found = self.matching(pattern)
        return self.read(found[-1]) if found else ""

    def matching(self, pattern: str) -> list[str]:
        """List the files and folders that match a pattern, in the order of the numbers in their names."""
        found = (str(path.relative_to(self.root)) for path in Path(self.root).glob(pattern.lstrip("/")))
        return ["/" + name for name in sorted(found, key=natural)]

    def ask_all(self, tool: str, calls: Sequence[Sequence[str]]) -> list[ToolResult]:
        """Run a tool as Machine does, but no command twice."""
        commands = [" ".join((tool, *call)) for call in calls]
        fresh = {command: call for command, call in zip(commands, calls) if command not in self.answers}
        for command, result in zip(fresh, super().ask_all(tool, list(fresh.values()))):
            self.results[command] = result
            self.answers[command] = result.text or result.problem
        return [self.results.get(command) or ToolResult(self.answers[command]) for command in commands]

    def output(self, tool: str, *arguments: str) -> str:
        """Return what a tool prints, or "" when it is missing, fails or hangs."""
        result = self.ask(tool, *arguments)
        return "" if result.problem else result.text

    def packages(self) -> dict[str, str]:
        """Map each installed Python package to its version, without importing any.

        The folder names are enough: tensorflow-1.15.5.dist-info, npu_bridge-1.15.0.dist-info.
        """
        found: dict[str, str] = {}
        for folder in reversed(list(self.paths)):
            for path in Path(folder or ".").glob("*-info"):
                name, _, version = path.stem.partition("-")
                found[name.lower().replace("-", "_")] = version.split("-")[0]
        return found


def this_machine(
    environ: Mapping[str, str],
    folder: str,
    python: tuple[int, int] = OWN_PYTHON,
    path: Sequence[str] = sys.path,
) -> RecordingMachine:
    """Describe this machine and a Python; the adapter may be installed outside its own folders."""
    paths = list(filter(None, [*path, environ.get("TFPLUGIN_INSTALL_PATH", "")]))
    return RecordingMachine(environ, folder=folder, paths=paths, python=python)


def has_npu(machine: Machine) -> bool:
    """Check whether the machine has an Ascend device or its driver (ray's `davinci?` misses 10 to 15)."""
    return bool(dev_nodes.device_ids(machine)) or machine.find("npu-smi") is not None


Check = Callable[[RecordingMachine], Iterable[Finding]]
