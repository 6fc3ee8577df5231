"""A host's own attempt: its ranks run, the head hears of their end, and gets what they made."""

from __future__ import annotations

import resource
from contextlib import suppress
from typing import Any, Mapping

from launcher.hosts.agent_events import AgentEvents, silent_console
from launcher.hosts.conversation import ORPHANED, Agent, Ended
from launcher.hosts.log_stream import LogStream
from launcher.plan.model import Plan
from launcher.plan.order import Order
from launcher.process import spawn
from launcher.process.signals import ENDING, Signals
from launcher.run_dir import HostRunDir
from launcher.runs.folder import point_latest
from launcher.supervision.attempt import Attempt
from launcher.supervision.context import RunContext
from launcher.supervision.supervisor import guarded

BUSY = 0.01  # seconds between two looks at files that are read to be sent


def run(agent: Agent, signals: Signals, order: Order, plan: Plan, folder: HostRunDir) -> int:
    """Run the ranks, tell of their end, and bring what they made."""
    console = silent_console()
    events = AgentEvents(folder, console, agent.channel)
    if not order.shared[agent.index]:
        point_latest(folder.path)
    agent.logs = LogStream(folder, [spec.rank for spec in plan.local_processes], order.window)
    attempts: list[Attempt] = []
    host = folder.own.name
    limits = spawn.raise_descriptor_limit()
    try:
        with guarded(plan.run_id, lambda: attempts[0] if attempts else None, host) as (watchdog, children):
            context = RunContext(plan, folder, console, events)
            attempts.append(Attempt(context, signals, watchdog, order.attempt, agent))
            result = attempts[0].run(children, limits)
    finally:
        with suppress(OSError, ValueError):
            resource.setrlimit(resource.RLIMIT_NOFILE, limits)
        events.close()
    body: dict[str, Any] = {"ends": [end.to_json() for end in attempts[0].ends]}
    agent.over = True
    body.update(teardown_ns=result.teardown_ns, interrupted=result.interrupted)
    body.update(seconds=result.seconds, orphaned=agent.orphaned)
    agent.channel.send("end", body)
    agent.drain(signals)
    agent.logs.close()
    agent.channel.send("sent", {})
    cwds = {spec.rank: spec.cwd for spec in plan.ranks}
    _bring(agent, signals, folder, cwds, order.window)
    if result.interrupted:
        return 128 + result.interrupted
    return ORPHANED if agent.orphaned else 0


def _bring(agent: Agent, signals: Signals, folder: HostRunDir, cwds: Mapping[int, str], window: int) -> None:
    """Wait until the head is done; send the files that it asks for meanwhile."""
    while True:
        try:
            kind, body = agent.wait_for(signals, "fetch", "done") if agent.offer is None else ("", None)
        except Ended:
            return
        if kind == "done":
            return
        if kind == "fetch":
            from launcher.hosts.offer import Offer

            agent.offer = Offer(agent.index, folder, cwds, body, window)
        if agent.offer is not None and not _offered(agent, signals):
            return


def _offered(agent: Agent, signals: Signals) -> bool:
    """Send what is offered; return whether the head is still there."""
    offer = agent.offer
    while offer is not None and not offer.finished:
        agent.take()
        if agent.orphaned or agent.has("done") or any(map(ENDING.__contains__, signals.take())):
            offer.close()
            return agent.has("done")
        for frame in offer.frames():
            agent.channel.send(frame.kind, frame.body)
        agent.turn((), 0.0, 0.0)
        agent.pause(BUSY)
    agent.offer = None
    return True
