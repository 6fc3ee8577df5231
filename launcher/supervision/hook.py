"""The command of `on_event`: each event of a run as one line of JSON on the stdin of a new process.

One process for each event, as what sends a mail or a chat message is a short script: nothing has to stay
alive, and a script that fails costs one event. They run one after the other under a process of its own,
which is a child of the launcher: a slow one never holds up the run, a hung one is killed with its group, and
what is left of them ends with the run. The launcher writes events on a socket, then `q` and a line end; it
reads what there is to tell, one JSON text a line.
"""

from __future__ import annotations

import ctypes
import json
import os
import select
import signal
import socket
import subprocess
import time
from collections import deque
from contextlib import suppress
from typing import Any, Callable, Mapping, NoReturn, Sequence

from launcher.plan.model import Plan
from launcher.process import spawn, sweep
from launcher.process.signals import name
from launcher.process.watchdog import KEPT, keep_only
from launcher.run_dir import RunDir

TIMEOUT = 30.0  # seconds that one command may take
WAITING = 1000  # events that may wait for it
LAST = "end"  # the event that comes last, and is never left out
CATCH_UP, LEAVE = 5.0, 10.0  # seconds for what still waits at the end of a run; then for the last event
LOG = 16 << 20  # bytes that one command may write
POLL = 0.02  # seconds between two looks at a command that runs
_KILLED = 2.0  # seconds in which the process goes that is to go at once
_LIBC = ctypes.CDLL(None)
_PR_SET_PDEATHSIG, _PR_SET_NAME = 1, 15  # prctl(2)


class Hook:
    """The launcher's side. `say` gets what a person should know, a line each."""

    def __init__(self, plan: Plan, run: RunDir, say: Callable[[str], None]) -> None:
        policy = plan.policy
        self._only, self._say = frozenset(policy.on_event_only), say
        self._unsent, self._dropped, self._words = b"", 0, b""
        self._socket, other = socket.socketpair()
        held = signal.pthread_sigmask(signal.SIG_BLOCK, spawn.BLOCKABLE)
        try:
            self._pid = os.fork()
            if self._pid == 0:
                _main(other, policy.on_event, run)
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, held)
            other.close()
        self._socket.setblocking(False)

    def send(self, record: Mapping[str, Any]) -> None:
        """Hand an event over; never wait."""
        self._hear()
        if not self._only or record["event"] in self._only:
            self._write(json.dumps(record).encode() + b"\n")

    def _write(self, line: bytes) -> None:
        with suppress(OSError):
            if self._unsent:
                self._unsent = self._unsent[self._socket.send(self._unsent) :]
        if self._unsent:
            self._dropped += 1
            return
        try:
            self._unsent = line[self._socket.send(line) :]
        except OSError:  # it reads at once: it was stopped, or killed
            self._dropped += 1

    def _hear(self) -> bool:
        """Pass on what has come; return whether more may come."""
        try:
            data = self._socket.recv(1 << 16)
        except BlockingIOError:
            return True
        except OSError:
            return False
        *lines, self._words = (self._words + data).split(b"\n")
        for line in lines:
            self._say("warning: on_event: " + json.loads(line.decode()))
        return bool(data)

    def finish(self) -> None:
        """Wait until the last event is delivered, for some seconds at most; then nothing of it is left."""
        self._write(b"q\n")
        end = time.monotonic() + CATCH_UP + LEAVE + _KILLED
        while time.monotonic() < end and self._hear():
            select.select([self._socket], [], [], max(0.0, end - time.monotonic()))
        if self._dropped:
            self._say(f"warning: on_event: {self._dropped} events could not be handed over")

    def close(self) -> None:
        """End it, and all that it has started, at once."""
        self._socket.close()
        end = time.monotonic() + _KILLED
        with suppress(ChildProcessError):  # whoever reaps all children has seen it end
            while os.waitpid(self._pid, os.WNOHANG) == (0, 0):
                if time.monotonic() > end:
                    os.kill(self._pid, signal.SIGKILL)
                time.sleep(POLL)


def _main(own: socket.socket, words: Sequence[str], run: RunDir) -> NoReturn:
    """Run the commands, with every signal blocked."""
    try:
        os.setsid()
        keep_only(own.detach())
        spawn.become_subreaper()  # what a command leaves behind is still below this process
        _LIBC.prctl(_PR_SET_NAME, b"npu-hook", 0, 0, 0)
        _Runner(socket.socket(fileno=KEPT), words, run).serve()
    finally:
        sweep.freeze_and_kill(sweep.ProcessMatcher("\0", top=os.getpid()))
        os._exit(0)


