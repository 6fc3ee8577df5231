"""Run the Ascend tools, found on PATH or where the driver installs them, each with a time limit."""

from __future__ import annotations

import contextlib
import errno
import os
import resource
import shutil
import signal
import subprocess
import tempfile
import time
from dataclasses import dataclass, field
from typing import IO, TYPE_CHECKING, Mapping, Optional, Sequence, Tuple

from rank_table import files
from rank_table.sources import install, words

_FOLDERS = ("usr/local/bin", "usr/local/sbin", "usr/sbin")
MOST_OUTPUT = 4 << 20  # bytes; the tools print some kilobytes
AT_ONCE = 16
ALONE = frozenset(("hccn_tool",))  # refuses a second call while one runs: "hccn_tool is busy"
PATIENCE = 3  # times the timeout that all calls of a tool in ALONE may take together
WAITS = (0.1, 0.2, 0.4, 0.8)  # seconds before a tool that says that it is busy is asked again
MOST_WAITED = 6.0  # seconds of such waits for all calls together
if TYPE_CHECKING:
    Started = Tuple[Optional[subprocess.Popen[bytes]], IO[bytes]]


@dataclass(frozen=True)
class ToolResult:
    """What a tool printed, and in `problem` why that is of no use, or may be where the tool has failed."""

    text: str = ""
    problem: str = ""
    late: bool = False
    busy: bool = False


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
        """Read a regular text file; None when it is missing, unreadable or something else."""
        path = self.path(name)
        if files.is_pipe(path):
            return None
        try:
            return files.read_bytes(path, MOST_OUTPUT)[:MOST_OUTPUT].decode("utf-8", errors="replace")
        except (OSError, ValueError):
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
        return found or next((place for place in self._places(tool) if os.access(place, os.X_OK)), None)

    def _places(self, tool: str) -> list[str]:
        drivers = [f"{folder}/tools" for folder in install.driver_folders(self.environ, self.read)]
        return [self.path(os.path.join(folder, tool)) for folder in (*drivers, *_FOLDERS)]

    def _absent(self, tool: str) -> str:
        """Say why a tool cannot be run: it is there and closed to this user, or it is not there."""
        on_path = [
            os.path.join(part, tool) for part in self.environ.get("PATH", "").split(os.pathsep) if part
        ]
        for place in (*on_path, *self._places(tool)):
            try:
                os.stat(place)
            except OSError as error:
                if error.errno not in (errno.EACCES, errno.EPERM):
                    continue
            return f"{tool}: {place} may not be run by this user; join the group HwHiAiUser, or run as root"
        return f"{tool}: not found on PATH"

    def ask(self, tool: str, *arguments: str) -> ToolResult:
        """Run a tool once."""
        return self.ask_all(tool, [arguments])[0]

    def ask_all(self, tool: str, calls: Sequence[Sequence[str]]) -> list[ToolResult]:
        """Run a tool with several argument lists; results are in the order of the calls.

        In parallel, but one in ALONE call by call. A tool that is busy is asked again a few times.
        """
        program = self.find(tool)
        if program is None or tool in self.unresponsive_tools:
            problem = self.unresponsive_tools.get(tool) or self._absent(tool)
            return [ToolResult(problem=problem) for _ in calls]
        results: list[ToolResult] = []
        size = 1 if tool in ALONE else AT_ONCE
        end, waits = time.monotonic() + PATIENCE * self.timeout, [MOST_WAITED]
        for first in range(0, len(calls), size):
            part = calls[first : first + size]
            if tool in self.unresponsive_tools or time.monotonic() > end:
                late = f"{tool}: not asked, as the calls before took {PATIENCE * self.timeout:g} s"
                problem = self.unresponsive_tools.get(tool, late)
                results += [ToolResult(problem=problem) for _ in part]
            else:
                results += self._patiently(tool, program, part, waits)
        return results

    def _patiently(
        self, tool: str, program: str, calls: Sequence[Sequence[str]], left: list[float]
    ) -> list[ToolResult]:
        """Run calls at once, then those that a busy tool refused again; `left` holds the seconds to wait."""
        results = self._round(tool, program, calls)
        for wait in WAITS:
            refused = [index for index, result in enumerate(results) if result.busy]
            if not refused or left[0] < wait:
                break
            left[0] -= wait
            time.sleep(wait)
            for index in refused:
                if tool not in self.unresponsive_tools:
                    results[index] = self._round(tool, program, [calls[index]])[0]
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
            return ToolResult(problem=f"{name}: {words.explained(output.read().decode(errors='replace'))}")
        try:
            process.wait(max(0.0, wait))
        except subprocess.TimeoutExpired:
            _kill(process)
            return ToolResult(problem=f"{name}: no answer within {limit:g} s", late=True)
        output.seek(0)
        text = output.read(MOST_OUTPUT).decode("utf-8", errors="replace")
    busy = text.count("\n") < 6 and words.BUSY.search(text) is not None
    if process.returncode:
        what = f"{name}: exit code {process.returncode}: {words.explained(text)}"
        return ToolResult(text, what, busy=busy)
    return ToolResult(text, busy=busy)


def _kill(process: subprocess.Popen[bytes]) -> None:
    try:
        os.killpg(process.pid, signal.SIGKILL)
    except ProcessLookupError:
        process.kill()
    with contextlib.suppress(subprocess.TimeoutExpired):  # with a broken driver a process cannot be killed
        process.wait(2.0)
