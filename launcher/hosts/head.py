"""The head of one attempt on several hosts: from the start of the ranks to the verdict over all of them."""

from __future__ import annotations

import signal
import time
from typing import Any, Callable, Mapping

from launcher.diagnosis.exit_codes import AGAIN
from launcher.diagnosis.failure import RankEnd, RankStatus
from launcher.errors import ReadError
from launcher.hosts import ends, requests
from launcher.hosts.fleet import HostState
from launcher.hosts.frames import Frame
from launcher.hosts.merged_logs import MergedLogs, header
from launcher.hosts.ranks import Ranks
from launcher.hosts.session import Session
from launcher.process.signals import ENDING, FORWARDED, name
from launcher.supervision.attempt import SETTLE
from launcher.supervision.context import RunContext
from launcher.supervision.events import Event
from launcher.supervision.progress import Incident
from launcher.supervision.result import Result
from launcher.text import SCHEDULER, named, some

CHECK = 0.3  # seconds between two looks at the hosts' signs of life and the ranks' progress
ACK = 0.05  # seconds between two answers to log bytes, at most
MARGIN = 10.0  # seconds after the grace period in which the agents tell of the end
LATE = 1.0  # seconds in which the frames of an agent come that the engine says has ended
STACKS = 4.0  # seconds for the stacks of all ranks
TELL, BEHIND = 5.0, 16 << 20  # seconds between two words about logs still to come; bytes worth a word
NEVER = float("inf")
# An agent's own record of these is about itself; the head writes those of the run.
_OF_AGENT = frozenset(event.value for event in (Event.RUN, Event.RESTART, Event.END))


