"""From the start of the agents until all hosts are ready: who is there, and what they lack."""

from __future__ import annotations

import time
from functools import partial
from typing import Iterable, Mapping, Sequence

from launcher import __version__
from launcher.checks.hosts import grouped
from launcher.errors import LauncherError, PreflightError
from launcher.hosts import clocks
from launcher.hosts.fleet import Fleet, HostState, named
from launcher.hosts.probe import Probe
from launcher.hosts.session import Session

PINGING = 0.2  # seconds for the clocks, after the first answers
WORDS = 4  # last lines of the engine that are shown where hosts are missing
_ANSWER = 10.0  # seconds for what an agent answers at once


class RefusedError(LauncherError):
    """Hosts have refused the job; the exit code is theirs."""

    def __init__(self, code: int, *lines: str) -> None:
        super().__init__(*lines)
        self.exit_code = code


def meet(session: Session, timeout: float) -> None:
    """Wait until every agent has come. PreflightError: hosts that have not, or of another release."""
    late = session.expect(
        lambda host: host.facts is not None or _has_left(host), timeout, "no agent has come"
    )
    raise_refusals(session.fleet)
    late += [host for host in session.fleet if host.facts is None and host not in late]
    if late:
        raise PreflightError(*_missing(session, late, "no agent has come", timeout))
    others = [host for host in session.fleet if host.release != __version__]
    if others:
        what = f"npu-launch {others[0].release} (expected {__version__}, as here); install one on every host"
        raise PreflightError(f"{named(others)}: {what}")


def _has_left(host: HostState) -> bool:
    return bool(host.refused) or host.gone or bool(host.exited)


def _missing(session: Session, late: Sequence[HostState], what: str, timeout: float) -> list[str]:
    """Say which hosts are not there, and why as far as it is known; then the engine's words."""
    if session.transport.ended():
        end = session.transport.end()
        why = end.text or f"the engine ended with exit code {end.code}"
        return [f"{named(late)}: {what}: {why}", *([] if end.text else _words(session))]
    gone = [host for host in late if host.gone or host.exited]
    silent = [host for host in late if host not in gone]
    lines = [f"{named(silent)}: {what} within {timeout:g} s (host_timeout)"] if silent else []
    lines += [f"{named(gone)}: the agent has ended"] if gone else []
    return [*lines, *_words(session)]


def _words(session: Session) -> list[str]:
    """Return the last words of the engine, and of agents that could not begin."""
    words = [line for line in session.transport.words.splitlines() if line.strip()]
    return [f"the engine says: {line:.300}" for line in words[-WORDS:]]


def raise_refusals(hosts: Iterable[HostState]) -> None:
    """Raise what hosts have refused, all in one report; equal lines of several hosts are one."""
    refused = {host.name: host.refused or (0, ()) for host in hosts}
    entries = {name: [("error", "", line) for line in lines] for name, (_, lines) in refused.items()}
    if any(entries.values()):
        code = max(code for code, _ in refused.values()) or LauncherError.exit_code
        raise RefusedError(code, *(finding.what for finding in grouped(entries)))


def measure_clocks(session: Session) -> None:
    """Measure what each host's clocks are ahead; agents must only wait. PreflightError: no answer."""
    end = 0.0
    for number in range(clocks.ROUNDS):
        session.transport.send(session.fleet.pinged(number))
        seconds = end - time.monotonic() if number else _ANSWER
        late = session.expect(partial(_has_ponged, session.fleet, number), seconds)
        raise_refusals(session.fleet)
        if late and not number:
            raise PreflightError(f"{named(late)}: no answer within {seconds:g} s")
        end = end or time.monotonic() + PINGING
        if time.monotonic() >= end:
            return


def _has_ponged(fleet: Fleet, number: int, host: HostState) -> bool:
    return fleet.has_ponged(number, host) or _has_left(host)


def ask_for_disk(session: Session, probe: Probe) -> dict[str, bool]:
    """Ask which hosts see the disk of the runs; by their names."""
    session.send("probe", probe.body())
    late = session.expect(lambda host: host.sees_disk is not None, _ANSWER)
    raise_refusals(session.fleet)
    if late:
        raise PreflightError(f"{named(late)}: no answer within {_ANSWER:g} s")
    return {host.name: bool(host.sees_disk) for host in session.fleet}


def get_ready(session: Session, order: Mapping[str, object], timeout: float) -> None:
    """Hand out the order, and wait until every host is ready. LauncherError: hosts that are not."""
    session.send("order", order)
    late = session.expect(lambda host: host.plan is not None or _has_left(host), timeout, "it is not ready")
    raise_refusals(session.fleet)
    late += [host for host in session.fleet if host.plan is None and host not in late]
    if late:
        raise PreflightError(*_missing(session, late, "not ready", timeout))
