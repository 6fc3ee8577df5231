"""Run a plan on this host, from the preflight to the result: supervision, gathering, report."""

from __future__ import annotations

import sys
import time

from launcher.errors import UsageError
from launcher.output import echo
from launcher.plan.model import Plan
from launcher.plan.planner import PlannedJob
from launcher.run_dir import RunDir
from launcher.runs import folder


def run(planned: PlannedJob, detach: bool = False) -> int:
    """Run a plan and report it; return the exit code. Detached, return 0 once it has begun."""
    from launcher.runs.locks import hold, real_devices

    plan = planned.plan
    _preflight(planned)
    run_dir = folder.create(planned)
    devices = real_devices(plan)
    if not detach:
        with hold(devices, run_dir):
            return _run(plan, run_dir)
    from launcher.engines.background import start
    from launcher.ui.summary import run_word

    pid = start(run_dir, devices, lambda: _run(plan, run_dir, quiet=True))
    echo(f"npu-launch: run folder {run_dir.path}")
    echo(f"npu-launch: process {pid}; attach: npu-launch logs --follow {run_word(plan)}")
    return 0


def _run(plan: Plan, run_dir: RunDir, quiet: bool = False) -> int:
    """Supervise the ranks, then report the run."""
    from launcher.engines.finish import Interruption, finish, hooked
    from launcher.engines.recorder import recording
    from launcher.supervision.supervisor import supervise
    from launcher.ui.console import Console

    console = Console(sys.stdout, plan.policy.show_ranks, quiet or plan.policy.quiet)
    for line in (*plan.notes, f"run folder {run_dir.path}"):
        console.say("npu-launch: " + line)
    started = time.time()
    with Interruption() as interruption, hooked(plan, run_dir, console) as hook:
        with recording(plan, run_dir, started) as made_of:
            outcome = supervise(plan, run_dir, console, hook=hook)
            return finish(plan, run_dir, console, outcome, started, interruption, hook=hook, made_of=made_of)


def debug(planned: PlannedJob) -> int:
    """Run the plan's only rank in this process; return its exit code."""
    from launcher.engines.debug import debug as in_process

    plan = planned.plan
    if plan.world_size != 1:
        device = plan.ranks[0].device_id
        raise UsageError(f"--debug: {plan.world_size} devices (expected 1); give --devices {device}")
    _preflight(planned)
    run_dir = folder.create(planned)
    for line in (*plan.notes, f"run folder {run_dir.path}"):
        echo("npu-launch: " + line, err=True)
    return in_process(plan, run_dir)


def _preflight(planned: PlannedJob) -> None:
    from launcher.checks import preflight

    findings = preflight.check(planned.plan, planned.config, planned.table)
    for finding in findings:
        if finding.level == "warning":
            echo(f"npu-launch: warning: {finding}", err=True)
    preflight.raise_if_any(findings)
