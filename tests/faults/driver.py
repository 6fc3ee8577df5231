"""Call supervise() with a fault injected into the launcher itself.

driver.py FAULT POLICY-AS-JSON RANKS COMMAND ...    (in the folder where the run folder `run` shall be)
"""

from __future__ import annotations

import errno
import json
import os
import sys
import threading
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

from launcher.diagnosis.failure import Outcome
from launcher.plan.model import Plan, Policy, RankSpec
from launcher.process import spawn
from launcher.run_dir import RunDir
from launcher.supervision import attempt, restart_policy
from launcher.supervision.supervisor import supervise
from launcher.ui.console import Console


def main() -> None:
    fault, policy, count, command = sys.argv[1], json.loads(sys.argv[2]), int(sys.argv[3]), sys.argv[4:]
    run = RunDir.create(Path.cwd() / "runs" / "run-1", range(count))
    plan = make_plan(run, policy, count, command)
    run.plan.write_text(plan.to_json())
    outcome = FAULTS[fault](plan, run)
    run.write_json(run.result, outcome.as_dict())
    run.report.write_text(outcome.report)
    sys.exit(outcome.exit_code)


RUN_ID = f"driver-{os.getpid()}"


def make_plan(run: RunDir, policy: dict[str, Any], count: int, command: Any) -> Plan:
    ranks = []
    for rank in range(count):
        env = dict(os.environ, RANK_ID=str(rank), RANK_SIZE=str(count))
        env.update(NPU_LAUNCH_RUN_ID=RUN_ID, NPU_LAUNCH_RANK_DIR=str(run.rank_dir(rank)))
        ranks.append(RankSpec(rank, "host", rank, rank, rank, tuple(command), env, os.getcwd()))
    policy = {key: tuple(value) if isinstance(value, list) else value for key, value in policy.items()}
    return Plan("job", RUN_ID, str(run.path), "host", "cpu", "{}", tuple(ranks), Policy(**policy))


def none(plan: Plan, run: RunDir) -> Outcome:
    return supervise(plan, run, Console(sys.stdout))


def bug(plan: Plan, run: RunDir) -> Outcome:
    """Let the loop meet a defect of its own once the ranks run."""

    def broken(self: Any, now: float) -> None:
        if os.path.exists("now"):
            raise ZeroDivisionError("a defect")

    attempt.Attempt._check_ranks = broken  # type: ignore[method-assign]
    return supervise(plan, run, Console(sys.stdout))


def late_bug(plan: Plan, run: RunDir) -> Outcome:
    """Let a defect of the launcher show itself once a rank has failed and the others are ended."""

    def broken(self: Any) -> None:
        raise ZeroDivisionError("a defect")

    attempt.Attempt._drain = broken  # type: ignore[method-assign]
    return supervise(plan, run, Console(sys.stdout))


def thread(plan: Plan, run: RunDir) -> Outcome:
    """Call supervise() in another thread than the main one."""
    outcomes = []

    def call() -> None:
        try:
            outcomes.append(supervise(plan, run, Console(sys.stdout)))
        except Exception as error:
            outcomes.append(Outcome(getattr(error, "exit_code", 1), (), None, str(error), 1, 0.0))

    caller = threading.Thread(target=call)
    caller.start()
    caller.join()
    return outcomes[0]


def eagain(plan: Plan, run: RunDir) -> Outcome:
    """Let fork fail from the sixth rank on."""
    real, started = os.fork, []

    def fork() -> int:
        started.append(1)
        if len(started) > 6:  # the watchdog is the first
            raise OSError(errno.EAGAIN, os.strerror(errno.EAGAIN))
        return real()

    spawn.os.fork = fork
    return supervise(plan, run, Console(sys.stdout))


def jump(plan: Plan, run: RunDir) -> Outcome:
    """Let the wall clock of the launcher jump an hour back, then two forward, again and again."""
    real, calls = time.time, []

    def jumping() -> float:
        calls.append(1)
        return real() + (3600.0 if len(calls) // 3 % 2 else -3600.0)

    time.time = jumping
    return supervise(plan, run, Console(sys.stdout))


def busy(plan: Plan, run: RunDir) -> Outcome:
    """Let the devices look busy for a while after each attempt."""
    since: dict[str, float | None] = {"first": None}

    def holder(plan: Plan) -> str:
        since["first"] = since["first"] or time.monotonic()
        with open("probes", "a") as stream:
            stream.write(f"{time.monotonic():f}\n")
        return "device 0: python (pid 1)" if time.monotonic() - since["first"] < 2.0 else ""

    restart_policy.BACK_OFF = 0.1
    return supervise(plan, run, Console(sys.stdout), busy=holder)


def gone(plan: Plan, run: RunDir) -> Outcome:
    """Let the ranks' working directory be missing."""
    ranks = tuple(replace(spec, cwd=os.path.join(os.getcwd(), "gone")) for spec in plan.ranks)
    return supervise(replace(plan, ranks=ranks), run, Console(sys.stdout))


FAULTS = {
    "gone": gone,
    "none": none,
    "bug": bug,
    "late_bug": late_bug,
    "thread": thread,
    "eagain": eagain,
    "jump": jump,
    "busy": busy,
}

if __name__ == "__main__":
    main()
