"""The head's end of the way to its agents, such as standard input and output of the engine's program."""

from __future__ import annotations

import fcntl
import os
import shutil
import signal
import subprocess
import sys
import tempfile
from abc import ABC, abstractmethod
from collections import deque
from contextlib import suppress
from typing import Callable, Mapping, NamedTuple, Sequence

from launcher.errors import NotExecutableError, NotFoundError
from launcher.hosts.channel import WORDS_FIFO
from launcher.hosts.frames import LINE, Decoder, Frame, TaggedDecoder, encode

IDLE = 3600.0  # seconds until the next turn where nothing waits
_BLOCKED = 0.005  # seconds until a full pipe is tried again
_CHUNK, _CHUNKS = 1 << 18, 16  # bytes of a read, reads in one turn
_PIPE_BYTES = 1 << 20
_F_SETPIPE_SZ = 1031  # fcntl(2); in Python's fcntl from 3.10 on
WORDS = 1 << 16  # bytes that are kept of what the engine itself says


class EngineEnd(NamedTuple):
    """How the engine's program, and so the way to the agents, ended.

    code: -n for signal n. text: what it means, for a person; "" when nothing is wrong. lost: hosts that it
    names. It decides nothing about hosts whose agents have told of their end themselves.
    """

    code: int
    text: str = ""
    lost: tuple[str, ...] = ()


class HeadTransport(ABC):
    """The way to the agents of one attempt. Nothing here waits, but `end`."""

    @property
    def words(self) -> str:
        """What the engine itself, and the agents on their standard error, have said."""
        return ""

    def exited(self) -> Sequence[str]:
        """Name the hosts whose agents have ended, as far as the engine has said so since the last call."""
        return ()

    @property
    @abstractmethod
    def descriptors(self) -> Sequence[int]:
        """Descriptors that are readable when there is something to receive; none: turns alone tell."""

    @abstractmethod
    def send(self, frame: Frame) -> None:
        """Take a frame for an agent, or for all."""

    @abstractmethod
    def turn(self) -> float:
        """Write what was sent; return the seconds until the next turn."""

    @abstractmethod
    def receive(self) -> list[Frame]:
        """Return the frames that have come."""

    @abstractmethod
    def ended(self) -> bool:
        """Tell whether no frame can come any more."""

    @abstractmethod
    def stop(self) -> None:
        """Ask the agents to end, where frames do not reach them."""

    @abstractmethod
    def kill(self) -> None:
        """End the way at once: agents that live end with grace."""

    @abstractmethod
    def end(self) -> EngineEnd:
        """Wait until the way has ended, and close it."""


class _Feed:
    """A pipe into which frames are written as it takes them."""

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor
        self._queue: deque[bytes] = deque()
        self.written = 0

    def put(self, data: bytes) -> None:
        """Take bytes; they are lost when nobody can read them any more."""
        if self._descriptor >= 0:
            self._queue.append(data)

    def turn(self) -> float:
        """Write what the pipe takes; return the seconds until the next turn."""
        while self._queue and self._descriptor >= 0:
            if len(self._queue) > 1 and len(self._queue[0]) < _CHUNK:
                self._join()
            try:
                written = os.write(self._descriptor, self._queue[0])
            except BlockingIOError:
                return _BLOCKED
            except OSError:  # its end, which the engine's output tells
                self.close()
                return IDLE
            self.written += written
            rest = self._queue.popleft()[written:]
            if rest:
                self._queue.appendleft(rest)
        return IDLE

    def _join(self) -> None:
        """Put small frames together into one write."""
        joined: list[bytes] = []
        size = 0
        while self._queue and size < _CHUNK:
            joined.append(self._queue.popleft())
            size += len(joined[-1])
        self._queue.appendleft(b"".join(joined))

    def close(self) -> None:
        """End it; what was not written is lost."""
        self._queue.clear()
        if self._descriptor >= 0:
            os.close(self._descriptor)
        self._descriptor = -1


class _Beside(_Feed):
    """A FIFO for the agent on this host, which mpirun's standard input does not reach (Open MPI 4.1).

    Only mpirun's own children know of it (launcher/hosts/channel.py), so one agent reads it, or none does.
    """

    def __init__(self) -> None:
        self._folder = tempfile.mkdtemp(prefix="npu-launch-")
        self.path = os.path.join(self._folder, "words")
        os.mkfifo(self.path, 0o600)
        super().__init__(_plain(os.open(self.path, os.O_RDWR | os.O_CLOEXEC)))

    def is_read(self) -> bool:
        """Tell whether an agent reads it, when all of them have come; else end it, as it would fill up."""
        if self._descriptor < 0:
            return False
        if _unread(self._descriptor) < self.written:
            return True
        self.close()
        return False

    def close(self) -> None:
        super().close()
        shutil.rmtree(self._folder, ignore_errors=True)


def _unread(descriptor: int) -> int:
    """Count the bytes that wait in a pipe."""
    size = bytearray(4)
    with suppress(OSError):
        fcntl.ioctl(descriptor, 0x541B, size)  # FIONREAD
    return int.from_bytes(size, sys.byteorder)


