"""The attempts of a run, on one host or several: until one needs no restart, or there may be no other."""

from __future__ import annotations

from typing import TYPE_CHECKING, Callable, NamedTuple

from launcher.diagnosis.failure import RankEnd, RankStatus
from launcher.supervision.context import RunContext
from launcher.supervision.events import Event
from launcher.supervision.result import Result

if TYPE_CHECKING:
    from launcher.supervision.restart_policy import Failure


class Last(NamedTuple):
    """The result that counts, the number of attempts, and why there is no other; "" where none is needed."""

    result: Result
    attempts: int
    why: str = ""


def in_turn(context: RunContext, attempt: Callable[[int], Result], again: Callable[[int], str]) -> Last:
    """Make attempts 0, 1, ...; `again` waits before restart 1, 2, ..., and says why there is none."""
    failures: list[Failure] = []
    failed: Result | None = None
    while True:
        number = len(failures)
        result = attempt(number)
        if result.interrupted or result.culprit is None:
            return Last(result, number + 1)
        if failed is not None and result.culprit.status is RankStatus.NOT_STARTED:
            return Last(failed, number + 1, result.culprit.detail)  # what made the restart necessary stands
        failed = result
        why = _refusal(context, result, result.culprit, failures) or again(number + 1)
        if why:
            return Last(result, number + 1, why if context.plan.policy.max_restarts else "")


def _refusal(context: RunContext, result: Result, culprit: RankEnd, failures: list[Failure]) -> str:
    """Take a failure; say why there is no restart, or announce the restart."""
    from launcher.supervision import restart_policy  # no run that ends well needs it
    from launcher.ui.report import headline

    saved = restart_policy.newest_checkpoint(context.plan, context.folder)
    reached = restart_policy.reached_step(context.plan, result.ends)
    failures.append(restart_policy.Failure(result.ends, culprit, result.seconds, saved, reached))
    standstill = restart_policy.no_progress(failures)
    if standstill:
        context.events.alert("no progress", reached if saved is None else saved, standstill)
    why = restart_policy.refusal(context.plan.policy, failures)
    if not why:
        number, most = len(failures), context.plan.policy.max_restarts
        context.events.record(Event.RESTART, attempt=number)
        context.events.announce(f"{headline(culprit)}; restart {number} of {most}")
    return why
