"""Whether a failed run is started again, and when."""

from __future__ import annotations

import os
import re
import signal
from dataclasses import dataclass
from typing import Callable, Sequence

from launcher.config.checks import HEARTBEAT_VARIABLE
from launcher.diagnosis.exit_codes import AGAIN
from launcher.diagnosis.failure import RankEnd, RankStatus
from launcher.diagnosis.verdict import exit_code_of
from launcher.errors import UsageError
from launcher.plan.model import Plan, Policy
from launcher.run_dir import RunDir
from launcher.runs import gather
from launcher.ui.report import normalised

QUICK = 10.0  # seconds: the same traceback within this time will come again
NPU_REST = 10.0  # seconds that a device needs after a process on it was killed (EJ0001)
NPU_PATIENCE = 120.0  # seconds to wait until npu-smi shows the devices free
STUCK = 3  # restarts without progress after which there is no other
BACK_OFF, LONGEST_BACK_OFF = 0.5, 30.0  # seconds before the first restart, and at most

Busy = Callable[[Plan], str]  # names who still uses a device of the plan; "": nobody


@dataclass(frozen=True)
class Failure:
    """A failed attempt."""

    ends: tuple[RankEnd, ...]
    culprit: RankEnd
    seconds: float
    checkpoint: int | None = None  # the highest step of those that the run has reported until then
    reached: int | None = None  # the highest training step of the attempt; None: not known

    @property
    def signature(self) -> str:
        """What two failures of one cause have in common; "" when there is no traceback."""
        error = self.culprit.error
        return normalised(error.traceback, self.culprit.rank) if error and error.fatal else ""


def matches(word: str, failure: Failure) -> bool:
    """Tell whether a condition of --restart-on holds.

    Raises:
        UsageError: it is not a condition.
    """
    kind, _, value = word.partition(":")
    culprit = failure.culprit
    if word == "hang":
        return culprit.status in (RankStatus.HUNG, RankStatus.EXITED_EARLY, RankStatus.SILENT)
    if kind == "exit" and value.isdigit():
        return exit_code_of(failure.ends, culprit) == int(value) and culprit.status is not RankStatus.HUNG
    if kind == "signal" and value:
        return culprit.signal == number(value)
    raise UsageError(f"restart_on: {word!r}: invalid condition; expected exit:CODE, signal:NAME or hang")


def number(name: str) -> int:
    """Parse a signal: KILL, SIGKILL, 9, RTMIN+3. UsageError: there is no such signal."""
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
        text = f"restart_on: signal:{name}: no such signal; expected KILL, SEGV, ... or a number"
        raise UsageError(text) from None


def refusal(policy: Policy, failures: Sequence[Failure]) -> str:
    """Explain why the run is not started again after the last failure; "" when it is."""
    last = failures[-1]
    if len(failures) > policy.max_restarts:
        return f"no restart left (max_restarts {policy.max_restarts})"
    if last.culprit.status is RankStatus.NOT_STARTED:
        return "a rank could not be started"
    if last.culprit.code == AGAIN:
        return "its time is over"
    if last.culprit.signal == signal.SIGUSR1:
        return "SIGUSR1, the sign that its time is over, ended it"
    if policy.restart_on and not any(matches(word, last) for word in policy.restart_on):
        return f"restart_on ({', '.join(policy.restart_on)}) does not name this failure"
    standstill = no_progress(failures)
    if standstill:
        return standstill
    same = len(failures) > 1 and last.signature and last.signature == failures[-2].signature
    if same and last.seconds < QUICK:
        return f"the same traceback came back within {last.seconds:.1f} s"
    return ""


def no_progress(failures: Sequence[Failure]) -> str:
    """Say why the last restarts have brought nothing; "" where they have, or it is not known.

    Checkpoints are what counts. A run that gets further each time may yet come to one; one whose attempts all
    end after the same step does not, also where nothing is known of its checkpoints.
    """
    last = failures[-STUCK - 1 :]
    saved = [failure.checkpoint for failure in last if failure.checkpoint is not None]
    reached = [failure.reached for failure in last if failure.reached is not None]
    if len(last) <= STUCK or (saved and saved[-1] > saved[0]):
        return ""
    further = len(reached) == len(last) and all(early < late for early, late in zip(reached, reached[1:]))
    if len(saved) == len(last) and not further:
        return f"no checkpoint beyond step {saved[-1]} in {STUCK} restarts"
    if len(reached) == len(last) and len(set(reached)) == 1:
        return f"{len(last)} attempts in a row ended after step {reached[0]}"
    return ""


def reached_step(plan: Plan, ends: Sequence[RankEnd]) -> int | None:
    """Return the highest training step that the ranks of an attempt told; None: it is not known.

    Where the launcher's own hooks tell the steps (launcher/beats.py), they count anew in each attempt.
    """
    if any(HEARTBEAT_VARIABLE in spec.env for spec in plan.ranks):
        return None
    return max((end.step for end in ends), default=0) or None


def newest_checkpoint(plan: Plan, run: RunDir) -> int | None:
    """Return the highest step of the checkpoints that ranks have reported; None: it is not known.

    A report that cannot be read may be the one of a newer checkpoint, so then nothing is known (as NVRx's
    progress_tracker has it).
    """
    if plan.policy.max_restarts <= STUCK:  # nobody asks
        return None
    problems: list[str] = []
    cwds = {spec.rank: spec.cwd for spec in plan.ranks}
    found = gather.read_reports(run, [*cwds], cwds, problems, ended_well=False)
    return max((item.step for item in found.checkpoints), default=None) if not problems else None


def back_off(attempt: int) -> float:
    """Return the seconds to wait before restart 1, 2, ..."""
    return float(min(LONGEST_BACK_OFF, BACK_OFF * 2 ** (attempt - 1)))


def device_holders(plan: Plan) -> str:
    """Name who still uses an NPU of a plan, as npu-smi has it; "" when nobody does."""
    if plan.backend != "npu":
        return ""
    from launcher.checks.machine import TOOL_TIMEOUT
    from rank_table.sources import chips
    from rank_table.sources.tools import Machine

    seen = chips.look(Machine(os.environ, timeout=TOOL_TIMEOUT))
    held = [
        f"device {chip.device_id}: {', '.join(map(str, chip.processes))}"
        for chip in seen.of([spec.device_id for spec in plan.local_ranks])
        if chip.processes
    ]
    return "; ".join(held)


def wait_until_free(plan: Plan, busy: Busy, sleep: Callable[[float], bool], now: Callable[[], float]) -> str:
    """Wait until the devices are free; return "" then, else who holds them, or "interrupted".

    `sleep` waits some seconds; it returns False when the run is to end.
    """
    if plan.backend == "npu" and not sleep(NPU_REST):
        return "interrupted"
    end = now() + NPU_PATIENCE
    while True:
        holder = busy(plan)
        if not holder or now() >= end:
            return holder
        if not sleep(1.0):
            return "interrupted"
