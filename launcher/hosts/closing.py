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
TOOK = 0.1  # seconds between two words on bytes of files that have come


def bring_files(session: Session, run: RunDir, patterns: Sequence[str], ended_well: bool) -> Arrived:
    """Bring what the ranks have made on hosts that do not share the disk of the run folder.

    A signal (KeyboardInterrupt) ends it; what has not come by then is named.
    """
    sources = {host.index: Source(host.name, host.ranks, bool(host.sees_disk)) for host in session.fleet}
    receiver = Receiver(run, sources)
    took_at = 0.0

    def take(host: HostState, frame: Frame) -> None:
        if frame.kind in ("offer", "file", "files_done"):
            receiver.take(frame)

    def turn(now: float) -> float:
        nonlocal took_at
        if now >= took_at:
            took_at = now + TOOK
            totals = receiver.totals()
            if totals:
                session.send("took", totals)
        return TOOK

    def over() -> bool:
        for index in [index for index in receiver.waiting if not session.fleet.hosts[index].is_there]:
            receiver.give_up(index, "its host is lost")
        return not receiver.waiting

    session.on_frame, session.on_turn, session.on_signal = take, turn, lambda number: None
    try:
        for host in session.fleet.there():
            session.send("fetch", receiver.fetch(host.index, patterns, ended_well), host.index)
        lease = session.lease

        def heard() -> bool:
            limit = time.monotonic() - lease
            for index in [index for index in receiver.waiting if session.fleet.hosts[index].heard < limit]:
                receiver.give_up(index, f"no sign of its host for {lease:g} s")
            return over()

        session.wait(heard, float("inf"))
    except KeyboardInterrupt:  # what has come is placed
        receiver.give_up_all("ended by a signal")
    receiver.give_up_all("its host has gone")
    return receiver.arrived()


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
