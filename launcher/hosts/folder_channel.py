"""Both ends of the channel between a head and its agents over files in a folder that all of them see.

An attempt has a folder of its own: `up-I.*` is written by the agent of host I, `down.*` by the head, and
`gone-I` by whoever started that agent, once it has ended.
"""

from __future__ import annotations

import subprocess
import time
from pathlib import Path
from typing import Any, Callable, Sequence

from launcher.hosts.channel import AgentChannel
from launcher.hosts.folder_files import StreamReader, StreamWriter, read_word
from launcher.hosts.frames import ALL, Decoder, Frame, encode
from launcher.hosts.transport import EngineEnd, HeadTransport

LINE = 1 << 16  # bytes of a line; nothing tears the lines of a file
SOONEST, LATEST = 0.01, 0.25  # seconds between two looks: after some traffic, and without any
SHARE = 0.1  # of the time at most goes into looking: a network disk with many hosts is slow
CLOSED = "closed"  # a frame of this channel alone: the head's side has ended
GONE = 2.0  # seconds of silence after which a host's `gone` file is looked for


class Pace:
    """When to look at files that tell nobody when they change."""

    def __init__(self) -> None:
        self._pause = SOONEST
        self._due = 0.0

    def due(self) -> bool:
        return time.monotonic() >= self._due

    def left(self) -> float:
        return max(0.0, self._due - time.monotonic())

    def looked(self, took: float, found: bool) -> None:
        """Count a look that took some seconds, and found something or nothing."""
        self._pause = SOONEST if found else min(LATEST, self._pause * 1.5)
        self._due = time.monotonic() + max(self._pause, took * (1 / SHARE - 1))


class FolderAgentChannel(AgentChannel):
    """The agent's end."""

    def __init__(self, folder: Path, index: int) -> None:
        self.index = index
        self._writer = StreamWriter(folder, f"up-{index}")
        self._reader = StreamReader(folder, "down")
        self._reader.skip()  # nothing that was said before this agent's hello is for it
        self._decoder = Decoder()
        self._pace = Pace()
        self._closed = False

    def fileno(self) -> int | None:
        return None

    @property
    def pending(self) -> int:
        return self._writer.pending

    @property
    def closed(self) -> bool:
        return self._closed

    def receive(self) -> list[Frame]:
        if not self._pace.due():
            return []
        begin = time.monotonic()
        data = self._reader.read()
        self._pace.looked(time.monotonic() - begin, bool(data))
        frames = [frame for frame in self._decoder.feed(data) if frame.host in (ALL, self.index)]
        self._closed = self._closed or any(frame.kind == CLOSED for frame in frames)
        return [frame for frame in frames if frame.kind != CLOSED]

    def send(self, kind: str, body: Any = None) -> None:
        self._writer.put(encode(Frame(self.index, kind, body), LINE))

    def turn(self) -> float:
        self._writer.flush()
        return self._pace.left()


class FolderTransport(HeadTransport):
    """The head's end. own: the agent of the head's own host, the only one that the head has started.

    ordered: is called with the order that is sent to the agents.
    """

    def __init__(
        self,
        folder: Path,
        hosts: int,
        own: subprocess.Popen[bytes],
        ordered: Callable[[Any], None] = lambda order: None,
    ) -> None:
        self._folder, self._own, self._ordered = folder, own, ordered
        self._writer = StreamWriter(folder, "down", keep=2)
        self._readers = [StreamReader(folder, f"up-{index}", alone=True) for index in range(hosts)]
        self._decoders = [Decoder() for _ in range(hosts)]
        self._heard = [time.monotonic()] * hosts
        self._gone: set[int] = set()
        self._pace = Pace()

    @property
    def descriptors(self) -> Sequence[int]:
        return ()

    def send(self, frame: Frame) -> None:
        if frame.kind == "order":
            self._ordered(frame.body)
        self._writer.put(encode(frame, LINE))

    def turn(self) -> float:
        self._writer.flush()
        return self._pace.left()

    def receive(self) -> list[Frame]:
        """Return the frames that have come; a `bye` of an agent that ended without one is among them."""
        if not self._pace.due():
            return []
        begin = time.monotonic()
        frames = [frame for index in range(len(self._readers)) for frame in self._of(index)]
        self._gone.update(frame.host for frame in frames if frame.kind == "bye")
        self._pace.looked(time.monotonic() - begin, bool(frames))
        return frames

    def _of(self, index: int) -> list[Frame]:
        data = self._readers[index].read()
        now = time.monotonic()
        if data:
            self._heard[index] = now
            return [frame for frame in self._decoders[index].feed(data) if frame.host == index]
        if index in self._gone or now - self._heard[index] < GONE:
            return []
        self._heard[index] = now
        code = self._code(index)
        return [] if code is None else [Frame(index, "bye", {"code": code})]

    def _code(self, index: int) -> int | None:
        """Return the exit code of an agent that has ended; None while it runs, or nobody says."""
        if not index:
            return self._own.poll()
        word = read_word(self._folder / f"gone-{index}")
        return int(word) if word.lstrip("-").isdigit() else None

    def ended(self) -> bool:
        return len(self._gone) == len(self._readers)

    def stop(self) -> None:
        """Ask this host's agent to end; frames are the only way to the others."""
        if self._own.poll() is None:
            self._own.terminate()

    def kill(self) -> None:
        self._close()
        self.stop()

    def end(self) -> EngineEnd:
        self._close()
        code = self._own.wait()
        return EngineEnd(code, f"the agent of host 0 ended with exit code {code}")

    def _close(self) -> None:
        self.send(Frame(ALL, CLOSED))
        self._writer.flush()
