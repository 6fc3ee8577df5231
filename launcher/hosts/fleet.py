"""What the head knows of each host of an attempt, and the frames from which it knows it."""

from __future__ import annotations

import time
from dataclasses import dataclass, field, replace
from typing import Any, Iterator, Sequence

from launcher.diagnosis.failure import RankEnd
from launcher.errors import ReadError
from launcher.hosts import clocks
from launcher.hosts.clocks import Offset
from launcher.hosts.frames import Frame
from launcher.plan.host_facts import HostFacts
from launcher.plan.model import Plan
from launcher.text import some
from launcher.typed_json import Value


@dataclass
class HostState:
    """One host. Times are those of the head's monotonic clock; `heard`: of its last frame.

    readied: what its agent answered to the order. ends: how its ranks ended, once all have. bytes: of logs
    that have come; behind: bytes that its agent still has.
    """

    index: int
    name: str
    heard: float = 0.0
    facts: HostFacts | None = None
    release: str = ""
    offset: Offset = field(default_factory=Offset)
    sees_disk: bool | None = None
    plan: Plan | None = None
    findings: list[tuple[str, str, str]] = field(default_factory=list)
    report: dict[str, Any] = field(default_factory=dict)
    notes: tuple[str, ...] = ()
    ranks: tuple[int, ...] = ()
    refused: tuple[int, tuple[str, ...]] | None = None
    ends: tuple[RankEnd, ...] | None = None
    teardown_ns: int | None = None
    sent: bool = False
    gone: bool = False  # it has said `bye`: nothing more comes
    code: int = 0  # of its `bye`
    exited: float = 0.0  # when the engine said that its agent has ended; frames of it may still be on the way
    lost: str = ""  # why it counts as lost
    bytes: int = 0
    behind: int = 0

    @property
    def is_there(self) -> bool:
        """Whether frames may come from it."""
        return not self.gone and not self.lost


class Fleet:
    """The hosts of an attempt, by their index."""

    def __init__(self, names: Sequence[str]) -> None:
        now = time.monotonic()
        self.hosts = [HostState(index, name, now) for index, name in enumerate(names)]
        self._pinged: dict[int, tuple[int, int]] = {}
        self._ponged: dict[int, int] = {}  # number of the last ping that each has answered

    def __iter__(self) -> Iterator[HostState]:
        return iter(self.hosts)

    def __len__(self) -> int:
        return len(self.hosts)

    def there(self) -> list[HostState]:
        """List the hosts from which frames may come."""
        return [host for host in self.hosts if host.is_there]

    def pinged(self, number: int) -> Frame:
        """Return a ping, and note when it was sent."""
        self._pinged[number] = (time.monotonic_ns(), time.time_ns())
        return Frame(-1, "ping", {"n": number})

    def has_ponged(self, number: int, host: HostState) -> bool:
        """Tell whether a host has answered a ping."""
        return self._ponged.get(host.index, -1) >= number

    def host_of(self, frame: Frame) -> HostState | None:
        """Return the sender of a frame; None for one that is no host of the attempt."""
        if 0 <= frame.host < len(self.hosts):
            return self.hosts[frame.host]
        return None

    def take(self, host: HostState, frame: Frame) -> bool:
        """Take what a host tells before its ranks start; tell whether it was that."""
        taker = getattr(self, f"_{frame.kind}", None) if frame.kind in _KINDS else None
        if taker is None:
            return False
        try:
            taker(host, Value(frame.body, frame.kind))
        except (ReadError, TypeError, ValueError) as error:
            text = str(error).partition("\n")[0]
            host.refused = (125, (f"its agent's {frame.kind} cannot be read: {text:.300}",))
        return True

    def _hello(self, host: HostState, body: Value) -> None:
        host.release = body.get("version").text()
        facts = HostFacts.from_json(body.get("facts").value)
        if host.name in ("", f"host {host.index}") and all(facts.name != other.name for other in self.hosts):
            host.name = facts.name  # an engine that does not name its hosts
        host.facts = replace(facts, index=host.index, name=host.name)

    def _pong(self, host: HostState, body: Value) -> None:
        number = body.get("n").whole()
        if number in self._pinged:
            came = (time.monotonic_ns(), time.time_ns())
            pong = (body.get("mono").whole(), body.get("wall").whole())
            host.offset = clocks.better(host.offset, clocks.measured(self._pinged[number], came, pong))
            self._ponged[host.index] = number

    @staticmethod
    def _probed(host: HostState, body: Value) -> None:
        host.sees_disk = body.get("seen").flag()

    @staticmethod
    def _ready(host: HostState, body: Value) -> None:
        plan = body.get("plan").value
        host.plan = Plan.from_json(plan) if isinstance(plan, str) else None
        host.findings = [_finding(item) for item in body.get("findings", []).items()]
        host.notes = body.get("notes", []).texts()
        report = body.get("report", {}).value
        host.report = report if isinstance(report, dict) else {}

    @staticmethod
    def _refused(host: HostState, body: Value) -> None:
        host.refused = (body.get("code").whole(), body.get("lines").texts() or ("it gives no reason",))

    @staticmethod
    def _bye(host: HostState, body: Value) -> None:
        host.gone, host.code = True, body.get("code", 0).whole()


_KINDS = frozenset(("hello", "pong", "probed", "ready", "refused", "bye"))


def _finding(item: Value) -> tuple[str, str, str]:
    level, name, text = item.texts()
    return level, name, text


def named(hosts: Sequence[HostState]) -> str:
    """Name hosts in a message: `host node3`, `hosts node1, node3 and 14 more`."""
    return ("host " if len(hosts) == 1 else "hosts ") + some([host.name for host in hosts])
