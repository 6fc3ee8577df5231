"""The agent's conversation with the head: what it hears, and what the attempt tells through it."""

from __future__ import annotations

import os
import select
import time
from selectors import EVENT_READ, EVENT_WRITE
from typing import TYPE_CHECKING, Any, Mapping, Sequence

from launcher.errors import ReadError
from launcher.hosts.channel import AgentChannel
from launcher.process.signals import ENDING, FORWARDED, Signals
from launcher.supervision.link import Link, Wish
from launcher.typed_json import Value

if TYPE_CHECKING:  # not needed before the order
    from launcher.diagnosis.failure import RankEnd
    from launcher.hosts.log_stream import LogStream
    from launcher.hosts.offer import Offer
    from launcher.plan.order import Order
    from launcher.supervision.rank import RankProcess

ORPHANED = 143  # as ended by SIGTERM: nobody is there to be told anything else
BEAT = 1.0  # seconds between two signs of life
POLL = 0.2  # seconds between looks at what tells nobody when it changes
GATHER = 0.02  # seconds in which lines of a rank gather, to go together
AHEAD = 256 << 10  # bytes of logs that wait in the channel
FIRST_LEASE = 600.0  # seconds in which the head gives its order: it may wait for other hosts


class Ended(Exception):
    """Nothing more is to be done; the exit code."""

    def __init__(self, code: int) -> None:
        super().__init__(code)
        self.code = code


