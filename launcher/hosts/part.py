"""A host's part of a run, once the head's order is there: its plan and folder, until ranks may start."""

from __future__ import annotations

import os
import shutil
import time
from contextlib import ExitStack, suppress
from dataclasses import replace
from pathlib import Path
from typing import Mapping, Sequence

from launcher.checks import preflight
from launcher.checks.host_report import report
from launcher.errors import LauncherError, PreflightError
from launcher.hosts.conversation import Agent
from launcher.plan import environment
from launcher.plan.host_facts import HostFacts
from launcher.plan.host_plan import host_plan, read_table, to_head
from launcher.plan.order import Order
from launcher.plan.planner import PlannedJob
from launcher.process import procfs
from launcher.process.signals import Signals
from launcher.run_dir import HostRunDir, host_folder, rank_folder, write_atomic
from launcher.runs.launcher_record import recorded
from launcher.runs.locks import hold, real_devices
from launcher.text import SCHEDULER


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
        if run is None:
            agent.wait_for(signals, "done")  # the head asks all hosts for their clocks
            return 0
        from launcher.hosts import own_attempt  # supervision, while the head judges all hosts

        if not _is_started(agent, signals, order, run):
            return 0
        agent.follow(order)
        return own_attempt.run(agent, signals, order, planned.plan, run)


def _is_started(agent: Agent, signals: Signals, order: Order, run: HostRunDir) -> bool:
    """Wait for the start; where there is none, leave nothing on this host."""
    kind = "done"
    try:
        kind, _ = agent.wait_for(signals, "start", "done")
    finally:
        if kind == "done":
            _remove(run, all_of_it=not order.shared[agent.index] and not order.attempt)
    return kind == "start"


def _remove(run: HostRunDir, all_of_it: bool) -> None:
    """Remove this host's part of a run folder, and what then is empty."""
    shutil.rmtree(run.own, ignore_errors=True)
    for folder in (*_rank_folders(run), run.path / "hosts", run.path / "ranks"):
        with suppress(OSError):  # it is not empty, or another host's, too
            folder.rmdir()
    if all_of_it:
        shutil.rmtree(run.path, ignore_errors=True)


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
    agent.channel.turn()
