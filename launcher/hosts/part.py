"""A host's part of a run, once the head's order is there: its plan, its folder, its ranks, its files."""

from __future__ import annotations

import os
import resource
import shutil
import time
from contextlib import ExitStack, suppress
from dataclasses import replace
from pathlib import Path
from typing import Any, Mapping, Sequence

from launcher.checks import preflight
from launcher.checks.host_report import report
from launcher.errors import LauncherError, PreflightError
from launcher.hosts.agent_events import AgentEvents, silent_console
from launcher.hosts.conversation import ORPHANED, Agent, Ended
from launcher.hosts.log_stream import LogStream
from launcher.plan import environment
from launcher.plan.host_facts import HostFacts
from launcher.plan.host_plan import host_plan, read_table, to_head
from launcher.plan.model import Plan
from launcher.plan.order import Order
from launcher.plan.planner import PlannedJob
from launcher.process import procfs, spawn
from launcher.process.signals import ENDING, Signals
from launcher.run_dir import HostRunDir, host_folder, rank_folder, write_atomic
from launcher.runs.folder import point_latest
from launcher.runs.launcher_record import recorded
from launcher.runs.locks import hold, real_devices
from launcher.supervision.attempt import Attempt
from launcher.supervision.context import RunContext
from launcher.supervision.supervisor import guarded
from launcher.text import SCHEDULER

BUSY = 0.01  # seconds between two looks at files that are read to be sent


def take_part(agent: Agent, signals: Signals, facts: HostFacts, body: object) -> int:
    """Follow an order: get ready, run the ranks once all hosts are, bring what they made."""
    order = Order.from_json(body)
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
            for folder in (*_rank_folders(run), run.path / "hosts", run.path / "ranks"):
                with suppress(OSError):  # it is not empty, or another host's, too
                    folder.rmdir()
            if not order.shared[agent.index] and not order.attempt:
                shutil.rmtree(run.path, ignore_errors=True)
    return kind == "start"


def _rank_folders(run: HostRunDir) -> list[Path]:
    with suppress(OSError):
        found = (run.path / "ranks").iterdir()
        return [path for path in found if path.name.isdigit() or path.name == rank_folder(SCHEDULER)]
    return []


def _planned(order: Order, facts: HostFacts, environ: Mapping[str, str]) -> PlannedJob:
    """Compute this host's ranks; wait a little for a table on a disk of the network."""
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
    more = {procfs.HOST: host_folder(order.hosts[facts.index].name)}
    plan = planned.plan.each(
        lambda spec: replace(spec, env={**environment.of_attempt(spec.env, order.attempt), **more})
    )
    policy = replace(plan.policy, quiet=True, max_log_bytes=0)  # the head's copy is cut
    return replace(planned, plan=replace(plan, ranks=plan.local_ranks, policy=policy))


def _findings(planned: PlannedJob) -> list[tuple[str, str, str]]:
    found = preflight.check(planned.plan, planned.config, planned.table)
    return [(finding.level, finding.name, str(finding)) for finding in found]


def _make_room(order: Order, planned: PlannedJob, index: int, held: ExitStack) -> HostRunDir:
    """Make this host's part of the run folder, and hold its devices."""
    plan, host = planned.plan, order.hosts[index]
    new = not os.path.lexists(order.run_dir)
    try:
        run = HostRunDir.make(Path(order.run_dir), host.name, [spec.rank for spec in plan.local_processes])
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
    plan = planned.plan
    body = {"plan": to_head(plan), "findings": [list(row) for row in findings], "notes": list(plan.notes)}
    agent.channel.send("ready", {**body, "report": report(planned)})


def _attempt(agent: Agent, signals: Signals, order: Order, plan: Plan, run: HostRunDir) -> int:
    """Run the ranks, tell of their end, and bring what they made."""
    console = silent_console()
    events = AgentEvents(run, console, agent.channel)
    if not order.shared[agent.index]:
        point_latest(run.path)
    agent.logs = LogStream(run, [spec.rank for spec in plan.local_processes], order.window)
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
    body.update(teardown_ns=result.teardown_ns, interrupted=result.interrupted)
    body.update(seconds=result.seconds, orphaned=agent.orphaned)
    agent.channel.send("end", body)
    agent.drain(signals)
    agent.logs.close()
    agent.channel.send("sent", {})
    cwds = {spec.rank: spec.cwd for spec in plan.ranks}
    _bring(agent, signals, run, cwds, order.window)
    if result.interrupted:
        return 128 + result.interrupted
    return ORPHANED if agent.orphaned else 0


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
            from launcher.hosts.offer import Offer

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
        agent.pause(BUSY)
    agent.offer = None
    return True