class EngineTransport(HeadTransport):
    """An engine's program as a child in a session of its own, so that no Ctrl-C reaches it.

    stop: asks the agents to end through the engine, given its pid. explain: its exit code and words.
    after_tag: as Engine has it. beside: its standard input does not reach the agent that is its own child.
    orphaned: the same as stop for a program that was killed, whose pid may be another's. exited: finds the
    hosts in the engine's words whose agents have ended.

    Raises:
        NotFoundError, NotExecutableError: the program.
    """

    def __init__(
        self,
        argv: Sequence[str],
        environ: Mapping[str, str],
        stop: Callable[[int], None],
        explain: Callable[[int, str], EngineEnd],
        line: int = LINE,
        after_tag: bytes | None = None,
        orphaned: Callable[[int], None] = lambda pid: None,
        exited: Callable[[str], Sequence[str]] = lambda words: (),
        beside: bool = False,
    ) -> None:
        self._orphaned, self._exited = orphaned, exited
        self._fresh = b""  # words that `exited` has not seen
        self._name, self._line, self._stop, self._explain = os.path.basename(argv[0]), line, stop, explain
        self._words = b""
        self._decoder = Decoder(self.say) if after_tag is None else TaggedDecoder(self.say, after_tag)
        self._in: _Feed | None = None
        self._beside = _Beside() if beside else None
        more = {WORDS_FIFO: self._beside.path} if self._beside else {}
        try:
            self._process = _started(argv, {**environ, **more})
        except BaseException:
            self._close_input()
            raise
        into, self._out, self._err = map(_plain, _streams(self._process))
        self._in = _Feed(into)
        self._open = {self._out, self._err}
        self._end: EngineEnd | None = None

    def say(self, words: bytes) -> None:
        """Keep what the engine itself, or a shell's profile, has said."""
        self._words = (self._words + words.rstrip(b"\n") + b"\n")[-WORDS:]
        self._fresh = (self._fresh + words.rstrip(b"\n") + b"\n")[-WORDS:]

    def exited(self) -> Sequence[str]:
        fresh, self._fresh = self._fresh, b""
        return self._exited(fresh.decode("utf-8", "replace")) if fresh else ()

    @property
    def words(self) -> str:
        """What the engine has said so far."""
        return self._words.decode("utf-8", "replace")

    @property
    def descriptors(self) -> Sequence[int]:
        return sorted(self._open)

    def send(self, frame: Frame) -> None:
        data = b"".join(encode(frame, self._line))
        if self._in:
            self._in.put(data)
        if self._beside and (frame.kind != "start" or self._beside.is_read()):
            self._beside.put(data)

    def turn(self) -> float:
        feeds = [feed for feed in (self._in, self._beside) if feed]
        return min((feed.turn() for feed in feeds), default=IDLE)

    def _close_input(self) -> None:
        for feed in (self._in, self._beside):
            if feed:
                feed.close()

    def receive(self) -> list[Frame]:
        frames: list[Frame] = []
        for _ in range(_CHUNKS):
            data = self._read(self._out)
            if not data:
                break
            frames += self._decoder.feed(data)
        while True:
            words = self._read(self._err)
            if not words:
                return frames
            self.say(words)

    def _read(self, descriptor: int) -> bytes:
        """Read a chunk; nothing where there is none now, or no more."""
        if descriptor not in self._open:
            return b""
        try:
            data = os.read(descriptor, _CHUNK)
        except BlockingIOError:
            return b""
        except OSError:
            data = b""
        if not data:
            self._open.discard(descriptor)
            os.close(descriptor)
        return data

    def ended(self) -> bool:
        return self._out not in self._open or (self._process.poll() is not None and not self._readable())

    def _readable(self) -> bool:
        """Tell whether a process that the engine left behind may still have written something."""
        return _unread(self._out) > 0

    def stop(self) -> None:
        if self._process.poll() is None:
            self._stop(self._process.pid)

    def kill(self) -> None:
        """Close its input, which ends the agents with grace, and kill the program."""
        self._close_input()
        if self._process.poll() is None:
            with suppress(ProcessLookupError, PermissionError):
                os.killpg(self._process.pid, signal.SIGKILL)

    def end(self) -> EngineEnd:
        if self._end is not None:
            return self._end
        self._close_input()
        code = self._process.wait()
        if code < 0:
            self._orphaned(self._process.pid)
        self.receive()
        self._decoder.finish()
        for descriptor in sorted(self._open):
            os.close(descriptor)
        self._open.clear()
        self._end = self._explain(code, self.words)
        return self._end


def _started(argv: Sequence[str], environ: Mapping[str, str]) -> subprocess.Popen[bytes]:
    held = signal.pthread_sigmask(signal.SIG_SETMASK, set())
    try:
        return subprocess.Popen(
            argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
            env=dict(environ), start_new_session=True, bufsize=0,
        )  # fmt: skip
    except FileNotFoundError:
        raise NotFoundError(f"{argv[0]}: not found") from None
    except OSError as error:
        raise NotExecutableError(f"{argv[0]}: cannot be executed: {error.strerror}") from None
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, held)


def _streams(process: subprocess.Popen[bytes]) -> list[int]:
    """Return the descriptors of its standard input, output and error, which belong to nobody else now."""
    found = []
    for stream in filter(None, (process.stdin, process.stdout, process.stderr)):
        found.append(os.dup(stream.fileno()))
        stream.close()
    return found


def _plain(descriptor: int) -> int:
    os.set_blocking(descriptor, False)
    with suppress(OSError):
        fcntl.fcntl(descriptor, _F_SETPIPE_SZ, _PIPE_BYTES)
    return descriptor
