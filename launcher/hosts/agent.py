"""The agent of a host: one attempt of this host's ranks, for a head elsewhere.

hello ─► (ping, probe) ─► order ─► ready ─► start ─► the attempt ─► end, sent ─► (fetch) ─► done ─► bye

It ends its ranks, with grace, when the head says so, when the head is silent for the lease, or when what
started the agent has gone.
"""

from __future__ import annotations

import os
import resource
import select
import shutil
import sys
import time
from contextlib import ExitStack, suppress
from dataclasses import replace
from pathlib import Path
from typing import Any, Mapping, Sequence

from launcher import __version__
from launcher.diagnosis.failure import RankEnd
from launcher.errors import LauncherError, PreflightError, ReadError, describe
from launcher.hosts.agent_events import AgentEvents, silent_console
from launcher.hosts.channel import AgentChannel
from launcher.hosts.log_stream import LogStream
from launcher.hosts.offer import Offer
from launcher.plan.host_facts import HostFacts
from launcher.plan.model import Plan
from launcher.plan.order import Order
from launcher.plan.planner import PlannedJob
from launcher.process import procfs, spawn
from launcher.process.signals import ENDING, FORWARDED, Signals
from launcher.run_dir import HostRunDir, host_folder, write_atomic
from launcher.runs.folder import point_latest
from launcher.supervision.attempt import Attempt
from launcher.supervision.context import RunContext
from launcher.supervision.link import Link, Wish
from launcher.supervision.rank import RankProcess
from launcher.supervision.supervisor import guarded
from launcher.typed_json import Value

ORPHANED = 143  # as ended by SIGTERM: nobody is there to be told anything else
BEAT = 1.0  # seconds between two signs of life
POLL = 0.2  # seconds between looks at the logs, where nothing else wakes the agent
BUSY = 0.01  # ... while there is more to send
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
        self._next_beat = self._next_poll = 0.0
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
        elif kind == "stacks":
            self._wishes.append(Wish("stacks"))
        elif kind in ("probe", "order", "start", "fetch", "done"):
            self._inbox[kind] = body.value

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
            due = min(self.channel.turn(), POLL)
            wanted = [found for found in (self.channel.fileno(), signals.descriptor) if found is not None]
            select.select(wanted, [], [], due)

    # What the attempt asks of its link.

    @property
    def descriptors(self) -> Sequence[int]:
        number = self.channel.fileno()
        return () if number is None else (number,)

    def take(self) -> Sequence[Wish]:
        self.serve()
        wishes, self._wishes = self._wishes, []
        return wishes

    def turn(self, ranks: Sequence[RankProcess], now: float, sampled: float) -> float:
        moment = time.monotonic()
        if moment >= self._next_beat:
            self._next_beat = moment + BEAT
            rows = [_row(rank, now) for rank in ranks if rank.child is not None]
            self.channel.send("beats", {"behind": self._behind, "sampled_age": now - sampled, "ranks": rows})
        return min(self.send_logs(), self._next_beat - moment)

    @property
    def _behind(self) -> int:
        return self.logs.behind if self.logs else 0

    def send_logs(self) -> float:
        """Send what the window and the channel take; return the seconds until the next turn."""
        sent = False
        room = AHEAD - self.channel.pending
        for body in self.logs.bodies(room) if self.logs and room > 0 and not self.orphaned else ():
            self.channel.send("log", body)
            sent = True
        return min(self.channel.turn(), BUSY if sent else POLL)

    def failed(self, end: RankEnd, victim: bool) -> None:
        self.channel.send("failed", {"end": end.to_json(), "victim": victim})
        self.channel.turn()

    def stacks(self, texts: Mapping[int, str]) -> None:
        self.channel.send("stacks", {"texts": {str(rank): text for rank, text in texts.items()}})

    # Its own course.

    def follow(self, order: Order) -> None:
        """Go by an order: its lease counts from now on."""
        self._lease, self._heard = order.lease, time.monotonic()

    def flush(self, patience: float) -> None:
        """Write what waits, for some seconds at most."""
        end = time.monotonic() + patience
        while self.channel.turn() < POLL and time.monotonic() < end:
            time.sleep(BUSY)


def _row(rank: RankProcess, now: float) -> list[object]:
    """Describe a rank for the head: ages are seconds, as clocks differ."""
    beat = rank.heartbeat
    ages = [round(now - then, 3) for then in (beat.seen, rank.active, rank.lively, rank.started)]
    state = [rank.rank, rank.alive, beat.step, beat.train_step, beat.phase, beat.has_stepped]
    return [*state, *ages, rank.code]


