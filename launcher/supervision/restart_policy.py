"""Whether a failed run is started again, and when. Pure, but for `wait`."""

from __future__ import annotations

import re
import signal
from dataclasses import dataclass
from typing import Callable, Sequence

from launcher.diagnosis.failure import RankEnd, State, exit_code_of
from launcher.errors import UsageError
from launcher.plan.model import Plan, Policy
from launcher.ui.report import normalised

QUICK = 10.0  # seconds: the same traceback sooner than this is a loop, not bad luck
NPU_REST = 10.0  # seconds a device needs after a process on it was killed (EJ0001)
NPU_PATIENCE = 120.0  # seconds to wait until npu-smi shows the devices free
BACK_OFF, LONGEST_BACK_OFF = 0.5, 30.0  # seconds before the first restart, and at most

Busy = Callable[[Plan], str]  # who still uses a device of the plan, "" when nobody does


@dataclass(frozen=True)
class Failure:
    """Hold what a restart is decided on."""

    ends: tuple[RankEnd, ...]
    culprit: RankEnd
    seconds: float

    @property
    def signature(self) -> str:
        """Give what two failures of one cause have in common; "" when there is no traceback."""
        error = self.culprit.error
        return normalised(error.traceback, self.culprit.rank) if error and error.fatal else ""


def matches(word: str, failure: Failure) -> bool:
    """Tell whether a condition of --restart-on holds.

    Raises:
        UsageError: it is none.
    """
    kind, _, value = word.partition(":")
    culprit = failure.culprit
    if word == "hang":
        return culprit.state in (State.HUNG, State.EARLY, State.SILENT)
    if kind == "exit" and value.isdigit():
        return exit_code_of(failure.ends, culprit) == int(value) and culprit.state is not State.HUNG
    if kind == "signal" and value:
        return culprit.code == -number(value)
    raise UsageError(f"restart_on: {word!r}; give exit:CODE, signal:NAME or hang")


def number(name: str) -> int:
    """Give a signal's number: KILL, SIGKILL, 9, RTMIN+3. UsageError: there is no such signal."""
    text = name.upper()
    text = text[3:] if text.startswith("SIG") else text
    offset = re.match(r"RTMIN\+(\d+)$", text)
    if offset:
        return signal.SIGRTMIN + int(offset.group(1))
    if text.isdigit():
        return int(text)
    try:
        return int(signal.Signals["SIG" + text])
    except KeyError:
        text = "restart_on: signal:%s: no such signal; give KILL, SEGV, ... or a number"
        raise UsageError(text % name) from None


def refusal(policy: Policy, failures: Sequence[Failure]) -> str:
    """Say why the run is not started again ("" when it is). The last failure is the one at hand."""
    last = failures[-1]
    if len(failures) > policy.max_restarts:
        return f"no restart left (max_restarts {policy.max_restarts})"
    if last.culprit.state is State.NOT_STARTED:
        return "a rank could not be started"
    if policy.restart_on and not any(matches(word, last) for word in policy.restart_on):
        return "restart_on ({}) does not name this failure".format(", ".join(policy.restart_on))
    same = len(failures) > 1 and last.signature and last.signature == failures[-2].signature
    if same and last.seconds < QUICK:
        return f"the same traceback came back within {last.seconds:.1f} s"
    return ""


def back_off(attempt: int) -> float:
    """Give the seconds before attempt 1, 2, ..."""
    return float(min(LONGEST_BACK_OFF, BACK_OFF * 2 ** (attempt - 1)))


def npu_busy(plan: Plan) -> str:
    """Name who still uses a device of a plan on NPU, from npu-smi and open device files."""
    import os

    from launcher.checks.machine import Machine
    from launcher.checks.npu import read_cards

    wanted = {spec.device_id for spec in plan.local_ranks}
    cards = read_cards(Machine(os.environ).output("npu-smi", "info"))
    held = [
        f"device {card.device_id}: {', '.join(card.holders)}"
        for card in cards
        if card.device_id in wanted and card.holders
    ]
    return "; ".join(held)


def until_free(
    plan: Plan, busy: Busy, sleep: Callable[[float], bool], now: Callable[[], float], killed: bool
) -> str:
    """Wait until the devices are free; return "" then, else who holds them, or "interrupted".

    `sleep` waits some seconds and tells whether the run may go on.
    """
    if plan.backend == "npu" and killed and not sleep(NPU_REST):
        return "interrupted"
    end = now() + NPU_PATIENCE
    while True:
        holder = busy(plan)
        if not holder or now() >= end:
            return holder
        if not sleep(1.0):
            return "interrupted"
