"""The end of an attempt's agents: what their hosts still have comes here, then they may go."""

from __future__ import annotations

import time
from typing import Sequence

from launcher.hosts.files import Receiver, Source
from launcher.hosts.fleet import HostState
from launcher.hosts.frames import Frame
from launcher.hosts.session import Session
from launcher.run_dir import RunDir
from launcher.runs.gather import Arrived

PATIENCE = 5.0  # seconds in which agents go that may
SHORT = 1.0  # ... and the engine, once they have, or some are lost
TELL = 10.0  # seconds between two words to the user about files that come
LEASES = 3  # times the lease: no rank runs any more, and one host's files may hold up the words of others
TOOK = 0.1  # seconds between two words on bytes of files that have come


def bring_files(session: Session, run: RunDir, patterns: Sequence[str], ended_well: bool) -> Arrived:
    """Bring what the ranks have made on hosts that do not share the disk of the run folder.

    A signal (KeyboardInterrupt) ends it; what has not come by then is named.
    """
    sources = {host.index: Source(host.name, host.ranks, bool(host.sees_disk)) for host in session.fleet}
    receiver = Receiver(run, sources)
    bringing = _Bringing(session, receiver)
    session.on_frame, session.on_turn = bringing.take, bringing.turn
    session.on_signal = lambda number: None
    try:
        for host in session.fleet.there():
            session.send("fetch", receiver.fetch(host.index, patterns, ended_well), host.index)
        session.wait(bringing.over, float("inf"))
    except KeyboardInterrupt:  # what has come is placed
        receiver.give_up_all("ended by a signal")
    receiver.give_up_all("its host has gone")
    return receiver.arrived()


class _Bringing:
    """What the head does while files come."""

    def __init__(self, session: Session, receiver: Receiver) -> None:
        self._session, self._receiver = session, receiver
        self._took_at, self._tell_at = 0.0, time.monotonic() + TELL

    def take(self, host: HostState, frame: Frame) -> None:
        """Take a frame of a host."""
        if frame.kind in ("offer", "file", "files_done"):
            self._receiver.take(frame)

    def turn(self, now: float) -> float:
        """Tell hosts what has come, and now and then the user."""
        if now >= self._took_at:
            self._took_at = now + TOOK
            totals = self._receiver.totals()
            if totals:
                self._session.send("took", totals)
        if now >= self._tell_at:
            self._tell_at = now + TELL
            self._session.console.say(f"npu-launch: {self._receiver.progress()}")
        return TOOK

    def over(self) -> bool:
        """Tell whether nothing more comes; wait no longer for hosts that are lost or silent."""
        lease = self._session.lease * LEASES
        for index in sorted(self._receiver.waiting):
            host = self._session.fleet.hosts[index]
            if not host.is_there:
                self._receiver.give_up(index, "its host is lost")
            elif host.heard < time.monotonic() - lease:
                self._receiver.give_up(index, f"no sign of its host for {lease:g} s")
        return not self._receiver.waiting


def release(session: Session) -> None:
    """Let the agents end; nothing waits for it."""
    if not session.released:
        session.released = True
        session.send("done", {})
        session.transport.turn()


def dismiss(session: Session) -> None:
    """Let the agents end, and wait until the engine has; once only."""
    if session.dismissed:
        return
    release(session)
    session.dismissed = True
    session.on_frame, session.on_signal = lambda host, frame: None, lambda number: None
    session.on_turn = lambda now: PATIENCE
    transport = session.transport
    lost = any(host.lost or host.facts is None for host in session.fleet)
    over = lambda: transport.ended() or (lost and not session.fleet.there())  # noqa: E731
    session.wait(over, SHORT if lost else PATIENCE)
    for step in (transport.stop, transport.kill):
        if not transport.ended():
            step()
            session.wait(transport.ended, SHORT)
    transport.end()