def run_agent(channel: AgentChannel, name: str, environ: Mapping[str, str]) -> int:
    """Be the agent of this host for one attempt; return its exit code."""
    agent = Agent(channel, name, environ)
    with Signals() as signals:
        try:
            code = _course(agent, signals)
        except Ended as end:
            code = end.code
        except LauncherError as error:
            code = error.exit_code
            channel.send("refused", {"code": code, "lines": list(error.lines)})
        except Exception as error:
            import traceback

            traceback.print_exc(file=sys.stderr)
            code = LauncherError.exit_code
            channel.send("refused", {"code": code, "lines": [f"its agent failed: {describe(error)}"]})
        channel.send("bye", {"code": code})
        agent.flush(2.0)
    return code


def _course(agent: Agent, signals: Signals) -> int:
    from launcher.checks.host_facts import collect

    facts = collect(agent.index, agent.name, agent.environ)
    told = {"version": __version__, "python": facts.python, "index": agent.index, "name": agent.name}
    agent.channel.send("hello", {**told, "facts": facts.to_json()})
    order = Order.from_json(_order(agent, signals))
    agent.follow(order)
    planned = _planned(order, facts, agent.environ)
    findings = _findings(planned)
    with ExitStack() as held:
        run: HostRunDir | None = None
        if not order.dry and not any(level == "error" for level, _, _ in findings):
            run = _make_room(order, planned, facts.index, held)
        _ready(agent, planned, findings)
        if run is None or not _is_started(agent, signals, order, run):
            return 0
        agent.follow(order)
        return _attempt(agent, signals, order, planned.plan, run)


def _is_started(agent: Agent, signals: Signals, order: Order, run: HostRunDir) -> bool:
    """Wait for the start; where there is none, leave nothing on this host."""
    kind = "done"
    try:
        kind, _ = agent.wait_for(signals, "start", "done")
    finally:
        if kind == "done":
            shutil.rmtree(run.own, ignore_errors=True)
            for folder in (*map(run.rank_dir, _ranks_of(run)), run.path / "hosts", run.path / "ranks"):
                with suppress(OSError):  # it is not empty, or another host's, too
                    folder.rmdir()
            if not order.shared[agent.index] and not order.attempt:
                shutil.rmtree(run.path, ignore_errors=True)
    return kind == "start"


def _ranks_of(run: HostRunDir) -> list[int]:
    with suppress(OSError):
        return [int(name) for name in os.listdir(run.path / "ranks") if name.isdigit()]
    return []


def _order(agent: Agent, signals: Signals) -> Any:
    """Answer about the disk until the order comes."""
    from launcher.hosts.probe import sees

    while True:
        kind, body = agent.wait_for(signals, "probe", "order", "done")
        if kind == "done":
            raise Ended(0)
        if kind == "order":
            return body
        agent.channel.send("probed", {"seen": sees(body)})


def _planned(order: Order, facts: HostFacts, environ: Mapping[str, str]) -> PlannedJob:
    """Compute this host's ranks; wait a little for a table on a disk of the network."""
    from launcher.plan.host_plan import host_plan, read_table

    if not os.path.isdir(order.launch_dir):
        raise PreflightError(f"{order.launch_dir}: no such folder, in which npu-launch was called")
    os.chdir(order.launch_dir)
    text, end = order.table, time.monotonic() + 5.0
    while not text:
        text = read_table(order)
        if not text and time.monotonic() > end:
            raise PreflightError(
                f"{order.run_dir}: no rank table there (expected the head's, on a shared disk)"
            )
        time.sleep(0 if text else 0.1)
    planned = host_plan(order, facts, environ, text)
    more = {"NPU_LAUNCH_ATTEMPT": str(order.attempt), procfs.HOST: host_folder(order.hosts[facts.index].name)}
    ranks = tuple(replace(spec, env={**spec.env, **more}) for spec in planned.plan.ranks)
    mine = tuple(spec for spec in ranks if spec.server_id == planned.plan.host)
    policy = replace(planned.plan.policy, quiet=True, max_log_bytes=0)  # the head's copy is cut
    return replace(planned, plan=replace(planned.plan, ranks=mine, policy=policy))


def _findings(planned: PlannedJob) -> list[tuple[str, str, str]]:
    from launcher.checks import preflight

    found = preflight.check(planned.plan, planned.config, planned.table)
    return [(finding.level, finding.name, str(finding)) for finding in found]


