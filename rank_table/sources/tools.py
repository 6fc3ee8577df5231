"""Run the Ascend tools, found on PATH or where the driver installs them, each with a time limit."""

from __future__ import annotations

import contextlib
import os
import resource
import shutil
import signal
import subprocess
import tempfile
import time
from dataclasses import dataclass, field
from typing import IO, TYPE_CHECKING, Mapping, Optional, Sequence, Tuple

_FOLDERS = ("usr/local/Ascend/driver/tools", "usr/local/bin", "usr/local/sbin", "usr/sbin")
MOST_OUTPUT = 4 << 20  # bytes; the tools print some kilobytes
AT_ONCE = 16
if TYPE_CHECKING:
    Started = Tuple[Optional[subprocess.Popen[bytes]], IO[bytes]]


@dataclass(frozen=True)
class ToolResult:
    """The output of a tool, or in `problem` the reason why there is none to use."""

    text: str = ""
    problem: str = ""
    late: bool = False


@dataclass
class Machine:
    """One machine's files and tools; tests pass another root and environment.

    `timeout` is in seconds, for each round of tool calls. A tool that has timed out once is not run again:
    `unresponsive_tools` holds its name and what to tell the user.
    """

    environ: Mapping[str, str] = field(default_factory=lambda: dict(os.environ))
    root: str = "/"
    timeout: float = 10.0
    unresponsive_tools: dict[str, str] = field(default_factory=dict)

    def path(self, name: str) -> str:
        """Return an absolute file name, moved below the root."""
        return os.path.join(self.root, name.lstrip("/"))

    def read(self, name: str) -> str | None:
        """Read a text file; None when it is missing or unreadable."""
        try:
            with open(self.path(name), encoding="utf-8", errors="replace") as stream:
                return stream.read(MOST_OUTPUT)
        except OSError:
            return None

    def names(self, folder: str) -> list[str]:
        """List a folder; empty when it is missing."""
        try:
            return os.listdir(self.path(folder))
        except OSError:
            return []

    def find(self, tool: str) -> str | None:
        """Find a tool on PATH, else where the driver installs it."""
        found = shutil.which(tool, path=self.environ.get("PATH", ""))
        places = [self.path(os.path.join(folder, tool)) for folder in _FOLDERS]
        return found or next((place for place in places if os.access(place, os.X_OK)), None)

    def ask(self, tool: str, *arguments: str) -> ToolResult:
        """Run a tool once."""
        return self.ask_all(tool, [arguments])[0]

    def ask_all(self, tool: str, calls: Sequence[Sequence[str]]) -> list[ToolResult]:
        """Run a tool with several argument lists, in parallel; results are in the order of the calls."""
        program = self.find(tool)
        if program is None or tool in self.unresponsive_tools:
            problem = self.unresponsive_tools.get(tool) or f"{tool}: not found on PATH"
            return [ToolResult(problem=problem) for _ in calls]
        results: list[ToolResult] = []
        for first in range(0, len(calls), AT_ONCE):
            results += self._round(tool, program, calls[first : first + AT_ONCE])
        return results

    def _round(self, tool: str, program: str, calls: Sequence[Sequence[str]]) -> list[ToolResult]:
        env = dict(self.environ, LC_ALL="C")
        deadline = time.monotonic() + self.timeout
        started: list[Started] = []
        try:
            started = [_start([program, *call], env) for call in calls]
            results = [
                _finish(*pair, " ".join([tool, *call]), deadline - time.monotonic(), self.timeout)
                for call, pair in zip(calls, started)
            ]
        finally:
            for process, _ in started:
                if process is not None and process.poll() is None:  # interrupted
                    _kill(process)
        late = next((result for result in results if result.late), None)
        if late is not None:
            self.unresponsive_tools[tool] = f"{late.problem}: not asked again"
        return results


def _start(argv: Sequence[str], env: Mapping[str, str]) -> Started:
    output = tempfile.TemporaryFile()  # a file, so that no tool blocks on a full pipe
    try:
        process = subprocess.Popen(
            argv,
            env=env,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    except OSError as error:
        output.write(str(error.strerror).encode())
        return None, output
    with contextlib.suppress(OSError, ValueError):  # a tool that prints without end must not fill the disk
        resource.prlimit(process.pid, resource.RLIMIT_FSIZE, (MOST_OUTPUT, MOST_OUTPUT))
    return process, output


def _finish(
    process: subprocess.Popen[bytes] | None, output: IO[bytes], name: str, wait: float, limit: float
) -> ToolResult:
    with output:
        if process is None:
            output.seek(0)
            return ToolResult(problem=f"{name}: {output.read().decode(errors='replace')}")
        try:
            process.wait(max(0.0, wait))
        except subprocess.TimeoutExpired:
            _kill(process)
            return ToolResult(problem=f"{name}: no answer within {limit:g} s", late=True)
        output.seek(0)
        text = output.read(MOST_OUTPUT).decode("utf-8", errors="replace")
    if process.returncode:
        said = next((line.strip() for line in text.splitlines() if line.strip()), "nothing")
        return ToolResult(problem=f"{name}: exit code {process.returncode}: {said[:200]}")
    return ToolResult(text)


def _kill(process: subprocess.Popen[bytes]) -> None:
    try:
        os.killpg(process.pid, signal.SIGKILL)
    except ProcessLookupError:
        process.kill()
    with contextlib.suppress(subprocess.TimeoutExpired):  # with a broken driver a process cannot be killed
        process.wait(2.0)