class Head:
    """An attempt. `number`: 0 for the first. `lost`: the hosts from which nothing comes any more."""

    def __init__(self, session: Session, context: RunContext, lease: float, number: int) -> None:
        self._session, self._fleet, self._context = session, session.fleet, context
        self._events, self._policy, self._lease = context.events, context.plan.policy, lease
        self._ranks = Ranks(context, self._fleet)
        self._logs = MergedLogs(context.folder, context.console, self._policy.max_log_bytes, self._gap)
        self._requests = requests.Requests(context.folder)
        self._number, self._began = number, time.monotonic()
        self._ending = False
        self._settle_at = self._ack_at = self._kill_at = NEVER
        self._check_at = 0.0
        self._tell_at = time.monotonic() + TELL
        self._interrupted = self._interrupted_ns = self._interrupts = 0
        self._gave_up = self._told_alone = False
        self._stacks: dict[int, str] = {}
        self._answered: set[int] = set()
        self._asked_until = NEVER
        self._hung: Incident | None = None
        self._unacked: set[int] = set()

    @property
    def lost(self) -> list[HostState]:
        return [host for host in self._fleet if host.lost]

    def run(self) -> Result:
        """Start the ranks of all hosts; return when all have ended and their logs are here."""
        session = self._session
        session.on_frame, session.on_signal, session.on_turn = self._take, self._signal, self._turn
        now = time.monotonic()
        for host in self._fleet:
            host.heard = now
        session.send("start", {"attempt": self._number})
        session.expect(lambda host: host.ends is not None or not host.is_there, NEVER)
        self._look_for_lost(time.monotonic())
        self._catch_up()
        self._context.look(time.monotonic(), last=True)
        self._await_signal()
        for problem in self._logs.close(time.time()):
            self._events.announce(problem)
        self._context.console.finish()
        return self._result()

    # Frames.

    def _take(self, host: HostState, frame: Frame) -> None:
        taker = _TAKERS.get(frame.kind)
        if taker is None:
            return
        try:
            taker(self, host, frame.body)
        except (ReadError, TypeError, ValueError, KeyError, AttributeError) as error:
            self._events.debug(f"host {host.name}: its {frame.kind} cannot be read: {error!r:.300}")

    def _log(self, host: HostState, body: tuple[Any, bytes]) -> None:
        head, data = header(body[0]), body[1]
        host.bytes += len(data)
        self._unacked.add(host.index)
        self._ack_at = min(self._ack_at, time.monotonic() + ACK)
        if self._ranks.is_of(head.rank, host):
            self._logs.write(head, data, host.offset.wall)

    def _event(self, host: HostState, body: Mapping[str, Any]) -> None:
        if body["event"] not in _OF_AGENT:
            self._events.forward(host.name, body, host.offset.wall / 1e9)
        if body["event"] == Event.STARTED.value:
            self._ranks.started(body["rank"], body["data"]["pid"])

    def _say(self, host: HostState, body: Mapping[str, Any]) -> None:
        """Print what an agent says; the teardown, of which the head tells itself, is but logged."""
        words = str(body["text"])
        text = f"host {host.name}: {words}"
        if self._ending and not words.startswith(("warning", "cannot")):
            self._events.debug(text)
        else:
            self._events.announce(text)

    def _beats(self, host: HostState, body: Mapping[str, Any]) -> None:
        host.behind = int(body.get("behind", 0))
        now = time.monotonic() - self._session.paused
        self._ranks.beat(host, body.get("ranks", ()), float(body.get("sampled_age", 0.0)), now)

    def _failed(self, host: HostState, body: Mapping[str, Any]) -> None:
        end = ends.read_end(host, body["end"])
        self._ranks.failed(end)
        if self._ending:
            return
        if not body.get("victim"):
            self._end_all(f"{named(end.rank)} failed")
        elif self._settle_at == NEVER:
            self._settle_at = time.monotonic() + self._patience(end)
            self._ask_for_stacks()  # while the others still wait as this one did

    def _end(self, host: HostState, body: Mapping[str, Any]) -> None:
        if body.get("orphaned") and not self._ending:
            self._lose(host, str(body["orphaned"]))  # its agent has ended the ranks, though nobody said so
            return
        if host.ends is not None:
            return
        host.ends = tuple(ends.read_end(host, end) for end in body["ends"])
        teardown = body.get("teardown_ns")
        host.teardown_ns = None if teardown is None else int(teardown) - host.offset.monotonic
        self._ranks.ended(host.ends)
        if int(body.get("interrupted") or 0) and not self._interrupted and not self._ending:
            self._interrupt(int(body["interrupted"]), f"{name(int(body['interrupted']))} on host {host.name}")
        bad = next((end for end in host.ends if _is_bad(end, host)), None)
        if bad is not None and not self._ending and self._settle_at == NEVER:
            self._settle_at = time.monotonic() + self._patience(bad)

    def _patience(self, end: RankEnd) -> float:
        """Return how long others may go on; when a rank left as its time is over, they may still save."""
        return self._policy.grace if end.code == AGAIN else min(SETTLE, self._policy.grace)

    def _sent(self, host: HostState, body: object) -> None:
        host.sent = True

    def _stack_texts(self, host: HostState, body: Mapping[str, Any]) -> None:
        self._answered.add(host.index)
        self._stacks.update((int(rank), str(text)) for rank, text in body["texts"].items())

    def _gap(self, rank: int, size: int) -> None:
        self._events.announce(
            f"warning: {named(rank)}: {size} bytes of its output have not come from its host"
        )

    # What time brings.

    def _turn(self, now: float) -> float:
        if now >= self._ack_at:
            self._acknowledge()
        if now >= self._settle_at:
            self._ranks.snapshot = ends.snapshot_of(self._stacks, self._ranks.living())
            self._end_all("a rank waited in vain for others")
        if now >= self._check_at:
            self._check_at = now + CHECK
            self._check(now)
        due = min(self._ack_at, self._settle_at, self._check_at)
        return max(0.0, due - time.monotonic())

    def _acknowledge(self) -> None:
        self._ack_at = NEVER
        totals = {str(index): self._fleet.hosts[index].bytes for index in sorted(self._unacked)}
        self._unacked.clear()
        self._session.send("ack", totals)

    def _check(self, now: float) -> None:
        self._look_for_lost(now)
        self._serve_requests(now)
        self._tell_behind(now)
        self._ranks.write(now)
        self._context.look(now)
        if now >= self._kill_at:
            self._kill_at = NEVER
            self._give_up()
        if self._ending or self._settle_at != NEVER:
            return
        if not self._told_alone and self._ranks.is_alone():
            self._told_alone = True
            self._session.send("alone", {})
        if self._hung is not None:
            if now >= self._asked_until or self._answered >= {host.index for host in self._fleet.there()}:
                self._judge_hang(self._hung)
            return
        incident = self._ranks.check(now - self._session.paused)
        if incident is not None:
            self._suspect(incident)

    def _look_for_lost(self, now: float) -> None:
        ended = self._session.transport.ended()
        for host in self._fleet:
            over = host.ends is not None and host.sent
            if over or host.lost:
                continue
            if host.gone:
                self._lose(host, f"its agent ended with exit code {host.code}")
            elif ended:
                self._lose(host, self._engine_end())
            elif host.exited and now - max(host.exited, host.heard) > LATE:
                self._lose(host, "the engine says that its agent has ended")
            elif now - host.heard > self._lease:
                self._lose(host, f"no sign for {now - host.heard:.0f} s")

    def _engine_end(self) -> str:
        end = self._session.transport.end()
        return end.text or f"the engine ended with exit code {end.code}"

    def _lose(self, host: HostState, why: str) -> None:
        host.lost = why
        text = ends.lost_text(host)
        self._events.announce(text)
        self._events.record(Event.HOST_LOST, name=host.name, why=why, ranks=list(host.ranks))
        self._session.wake(host)
        if host.ends is None and not self._ending:
            self._end_all(text.partition(":")[0])

    # The end.

    def _end_all(self, why: str, now: bool = False) -> None:
        """Have every agent end its ranks."""
        first, self._ending, self._settle_at = not self._ending, True, NEVER
        self._session.send("stop", {"why": why, "now": now})
        grace = 0.0 if now else self._policy.grace
        self._kill_at = min(self._kill_at, time.monotonic() + grace + MARGIN)
        if first:
            self._ranks.teardown_ns = time.monotonic_ns()
            living = self._ranks.living()
            self._events.record(Event.TEARDOWN, why=why, ranks=living)
            if living:
                self._events.announce(f"{why}; ending {named(*living)} (grace {self._policy.grace:g} s)")

    def _give_up(self) -> None:
        """Go through the engine where agents have not told of the end in time."""
        late = [host for host in self._fleet.there() if host.ends is None]
        if late and not self._gave_up:
            self._gave_up = True
            self._session.transport.stop()
            self._kill_at = time.monotonic() + MARGIN
        elif late:
            self._session.transport.kill()

    def _catch_up(self) -> None:
        """Take the rest of the logs, which ranks that wrote fast have left with their agents."""
        self._kill_at = NEVER
        self._tell_at = time.monotonic() + TELL
        self._session.expect(lambda host: self._gave_up or host.sent or not host.is_there, NEVER)
        late = [host.name for host in self._fleet.there() if not host.sent]
        if late:
            where = self._context.folder.path / "hosts" / late[0] / "logs"
            self._events.announce(f"logs of {some(late)} have not come whole; they are there, in {where}")

    def _tell_behind(self, now: float) -> None:
        """Say how much of the logs is still on the hosts: ranks never wait for its way to here."""
        if now < self._tell_at:
            return
        self._tell_at = now + TELL
        behind = sum(host.behind for host in self._fleet.there() if not host.sent)
        if behind > BEHIND:
            self._events.announce(f"{behind >> 20} MiB of the logs are still on their way from the hosts")

    def _signal(self, number: int) -> None:
        if number in ENDING:
            self._events.record(Event.SIGNAL, signal=name(number))
            self._interrupt(number, name(number))
        elif number in FORWARDED:
            self._session.send("signal", {"number": number})
        elif number == signal.SIGTSTP:
            self._events.announce("Ctrl-Z: not possible on several hosts, whose agents need a sign of life")

    def _interrupt(self, number: int, why: str) -> None:
        """End the ranks; a second Ctrl-C kills them at once, a third waits for nothing."""
        self._interrupts += 1
        if not self._interrupted:
            self._interrupted, self._interrupted_ns = number, time.monotonic_ns()
        if all(host.ends is not None or host.lost for host in self._fleet):
            self._gave_up = True  # only the rest of the logs was waited for
            for host in self._fleet:
                self._session.wake(host)
        elif not self._ending:
            self._end_all(why)
        elif number == signal.SIGINT and self._interrupts == 2:
            self._end_all(why, now=True)
        elif number == signal.SIGINT and self._interrupts > 2:
            self._gave_up = True
            self._session.transport.kill()

    # Hangs.

    def _suspect(self, incident: Incident) -> None:
        """Ask for the stacks of all ranks before any of them is ended."""
        hung = incident.status is RankStatus.HUNG
        event = Event.HUNG if hung else Event.EXITED_EARLY
        self._events.record(event, incident.rank, detail=incident.detail)
        self._hung = incident
        self._ask_for_stacks()

    def _ask_for_stacks(self) -> None:
        self._stacks, self._answered = {}, set()
        self._asked_until = time.monotonic() + STACKS
        self._session.send("stacks", {})

    def _judge_hang(self, incident: Incident) -> None:
        hung = incident.status is RankStatus.HUNG
        self._ranks.snapshot = ends.snapshot_of(self._stacks, self._ranks.living())
        outlier = self._ranks.snapshot.outlier if hung else None
        rank = incident.rank if outlier is None else outlier
        self._ranks.accuse(rank, incident, time.monotonic_ns())
        self._end_all(f"rank {rank} {'hangs' if hung else 'exited while others wait for it'}")

    def _serve_requests(self, now: float) -> None:
        """Answer `npu-launch stacks`."""
        if self._requests.token and (
            now >= self._asked_until or self._answered >= {host.index for host in self._fleet.there()}
        ):
            self._requests.answer(self._stacks)
        if self._hung is None and self._requests.look():
            self._ask_for_stacks()
        word = self._requests.stop()
        if word:
            self._interrupt(signal.SIGTERM, "npu-launch stop")
        if word == "now":
            self._end_all("npu-launch stop --now", now=True)

    # The ends.

    def _await_signal(self) -> None:
        """Wait a moment for the signal that ended ranks: the head may get it after them."""
        judged, culprit = self._ranks.judged()
        if self._interrupted or culprit is None:
            return
        from launcher.diagnosis import interruption

        left = (interruption.wait_until(judged, culprit) - time.monotonic_ns()) / 1e9
        if left > 0:
            self._session.wait(lambda: bool(self._interrupted), left)

    def _result(self) -> Result:
        judged, culprit = self._ranks.judged()
        if culprit is not None and self._interrupted:
            from launcher.diagnosis import interruption

            culprit = None if interruption.explains(judged, culprit, self._interrupted_ns) else culprit
        seconds = time.monotonic() - self._began
        return Result(judged, culprit, self._interrupted, self._ranks.snapshot, seconds)


def _is_bad(end: RankEnd, host: HostState) -> bool:
    """Tell whether others may fail of an end; none does of a scheduler's whose host ended nothing else."""
    needless = end.rank == SCHEDULER and host.teardown_ns is None
    return not needless and (end.code != 0 or end.error is not None)


_TAKERS: Mapping[str, Callable[..., None]] = {
    "log": Head._log,
    "event": Head._event,
    "say": Head._say,
    "beats": Head._beats,
    "failed": Head._failed,
    "end": Head._end,
    "sent": Head._sent,
    "stacks": Head._stack_texts,
}
