"""Agents that follow a script, within the test's own process: what a head sends is answered at once."""

from __future__ import annotations

import json
import time
from collections import deque
from pathlib import Path
from typing import Any, Callable, Sequence

from launcher.diagnosis.failure import ErrorRecord, RankEnd
from launcher.hosts.frames import ALL, Frame
from launcher.hosts.transport import EngineEnd, HeadTransport
from launcher.plan.model import HostSpec, Plan, Policy, RankSpec

PER_HOST = 2  # ranks
SECOND = 10**9

Answer = Callable[["FakeAgents", int, Any], None]


class FakeAgents(HeadTransport):
    """N agents. answers: by kind, for each host that a frame is for. ahead: ns of each host's clocks."""

    def __init__(self, hosts: int, answers: dict[str, Answer], ahead: Sequence[int] = ()) -> None:
        self.hosts, self._answers = hosts, answers
        self.ahead = list(ahead) or [0] * hosts
        self.sent: list[Frame] = []
        self.coming: deque[Frame] = deque()
        self.code: int | None = None  # of the engine, once it has ended
        self.asked: list[str] = []  # stop and kill
        self.left: list[str] = []  # hosts whose agents have ended, as the engine says
        self.said = ""

    descriptors: Sequence[int] = ()

    def up(self, host: int, kind: str, body: Any = None) -> None:
        """Let a host send a frame."""
        sent = body if isinstance(body, tuple) else json.loads(json.dumps(body))
        self.coming.append(Frame(host, kind, sent))

    def send(self, frame: Frame) -> None:
        self.sent.append(frame)
        for host in range(self.hosts) if frame.host == ALL else [frame.host]:
            self._answers.get(frame.kind, _nothing)(self, host, frame.body)

    @property
    def words(self) -> str:
        return self.said

    def exited(self) -> Sequence[str]:
        return self.left

    def turn(self) -> float:
        return 0.005

    def receive(self) -> list[Frame]:
        found = list(self.coming)
        self.coming.clear()
        return found

    def ended(self) -> bool:
        return self.code is not None

    def stop(self) -> None:
        self.asked.append("stop")

    def kill(self) -> None:
        self.asked.append("kill")
        self.code = -9

    def end(self) -> EngineEnd:
        return EngineEnd(self.code or 0, "the engine has crashed" if self.code else "")

    def kinds(self) -> list[str]:
        """List the kinds that the head has sent, without its signs of life."""
        return [frame.kind for frame in self.sent if frame.kind != "beat"]

    def now(self, host: int) -> int:
        """Return a host's monotonic clock."""
        return time.monotonic_ns() + self.ahead[host]

    def ends(self, host: int, *ends: RankEnd, teardown: bool = False) -> None:
        """Let a host tell of the end of its ranks, and that all logs are sent."""
        told = {end.rank: end for end in ends}
        every = [told.get(rank) or ended(rank, 0, self.now(host)) for rank in ranks_of(host)]
        when = self.now(host) - SECOND if teardown else None
        body = {"ends": [end.to_json() for end in every], "teardown_ns": when, "interrupted": 0}
        self.up(host, "end", {**body, "seconds": 1.0})
        self.up(host, "sent", {})


def _nothing(agents: FakeAgents, host: int, body: Any) -> None:
    pass


def ranks_of(host: int) -> range:
    return range(host * PER_HOST, (host + 1) * PER_HOST)


def ended(rank: int, code: int | None, when: int, error: ErrorRecord | None = None) -> RankEnd:
    """Return the end of a rank, at a time of its host's clock."""
    return RankEnd(rank, rank % PER_HOST, 1000 + rank, code, 1.0, when, error=error)


def plan_of(folder: Path, hosts: int, **policy: Any) -> Plan:
    """Return a plan of so many hosts, named node1, node2, ..."""
    names = [f"node{index + 1}" for index in range(hosts)]
    ranks = tuple(
        RankSpec(rank, name, rank % PER_HOST, rank % PER_HOST, rank % PER_HOST, ("true",), {}, str(folder))
        for index, name in enumerate(names)
        for rank in ranks_of(index)
    )
    specs = tuple(HostSpec(index, name, name, "10.0.0.1") for index, name in enumerate(names))
    return Plan("job", folder.name, str(folder), "", "cpu", "{}", ranks, Policy(**policy), (), specs)