class Agent(Link):
    """The agent's side of the conversation, and what the attempt needs of it."""

    def __init__(self, channel: AgentChannel, name: str, environ: Mapping[str, str]) -> None:
        self.channel, self.name, self.environ = channel, name, environ
        self.index = channel.index
        self.logs: LogStream | None = None
        self.offer: Offer | None = None
        self._parent = os.getppid()
        self._lease, self._heard = FIRST_LEASE, time.monotonic()
        self._inbox: dict[str, Any] = {}
        self._wishes: list[Wish] = []
        self._next_beat = self._next_logs = 0.0
        self._counted: dict[int, list[object]] = {}  # rank -> its counters as last told
        self.over = False  # the attempt is: `stop` has nothing more to end
        self.orphaned = ""  # why there is no head any more

    # What the head says.

    def serve(self) -> None:
        """Receive what has come, and notice when nobody is there any more."""
        for frame in self.channel.receive():
            self._heard = time.monotonic()
            try:
                self._take(frame.kind, Value(frame.body, frame.kind))
            except ReadError as error:
                self.channel.send("say", {"text": f"host {self.name}: {error}; ignored"})
        if not self.orphaned:
            self.orphaned = self._loss()
            if self.orphaned:
                self._wishes.append(Wish("stop", self.orphaned))

    def _loss(self) -> str:
        silence = time.monotonic() - self._heard
        if self.channel.closed:
            return "the head is gone"
        if os.getppid() != self._parent:
            return "the engine's process that started this agent is gone"
        return f"the head is silent for {silence:.0f} s" if silence > self._lease else ""

    def _take(self, kind: str, body: Value) -> None:
        if kind == "ping":
            times = {"mono": time.monotonic_ns(), "wall": time.time_ns()}
            self.channel.send("pong", {"n": body.get("n").whole(), **times})
        elif kind == "ack" and self.logs is not None:
            self.logs.acked(body.get(str(self.index), 0).whole())
        elif kind == "took" and self.offer is not None:
            self.offer.took(body.get(str(self.index), 0).whole())
        elif kind == "stop":
            wish = "kill" if body.get("now", False).flag() else "stop"
            self._wishes.append(Wish(wish, body.get("why").text()))
        elif kind == "signal" and body.get("number").whole() in FORWARDED:
            self._wishes.append(Wish("signal", str(body.get("number").whole())))
        elif kind in ("stacks", "alone"):
            self._wishes.append(Wish(kind))
        elif kind in ("probe", "order", "start", "fetch", "done"):
            self._inbox[kind] = body.value

    def has(self, kind: str) -> bool:
        """Tell whether a message of this kind has come and waits."""
        return kind in self._inbox

    def wait_for(self, signals: Signals, *kinds: str) -> tuple[str, Any]:
        """Wait for a message of one of these kinds. Ended: there is no head any more, or it says stop."""
        while True:
            self.serve()
            for kind in kinds:
                if kind in self._inbox:
                    return kind, self._inbox.pop(kind)
            ending = [number for number in signals.take() if number in ENDING]
            if ending:
                raise Ended(128 + ending[0])
            if self.orphaned or (not self.over and any(w.kind in ("stop", "kill") for w in self._wishes)):
                raise Ended(ORPHANED)
            self.pause(min(self.channel.turn(), POLL), signals.descriptor)

    def pause(self, seconds: float, *readable: int) -> None:
        """Wait until the channel goes on, or one of the descriptors is readable."""
        waits = self.waits
        reading = [descriptor for descriptor, event in waits.items() if event == EVENT_READ]
        writing = [descriptor for descriptor, event in waits.items() if event == EVENT_WRITE]
        select.select([*reading, *readable], writing, [], max(0.0, seconds))

    # What the attempt asks of its link.

    @property
    def waits(self) -> Mapping[int, int]:
        channel = self.channel
        ends = ((channel.fileno(), EVENT_READ), (channel.full, EVENT_WRITE))
        return {descriptor: event for descriptor, event in ends if descriptor is not None}

    def take(self) -> Sequence[Wish]:
        self.serve()
        wishes, self._wishes = self._wishes, []
        return wishes

    def turn(self, ranks: Sequence[RankProcess], now: float, sampled: float) -> float:
        moment = time.monotonic()
        if moment >= self._next_beat:
            self._next_beat = moment + BEAT
            rows = [[*_row(rank, now), *self._counters(rank)] for rank in ranks if rank.child is not None]
            self.channel.send("beats", {"behind": self._behind, "sampled_age": now - sampled, "ranks": rows})
        return min(self.send_logs(), self._next_beat - moment)

    def _counters(self, rank: RankProcess) -> list[object]:
        """Return what a rank counts, its time by this host's clock; nothing where it is as told before."""
        counted: list[object] = [rank.heartbeat.total_steps, rank.heartbeat.counters]
        if counted == self._counted.get(rank.rank, [0, None]):
            return []
        self._counted[rank.rank] = counted
        return counted

    @property
    def _behind(self) -> int:
        return self.logs.behind if self.logs else 0

    def send_logs(self) -> float:
        """Send what the window and the channel take; return the seconds until the next turn."""
        left = self._next_logs - time.monotonic()
        if self.logs is None or self.orphaned:
            return min(self.channel.turn(), POLL)
        if left > 0:
            return min(self.channel.turn(), left)
        for body in self.logs.bodies(AHEAD - self.channel.pending):
            self.channel.send("log", body)
        due = min(self.channel.turn(), POLL)
        if self.logs.is_read:
            self._next_logs = time.monotonic() + GATHER
        return due if self.logs.is_read or self.logs.blocked or self.channel.pending else 0.0

    def drain(self, signals: Signals) -> None:
        """Send the rest of the logs; a signal that ends leaves it to this host's own files."""
        while self.logs is not None and not self.orphaned:
            self.serve()
            self._next_logs = 0.0
            due = self.turn((), 0.0, 0.0)
            if self.logs.is_read and not self.channel.pending:
                break
            if any(map(ENDING.__contains__, signals.take())):
                text = f"warning: {self.logs.behind} bytes of its ranks' logs stay in its own files"
                self.channel.send("say", {"text": text})
                break
            self.pause(due, signals.descriptor)

    def failed(self, end: RankEnd, victim: bool) -> None:
        self.channel.send("failed", {"end": end.to_json(), "victim": victim})
        self.channel.turn()

    def stacks(self, texts: Mapping[int, str]) -> None:
        self.channel.send("stacks", {"texts": {str(rank): text for rank, text in texts.items()}})

    # Its own course.

    def follow(self, order: Order) -> None:
        """Go by an order: its lease counts from now on."""
        self._lease, self._heard = order.lease, time.monotonic()
        self.channel.line = order.line

    def flush(self, patience: float) -> None:
        """Write what waits, for some seconds at most."""
        end = time.monotonic() + patience
        self.channel.turn()
        while self.channel.pending and time.monotonic() < end:
            self.pause(POLL / 10)
            self.channel.turn()


def _row(rank: RankProcess, now: float) -> list[object]:
    """Describe a rank for the head (ranks.py reads it): ages are seconds, as clocks differ."""
    beat = rank.heartbeat
    ages = [round(now - then, 3) for then in (beat.seen, rank.active, rank.lively, rank.started)]
    state = [rank.rank, rank.alive, beat.step, beat.train_step, beat.phase, beat.has_stepped]
    return [*state, *ages, rank.code]
