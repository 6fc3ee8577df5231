"""The end of a run: what failed first is told before all else, and no fault of a file changes the exit code.

The report goes to the console. Then what the ranks made is gathered, and report.txt, result.json and the page
report.html are written, each on its own: ranks may have moved, removed or filled the run folder.
"""

from __future__ import annotations

import json
from contextlib import contextmanager, suppress
from dataclasses import asdict, replace
from typing import TYPE_CHECKING, Any, Callable, Iterator, Mapping, Sequence, TypeVar

from launcher.diagnosis.failure import Outcome
from launcher.errors import LauncherError, describe
from launcher.plan.model import Plan
from launcher.process.signals import ENDING, handled, name
from launcher.run_dir import AppendedFile, RunDir, write_atomic
from launcher.runs.gather import Arrived, Gathered, gather
from launcher.ui.console import Console
from launcher.ui.summary import closing_lines

if TYPE_CHECKING:
    from launcher.supervision.hook import Hook


T = TypeVar("T")


@contextmanager
def hooked(plan: Plan, run: RunDir, console: Console) -> Iterator[Hook | None]:
    """Have the command of `on_event` get the events meanwhile; without one, nothing is loaded."""
    if not plan.policy.on_event:
        yield None
        return
    from launcher.supervision.hook import Hook

    try:
        hook = Hook(plan, run, lambda text: console.say("npu-launch: " + text))
    except OSError as error:
        console.say(f"npu-launch: warning: on_event: cannot start a process: {error.strerror}")
        yield None
        return
    try:
        yield hook
    finally:
        hook.close()


class Interruption:
    """Signals that would end the launcher: one that comes during `call` ends it, no other is obeyed."""

    def __init__(self) -> None:
        self.number = 0  # of the signal that ended a call
        self._calling = False
        self._handlers = handled(ENDING, self._come)

    def __enter__(self) -> Interruption:
        self._handlers.__enter__()
        return self

    def __exit__(self, *about: object) -> None:
        self._handlers.__exit__(None, None, None)

    def _come(self, number: int, frame: object) -> None:
        if self._calling:
            self._calling = False
            self.number = number
            raise KeyboardInterrupt

    def call(self, work: Callable[[], T]) -> T | None:
        """Return what the work returns; None when a signal has ended it."""
        with suppress(KeyboardInterrupt):
            self._calling = True
            try:
                return work()
            finally:
                self._calling = False
        return None


def finish(
    plan: Plan,
    run: RunDir,
    console: Console,
    outcome: Outcome,
    started: float,
    interruption: Interruption,
    arrive: Callable[[], Arrived] | None = None,
    hook: Hook | None = None,
    made_of: Callable[[], Mapping[str, Any]] = dict,
) -> int:
    """Report a run, gather what it made, and write its files; return the exit code.

    arrive: of a run of several hosts: brings what those have that share no disk with this one. hook: has
    the last event to deliver. made_of: tells what the run is made of, if that has been found out by now.
    """
    report = outcome.report.split("\n") if outcome.report else []
    console.say(*report)
    gathered = _gathered(plan, run, outcome, interruption, arrive)
    evaluations = interruption.call(lambda: _evaluations(plan, run)) or ()
    code = outcome.exit_code or (1 if gathered.problems else 0)
    if not outcome.exit_code and interruption.number:
        code = 128 + interruption.number
    outcome = replace(outcome, exit_code=code)
    lines = closing_lines(plan, outcome, gathered, evaluations)
    console.say(*lines)
    text = "".join(line + "\n" for line in [*report, *lines])
    failed = {
        "report.txt": _failure(lambda: write_atomic(run.report, text.encode("utf-8", "backslashreplace"))),
        "result.json": _failure(
            lambda: run.write_json(run.result, _result(plan, outcome, gathered, started, made_of()))
        ),
    }
    console.say(*("npu-launch: " + line for line in _losses(run, failed)))
    if not any(failed.values()):
        page = _failure(lambda: interruption.call(lambda: _write_page(plan, run, outcome)))
        console.say(*[f"npu-launch: report.html: not written: {page}"][: bool(page)])
    console.finish()
    if hook is not None:
        interruption.call(hook.finish)
        console.finish()
    return code


def _gathered(
    plan: Plan,
    run: RunDir,
    outcome: Outcome,
    interruption: Interruption,
    arrive: Callable[[], Arrived] | None,
) -> Gathered:
    """Gather what the ranks made; whatever goes wrong there is a problem of the gathering alone."""

    def work() -> Gathered:
        arrived = arrive() if arrive else None
        elsewhere = arrived.ranks if arrived else ()
        ranks = plan.ranks if arrive else plan.local_ranks
        cwds = {spec.rank: spec.cwd for spec in ranks if spec.rank not in elsewhere}
        well = not outcome.exit_code
        return gather(run, [*cwds], plan.policy.gather, ended_well=well, cwds=cwds, arrived=arrived)

    try:
        gathered = interruption.call(work)
        if gathered is None:
            return Gathered(problems=(f"ended by {name(interruption.number)}",))
        json.dumps(asdict(gathered), indent=2)  # result.json must take it
        return gathered
    except Exception as error:
        import traceback

        log = AppendedFile(run.launcher_log)
        log.append(traceback.format_exc())
        log.close()
        return Gathered(problems=(describe(error),))


def _evaluations(plan: Plan, run: RunDir) -> Sequence[Mapping[str, float]]:
    """Read what the leading rank has evaluated; what cannot be read is no reason not to end."""
    from launcher.metrics import leading, series

    with suppress(LauncherError):
        rank = leading.leading_rank(run, [spec.rank for spec in plan.ranks])
        return series.evaluations(run.metrics(rank)) if rank is not None else ()
    return ()


def _result(
    plan: Plan, outcome: Outcome, gathered: Gathered, started: float, made_of: Mapping[str, Any]
) -> dict[str, Any]:
    """Return what result.json holds."""
    return {
        "job": plan.job,
        "run_id": plan.run_id,
        "backend": plan.backend,
        "ranks": plan.world_size,
        "devices": [spec.device_id for spec in plan.ranks],
        "started": started,
        "provenance": made_of or _provenance(plan, started),
        **asdict(gathered),
        **outcome.as_dict(),
    }


def _provenance(plan: Plan, started: float) -> dict[str, Any]:
    """Describe what the run was made of; what cannot be found out is not worth an error."""
    from launcher.checks import provenance

    with suppress(Exception):
        return provenance.take(plan, started)
    return {}


def _write_page(plan: Plan, run: RunDir, outcome: Outcome) -> None:
    """Write the page. plan.json holds no secrets: which ones to mask only this plan knows."""
    from launcher.masking import secret_values
    from launcher.page import run_page

    secrets = [value for spec in plan.ranks[:1] for value in secret_values(spec.env, spec.argv)]
    run_page.write(run, state="failed" if outcome.exit_code else "finished", secrets=secrets)


def _failure(write: Callable[[], None]) -> str:
    """Write a file; return why it could not be, "" when it was."""
    try:
        write()
    except OSError as error:
        return error.strerror or str(error)
    except Exception as error:
        return describe(error)
    return ""


def _losses(run: RunDir, failed: dict[str, str]) -> list[str]:
    """Say what is not on the disk, and why."""
    names: dict[str, list[str]] = {}
    for file, problem in failed.items():
        if problem:
            names.setdefault(problem, []).append(file)
    lines = [f"{' and '.join(files)}: cannot be written: {problem}" for problem, files in names.items()]
    gone = [] if run.in_place() else [f"{run.path}: moved or removed while the run went on"]
    return gone + lines
