"""One run from its plan to its result: preflight, run folder, supervision, gathering, report."""

from __future__ import annotations

import os
import sys
import time
from contextlib import suppress
from dataclasses import asdict
from pathlib import Path
from typing import Any

from launcher.config.job import to_yaml
from launcher.errors import UsageError
from launcher.plan.model import Plan
from launcher.plan.planner import PlannedJob
from launcher.run_dir import RunDir, write_atomic
from launcher.runs.gather import Gathered, gather


def run(planned: PlannedJob, detach: bool = False) -> int:
    """Run a plan and report it; return the exit code. Detached, return 0 once it has begun."""
    from launcher.runs.locks import hold, real_devices

    plan = planned.plan
    _preflight(planned)
    folder = create(planned)
    devices = real_devices(plan)
    if detach:
        from launcher.engines.background import start

        pid = start(folder, devices, lambda: _run(plan, folder, quiet=True))
        print("npu-launch: run folder %s\nnpu-launch: process %d; attach: npu-launch logs --follow %s"
              % (folder.path, pid, _shown(plan)))  # fmt: skip
        return 0
    with hold(devices, folder):
        return _run(plan, folder)


def _run(plan: Plan, folder: RunDir, quiet: bool = False) -> int:
    """Supervise the ranks, gather what they made, leave result.json and report.txt."""
    from launcher.supervision.supervisor import supervise
    from launcher.ui.console import Console

    console = Console(sys.stdout, plan.policy.show_ranks, quiet or plan.policy.quiet)
    for line in (*plan.notes, f"run folder {folder.path}"):
        console.say("npu-launch: " + line)
    started = time.time()
    outcome = supervise(plan, folder, console)
    gathered = gather(folder, [spec.rank for spec in plan.local_ranks], plan.policy.gather)
    code = outcome.exit_code or (1 if gathered.problems else 0)
    text = "\n".join(closing(plan, outcome, gathered))
    write_atomic(folder.report, (text + "\n").encode("utf-8", "backslashreplace"))
    result = dict(_result(plan, gathered, started), **dict(outcome.as_dict(), exit_code=code))
    folder.write_json(folder.result, result)
    console.say(text)
    return code


def debug(planned: PlannedJob) -> int:
    """Run the plan's only rank in this process; return its exit code."""
    from launcher.engines.debug import debug as in_process

    plan = planned.plan
    if plan.world_size != 1:
        device = plan.ranks[0].device_id
        raise UsageError(f"--debug runs one device, not {plan.world_size}; give --devices {device}")
    _preflight(planned)
    print(f"npu-launch: run folder {create(planned).path}", file=sys.stderr)
    return in_process(plan)


def _preflight(planned: PlannedJob) -> None:
    from launcher.checks import preflight

    findings = preflight.check(planned.plan, planned.config, planned.table)
    for finding in findings:
        if finding.level == "warning":
            print(f"npu-launch: warning: {finding.message}", file=sys.stderr)
    preflight.raise_if_any(findings)


def create(planned: PlannedJob) -> RunDir:
    """Make the run folder with everything that is known before the start, and let `latest` name it.

    Raises:
        UsageError: it cannot be made.
    """
    plan = planned.plan
    try:
        run = RunDir.create(Path(plan.run_dir), [spec.rank for spec in plan.local_ranks])
        write_atomic(run.plan, (plan.to_json() + "\n").encode())
        write_atomic(run.rank_table, plan.rank_table_json.encode())
        write_atomic(run.job_yaml, to_yaml(planned.config).encode())
    except OSError as error:
        raise UsageError(f"runs_dir: {plan.run_dir}: {error.strerror}") from None
    point_latest(run.path)
    return run


def point_latest(path: Path) -> None:
    """Let runs/latest name a run; something of the user's under that name stays."""
    link = path.parent / "latest"
    if link.exists() and not link.is_symlink():
        return
    fresh = path.parent / (f".latest.{os.getpid()}")
    with suppress(OSError):
        fresh.symlink_to(path.name)
        os.replace(str(fresh), str(link))


def _result(plan: Plan, gathered: Gathered, started: float) -> dict[str, Any]:
    common = {"job": plan.job, "run_id": plan.run_id, "backend": plan.backend, "ranks": plan.world_size}
    return dict(common, started=started, **asdict(gathered))


def closing(plan: Plan, outcome: Any, gathered: Gathered) -> list[str]:
    """Say how a run ended: what failed first, or what came out, and where everything lies."""
    lines = [outcome.report] if outcome.report else []
    lines += ["could not gather: " + problem for problem in gathered.problems]
    if gathered.metrics:
        lines.append(_figures(gathered.metrics))
    if gathered.checkpoint:
        lines.append(f"checkpoint   {gathered.checkpoint}")
    if gathered.predictions:
        lines.append(f"predictions  {os.path.dirname(gathered.predictions[0])}")
    if not outcome.exit_code:
        lines.append(f"finished     {plan.world_size} rank(s) in {outcome.seconds:.1f} s")
    lines.append(f"run folder   {plan.run_dir}")
    lines.append(f"logs         npu-launch logs {_shown(plan)}")
    return lines


_NAMES = {"exact": "EM", "f1": "F1"}


def _figures(metrics: Any) -> str:
    """Write EM and F1 with their parts: `EM 73.4  F1 76.5  HasAns EM 71.0 ...`."""
    parts = []
    for key, value in metrics.items():
        group, _, name = key.rpartition("_")
        if name in _NAMES and group in ("", "HasAns", "NoAns"):
            parts.append(" ".join(filter(None, (group, _NAMES[name], f"{value:.3f}"))))
    return "  ".join(parts) or "  ".join("{} {}".format(*item) for item in metrics.items())


def _shown(plan: Plan) -> str:
    """Name a run as the user would: short when it lies in ./runs."""
    parent, name = os.path.split(plan.run_dir)
    return name if parent == os.path.join(os.getcwd(), "runs") else plan.run_dir