def _make_room(order: Order, planned: PlannedJob, index: int, held: ExitStack) -> HostRunDir:
    """Make this host's part of the run folder, and hold its devices."""
    from launcher.runs.launcher_record import recorded
    from launcher.runs.locks import hold, real_devices

    plan, host = planned.plan, order.hosts[index]
    new = not os.path.lexists(order.run_dir)
    try:
        run = HostRunDir.make(Path(order.run_dir), host.name, [spec.rank for spec in plan.ranks])
        if not order.shared[index]:
            import json

            write_atomic(run.rank_table, plan.rank_table_json.encode())
            write_atomic(run.path / "hosts.json", json.dumps([vars(item) for item in order.hosts]).encode())
        write_atomic(run.plan, (plan.to_json(masked=True) + "\n").encode())
    except OSError as error:
        raise PreflightError(f"runs_dir: {order.run_dir}: {error.strerror}") from None
    try:
        held.enter_context(hold(real_devices(plan), run))
        held.enter_context(recorded(run, order.head))
    except LauncherError:
        if new:
            shutil.rmtree(order.run_dir, ignore_errors=True)
        raise
    return run


def _ready(agent: Agent, planned: PlannedJob, findings: Sequence[tuple[str, str, str]]) -> None:
    from launcher.checks.host_report import report
    from launcher.plan.host_plan import to_head

    plan = planned.plan
    body = {"plan": to_head(plan), "findings": [list(row) for row in findings], "notes": list(plan.notes)}
    agent.channel.send("ready", {**body, "report": report(planned)})


def _attempt(agent: Agent, signals: Signals, order: Order, plan: Plan, run: HostRunDir) -> int:
    """Run the ranks, tell of their end, and bring what they made."""
    console = silent_console()
    events = AgentEvents(run, console, agent.channel)
    if not order.shared[agent.index]:
        point_latest(run.path)
    agent.logs = LogStream(run, [spec.rank for spec in plan.ranks], order.window)
    attempts: list[Attempt] = []
    host = run.own.name
    limits = spawn.raise_descriptor_limit()
    try:
        with guarded(plan.run_id, lambda: attempts[0] if attempts else None, host) as (watchdog, children):
            context = RunContext(plan, run, console, events)
            attempts.append(Attempt(context, signals, watchdog, order.attempt, agent))
            result = attempts[0].run(children, limits)
    finally:
        with suppress(OSError, ValueError):
            resource.setrlimit(resource.RLIMIT_NOFILE, limits)
        events.close()
    body: dict[str, Any] = {"ends": [end.to_json() for end in attempts[0].ends]}
    agent.over = True
    body.update(teardown_ns=attempts[0].teardown_ns, interrupted=result.interrupted)
    body.update(seconds=result.seconds, orphaned=agent.orphaned)
    agent.channel.send("end", body)
    _drain(agent, signals)
    cwds = {spec.rank: spec.cwd for spec in plan.ranks}
    _bring(agent, signals, run, cwds, order.window)
    if result.interrupted:
        return 128 + result.interrupted
    return ORPHANED if agent.orphaned else 0


def _drain(agent: Agent, signals: Signals) -> None:
    """Send the rest of the logs; signs of life go on."""
    while not agent.orphaned and agent.logs is not None:
        agent.serve()
        agent.turn((), 0.0, 0.0)
        if not agent.logs.blocked and agent.logs.is_read and not agent.channel.pending:
            break
        _pause(agent, signals, BUSY)
    if agent.logs is not None:
        agent.logs.close()
    agent.channel.send("sent", {})


def _pause(agent: Agent, signals: Signals, seconds: float) -> None:
    wanted = [found for found in (agent.channel.fileno(),) if found is not None]
    select.select(wanted, [], [], seconds)


def _bring(agent: Agent, signals: Signals, run: HostRunDir, cwds: Mapping[int, str], window: int) -> None:
    """Wait until the head is done; send the files that it asks for meanwhile."""
    while True:
        try:
            kind, body = agent.wait_for(signals, "fetch", "done") if agent.offer is None else ("", None)
        except Ended:
            return
        if kind == "done":
            return
        if kind == "fetch":
            agent.offer = Offer(agent.index, run, cwds, body, window)
        if agent.offer is not None and not _offered(agent, signals):
            return


def _offered(agent: Agent, signals: Signals) -> bool:
    """Send what is offered; return whether the head is still there."""
    offer = agent.offer
    while offer is not None and not offer.finished:
        agent.take()
        if agent.orphaned or "done" in agent._inbox or any(map(ENDING.__contains__, signals.take())):
            offer.close()
            return "done" in agent._inbox
        for frame in offer.frames():
            agent.channel.send(frame.kind, frame.body)
        agent.turn((), 0.0, 0.0)
        _pause(agent, signals, BUSY)
    agent.offer = None
    return True
