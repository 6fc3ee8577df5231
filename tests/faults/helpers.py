"""Start npu-launch with programs that go wrong, and look at what is left afterwards."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import textwrap
import time
import uuid
from pathlib import Path
from typing import Any, Callable, Iterator, Sequence

from launcher.plan.model import Plan
from launcher.process import sweep
from launcher.supervision.events import Event
from tests.launching import ROOT

PATIENCE = 90.0  # seconds, for what takes far less


class Job:
    """Run one program under npu-launch; `mark` is a word in the command lines of all its processes."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.mark = "mark-" + uuid.uuid4().hex[:12]
        self.process: Any = None

    def script(self, text: str, name: str = "job.py") -> None:
        """Write the program of the ranks; it knows RANK, SIZE, MARK and a few helpers."""
        head = textwrap.dedent(
            """
            import os, sys, time, signal, subprocess, threading, json
            RANK, SIZE, MARK = int(os.environ["RANK_ID"]), int(os.environ["RANK_SIZE"]), sys.argv[1]
            def child(code, **options):
                return subprocess.Popen([sys.executable, "-c", code, MARK], **options)
            def wait_for(path):
                while not os.path.exists(path):
                    time.sleep(0.01)
            """
        )
        (self.folder / name).write_text(head + textwrap.dedent(text))

    def start(
        self,
        ranks: int = 2,
        *words: object,
        command: list[str] | None = None,
        env: dict[str, str] | None = None,
        prepare: Callable[[], None] | None = None,
        prefix: Sequence[str] = (),
        **options: Any,
    ) -> Job:
        """Start npu-launch, by `prefix`; its output goes to out.txt unless `stdout` says otherwise."""
        program = command or [sys.executable, "-u", str(ROOT / "launcher" / "worker.py"), "job.py", self.mark]
        line = [*prefix, sys.executable, "-m", "launcher"]
        line += ["--devices", f"0-{ranks - 1}", "--backend", "cpu"]
        line += [str(word) for word in words]
        environ = dict(os.environ, PYTHONPATH=str(ROOT), **(env or {}))

        return self._popen([*line, "--", *program], environ, prepare, options)

    def drive(self, fault: str, ranks: int = 2, command: list[str] | None = None, **policy: Any) -> Job:
        """Start tests/faults/driver.py: supervise() with a fault injected into the launcher."""
        program = command or [sys.executable, "-u", str(ROOT / "launcher" / "worker.py"), "job.py", self.mark]
        line = [sys.executable, str(ROOT / "tests" / "faults" / "driver.py"), fault, json.dumps(policy)]
        return self._popen([*line, str(ranks), *program], dict(os.environ, PYTHONPATH=str(ROOT)), None, {})

    def _popen(
        self,
        line: list[str],
        environ: dict[str, str],
        prepare: Callable[[], None] | None,
        options: dict[str, Any],
    ) -> Job:
        def before() -> None:
            for number in (signal.SIGINT, signal.SIGQUIT, signal.SIGHUP):
                signal.signal(number, signal.SIG_DFL)
            if prepare:
                prepare()

        with open(str(self.folder / "out.txt"), "wb") as out:
            options.setdefault("stdout", out)
            options.setdefault("stdin", subprocess.DEVNULL)
            self.process = subprocess.Popen(
                line,
                cwd=str(self.folder),
                env=environ,
                stderr=subprocess.STDOUT,
                start_new_session=True,
                preexec_fn=before,
                **options,
            )
        return self

    def run(self, ranks: int = 2, *words: object, **options: Any) -> int:
        """Start npu-launch and wait for its end; give the exit code."""
        return self.start(ranks, *words, **options).wait()

    def wait(self, patience: float = PATIENCE) -> int:
        """Wait for the launcher."""
        try:
            return int(self.process.wait(patience))
        except subprocess.TimeoutExpired:
            self.close()
            raise AssertionError("npu-launch did not end:\n" + self.output) from None

    def send(self, number: int) -> None:
        self.process.send_signal(number)

    @property
    def output(self) -> str:
        return (self.folder / "out.txt").read_text(encoding="utf-8", errors="replace")

    @property
    def path(self) -> Path:
        """The run folder, once it exists."""
        until(lambda: bool(list(self.folder.glob("runs/*/plan.json"))))
        return max(self.folder.glob("runs/[a-z]*-*")).resolve()

    def events(self, event: Event | None = None) -> list[dict[str, Any]]:
        path = self.path / "events.jsonl"
        lines = path.read_text().splitlines() if path.exists() else []
        found = [json.loads(line) for line in lines]
        return [line for line in found if event is None or line["event"] == event]

    def pids(self, ranks: int) -> dict[int, int]:
        """Wait until all ranks are started; give their pids."""
        until(lambda: (self.path / "events.jsonl").exists() and len(self.events(Event.STARTED)) >= ranks)
        return {event["rank"]: event["data"]["pid"] for event in self.events(Event.STARTED)}

    def log(self, rank: int = 0) -> bytes:
        return (self.path / "logs" / (f"rank_{rank}.log")).read_bytes()

    def says(self, rank: int, text: bytes) -> None:
        """Wait until a rank has written something."""
        path = self.path / "logs" / (f"rank_{rank}.log")
        until(lambda: path.exists() and text in path.read_bytes())

    @property
    def result(self) -> dict[str, Any]:
        value: dict[str, Any] = json.loads((self.path / "result.json").read_text())
        return value

    @property
    def report(self) -> str:
        return (self.path / "report.txt").read_text(encoding="utf-8")

    def state(self, rank: int) -> str:
        """Return how a rank ended, as result.json has it."""
        return str(next(end["state"] for end in self.result["ends"] if end["rank"] == rank))

    def living(self) -> set[int]:
        """Find the processes that carry the mark, the launcher's own apart."""
        own = {os.getpid(), self.process.pid if self.process else 0}
        return {pid for pid, line in command_lines() if self.mark.encode() in line and pid not in own}

    def gone(self) -> None:
        """Check that nothing of the run lives."""
        until(lambda: not self.living(), f"left behind: {self.living()}")
        if not list(self.folder.glob("runs/*/plan.json")):
            return
        run_id = Plan.from_json((self.path / "plan.json").read_text()).run_id
        until(lambda: not sweep.members(run_id), f"left behind: {sweep.members(run_id)}")

    def close(self) -> None:
        """End what a failed test has left."""
        if self.process is not None and self.process.poll() is None:
            self.process.kill()
            self.process.wait()
        for pid in self.living():
            try:
                os.kill(pid, signal.SIGKILL)
            except ProcessLookupError:
                pass


def command_lines() -> Iterator[Any]:
    """List (pid, command line) of every living process."""
    for name in os.listdir("/proc"):
        if name.isdigit():
            try:
                line = Path("/proc", name, "cmdline").read_bytes()
            except OSError:
                continue
            if line:
                yield int(name), line


def until(true: Callable[[], bool], what: str = "", patience: float = PATIENCE) -> None:
    """Wait until something is true."""
    end = time.monotonic() + patience
    while not true():
        if time.monotonic() > end:
            raise AssertionError(what or "waited in vain")
        time.sleep(0.01)


def alive(pid: int) -> bool:
    """Tell whether a process lives (a zombie does not)."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] not in "ZX"
    except OSError:
        return False


def cgroup(kind: str, name: str) -> Path | None:
    """Make a cgroup (version 1) below the top one; None where that is not allowed."""
    path = Path("/sys/fs/cgroup", kind, f"npu-launch-{name}-{os.getpid()}")
    try:
        path.mkdir()
    except OSError:
        return None
    return path if (path / "tasks").exists() else None