class _Runner:
    """The process that runs the commands."""

    def __init__(self, own: socket.socket, words: Sequence[str], run: RunDir) -> None:
        self._socket, self._words = own, list(words)
        self._env = {key: value for key, value in os.environ.items() if not key.startswith("NPU_LAUNCH_")}
        self._env["NPU_LAUNCH_RUN_DIR"] = str(run.path)
        self._path = str(run.logs / "on_event.log")
        flags = os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK
        try:
            self._log = os.open(self._path, flags, 0o600)
        except OSError:
            self._log = os.open(os.devnull, os.O_WRONLY | os.O_CLOEXEC)
        self._queue: deque[bytes] = deque()
        self._rest = b""
        self._child: subprocess.Popen[bytes] | None = None
        self._name = ""  # of the event that it handles
        self._until = self._limit = 0.0  # when it is killed; bytes of the log at which it is
        self._left_at = float("inf")  # when nothing is waited for any more
        self._ran = self._failed = self._dropped = 0

    def serve(self) -> None:
        """Run to the end: until `q` and the last event, or until the launcher is gone."""
        while self._child or self._queue or self._left_at == float("inf"):
            busy = POLL if self._child or self._queue else None
            if self._socket in select.select([self._socket], [], [], busy)[0] and not self._read():
                return
            if self._child and not self._ended(self._child):
                continue
            if self._queue:
                self._begin(self._queue.popleft())
        while self._left_behind() and time.monotonic() < self._left_at:
            time.sleep(POLL)
        if self._failed > 1 or self._dropped:
            dropped = f"; {self._dropped} events were left out" if self._dropped else ""
            self._tell(f"{self._failed} of {self._ran} commands failed{dropped}; see {self._path}")

    def _read(self) -> bool:
        """Take what has come; return whether the launcher is there."""
        data = self._socket.recv(1 << 16)
        *lines, self._rest = (self._rest + data).split(b"\n")
        for line in lines:
            if line == b"q":
                self._left_at = time.monotonic() + CATCH_UP + LEAVE
            elif len(self._queue) < WAITING or _event(line) == LAST:
                self._queue.append(line)
            else:
                self._dropped += 1
        return bool(data)

    def _begin(self, line: bytes) -> None:
        """Start the command for an event; late at the end of a run, only for the last."""
        self._name, now = _event(line), time.monotonic()
        if now > self._left_at - LEAVE and self._name != LAST:
            self._dropped += 1
            return
        self._until = min(now + TIMEOUT, self._left_at)
        if os.fstat(self._log).st_size > LOG:  # what the last commands wrote is what matters
            os.ftruncate(self._log, 0)
        self._limit = os.fstat(self._log).st_size + LOG
        self._left_behind()  # one of those that have ended, too
        self._ran += 1
        reading, writing = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)
        try:
            os.set_blocking(reading, True)
            spawn.widen(writing)
            os.write(writing, line + b"\n")
            os.write(self._log, f"{time.strftime('%Y-%m-%d %H:%M:%S')} {self._name}\n".encode())
            self._child = subprocess.Popen(
                self._words,
                stdin=reading,
                stdout=self._log,
                stderr=self._log,
                env=self._env,
                start_new_session=True,
                preexec_fn=_prepare,
            )
        except (OSError, ValueError, subprocess.SubprocessError) as error:
            self._fail(f"cannot be run: {getattr(error, 'strerror', None) or error}")
        finally:
            os.close(reading)
            os.close(writing)

    def _ended(self, child: subprocess.Popen[bytes]) -> bool:
        """Look at the command that runs; kill it when its time is over, or it writes without end."""
        code, why = child.poll(), ""
        if code is None:
            if time.monotonic() >= self._until:
                why = "took too long and was killed"
            elif os.fstat(self._log).st_size > self._limit:
                why = f"wrote more than {LOG >> 20} MiB and was killed"
            if not why:
                return False
            spawn.kill_group(child.pid, signal.SIGKILL)
            code = child.wait()
        self._child = None
        if code:
            self._fail(why or (f"killed by {name(-code)}" if code < 0 else f"exit code {code}"))
        return True

    def _fail(self, why: str) -> None:
        """Record a failure; the first is told at once."""
        self._failed += 1
        with suppress(OSError):
            os.write(self._log, f"{why}\n".encode())
        if self._failed == 1:
            self._tell(f"{os.path.basename(self._words[0])}: {why} (event {self._name}); see {self._path}")

    def _tell(self, text: str) -> None:
        with suppress(OSError):
            self._socket.sendall(json.dumps(text).encode() + b"\n")

    @staticmethod
    def _left_behind() -> bool:
        """Tell whether processes that commands have left behind still run; collect those that have ended."""
        with suppress(ChildProcessError):
            return os.waitpid(-1, os.WNOHANG) is not None
        return False


def _event(line: bytes) -> str:
    return str(json.loads(line.decode())["event"])


def _prepare() -> None:
    """Give a command the signals of a fresh process; it dies with the one that started it."""
    _LIBC.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
    spawn.reset_signals()
