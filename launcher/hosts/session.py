"""The head's loop: frames of agents, signals, the console, and signs of life in both directions."""

from __future__ import annotations

import select
import time
from typing import Callable, Iterable

from launcher.hosts.fleet import Fleet, HostState, named
from launcher.hosts.frames import ALL, Frame
from launcher.hosts.transport import HeadTransport
from launcher.process.signals import ENDING, Signals, name
from launcher.supervision.run_clock import LATE
from launcher.ui.console import Console

BEAT = 2.0  # seconds between two signs of life of the head, at most
PATIENCE = 5.0  # seconds until the user is told for which hosts the head waits
_LONGEST = 0.5  # seconds between two looks at what tells nobody: files of requests

OnFrame = Callable[[HostState, Frame], None]
OnSignal = Callable[[int], None]


class Interrupted(Exception):
    """A signal that ends the run has come before its ranks were started."""

    def __init__(self, number: int) -> None:
        super().__init__(name(number))
        self.number = number


def _interrupt(number: int) -> None:
    if number in ENDING:
        raise Interrupted(number)


class Session:
    """The agents of one attempt, from their start by the engine to their end.

    on_frame: gets the frames that the fleet does not take. on_signal: gets the signals. on_turn: is called
    in every turn with the time, and may return the seconds until it wants another.
    """

    def __init__(
        self, transport: HeadTransport, names: Iterable[str], signals: Signals, console: Console, lease: float
    ) -> None:
        self.transport, self.signals, self.console = transport, signals, console
        self.fleet = Fleet(list(names))
        self.on_frame: OnFrame = lambda host, frame: None
        self.on_signal: OnSignal = _interrupt
        self.on_turn: Callable[[float], float] = lambda now: _LONGEST
        self.lease, self.released, self.dismissed = lease, False, False
        self._beat = min(BEAT, lease / 4)
        self._next_beat = 0.0
        self._heard: set[int] = set()  # hosts that frames came from since `expect` has looked
        self.paused = 0.0  # seconds in which this process did not run

    def send(self, kind: str, body: object = None, host: int = ALL) -> None:
        """Send a frame to a host, or to all."""
        self.transport.send(Frame(host, kind, body))

    def wait(self, done: Callable[[], bool], seconds: float) -> bool:
        """Serve all until `done`, or for so many seconds; return what `done` says."""
        end = time.monotonic() + seconds
        while not done() and time.monotonic() < end:
            if self.transport.ended() and not self._receive():
                break
            self.turn(end)
        return done()

    def expect(
        self, answered: Callable[[HostState], bool], seconds: float, what: str = ""
    ) -> list[HostState]:
        """Wait until every host has answered; return those that have not within so many seconds.

        what: for which the user is told, after a while, that some hosts are waited for.
        """
        pending = {host.index for host in self.fleet if not answered(host)}
        tell_at = time.monotonic() + PATIENCE if what else float("inf")

        def done() -> bool:
            nonlocal tell_at
            heard, self._heard = self._heard, set()
            pending.difference_update(index for index in heard if answered(self.fleet.hosts[index]))
            if pending and time.monotonic() >= tell_at:
                tell_at = float("inf")
                late = [self.fleet.hosts[index] for index in sorted(pending)]
                self.console.say(f"npu-launch: waiting for {named(late)}: {what}")
            return not pending

        self.wait(done, seconds)
        return [self.fleet.hosts[index] for index in sorted(pending)]

    def wake(self, host: HostState) -> None:
        """Let `expect` look at a host again of which something else than a frame has told."""
        self._heard.add(host.index)

    def turn(self, until: float) -> None:
        """Wait for something to do, up to a time; do it."""
        now = time.monotonic()
        due = min(self.on_turn(now), self._beaten(now), self.transport.turn(), self.console.turn())
        timeout = max(0.0, min(due, until - now))
        wanted = self.console.descriptor
        readable = [self.signals.descriptor, *self.transport.descriptors]
        ready, _, _ = _select(readable, [] if wanted is None else [wanted], timeout)
        self._notice_pause(now, timeout)
        began = time.monotonic()
        for number in self.signals.take() if self.signals.descriptor in ready else ():
            self.on_signal(number)
        self._receive()
        self._notice_pause(began, 0.0)  # a slow disk: what came meanwhile has not been read

    def _beaten(self, now: float) -> float:
        """Send a sign of life where it is due; return the seconds until the next."""
        if now >= self._next_beat:
            self._next_beat = now + self._beat
            self.send("beat", {})
        return self._next_beat - now

    def _notice_pause(self, since: float, timeout: float) -> None:
        """Take time in which this process was stopped, or busy, for no silence of the hosts."""
        late = time.monotonic() - since - timeout
        if late >= LATE:
            self.paused += late
            for host in self.fleet:
                host.heard += late

    def _receive(self) -> bool:
        frames = self.transport.receive()
        now = time.monotonic()
        names = self.transport.exited()
        for known in self.fleet if names else ():
            if known.name in names and not known.exited:
                known.exited = now
                self.wake(known)
        for frame in frames:
            host = self.fleet.host_of(frame)
            if host is not None and not host.lost:
                host.heard = now
                self._heard.add(host.index)
                if not self.fleet.take(host, frame):
                    self.on_frame(host, frame)
        return bool(frames)


def _select(reading: list[int], writing: list[int], timeout: float) -> tuple[list[int], list[int], list[int]]:
    """Wait as select.select does, also for descriptors above 1,023."""
    poll = select.poll()
    for descriptor in reading:
        poll.register(descriptor, select.POLLIN)
    for descriptor in writing:
        poll.register(descriptor, select.POLLOUT)
    found = [descriptor for descriptor, _ in poll.poll(int(timeout * 1000) + (timeout > 0))]
    return [fd for fd in found if fd in reading], [fd for fd in found if fd in writing], []
