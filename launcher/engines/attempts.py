"""The attempts of a run on several hosts, and its outcome."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from launcher.diagnosis.failure import Outcome
from launcher.errors import LauncherError, describe
from launcher.hosts.closing import dismiss
from launcher.hosts.fleet import named
from launcher.hosts.head import Head
from launcher.hosts.session import Interrupted
from launcher.process.signals import ENDING, Signals
from launcher.supervision import restart_policy
from launcher.supervision.attempts import in_turn
from launcher.supervision.context import RunContext, Watch
from launcher.supervision.events import EventLog
from launcher.supervision.result import Result
from launcher.supervision.supervisor import Reserve, ended, outcome_of
from launcher.ui.console import Console

if TYPE_CHECKING:
    from launcher.engines.several import Opening
    from launcher.supervision.hook import Hook


class Attempts:
    """The attempts of one run. opening: that of the first, and of each after it."""

    def __init__(
        self, opening: Opening, signals: Signals, console: Console, hook: Hook | None = None
    ) -> None:
        self._opening, self._signals, self._console = opening, signals, console
        self._policy = opening.plan.policy
        self._events = EventLog(opening.run, console, hook)
        unseen = [rank for host in opening.session.fleet if not host.sees_disk for rank in host.ranks]
        self._context = RunContext(opening.plan, opening.run, console, self._events, Watch(frozenset(unseen)))
        self._interrupted = 0

    def run(self) -> Outcome:
        """Run attempts until one needs no restart; no exception comes from what hosts and ranks do."""
        begin = time.monotonic()
        reserve = Reserve(self._opening.run)
        self._events.begin(self._opening.plan.run_id)
        try:
            result, attempts, why = in_turn(self._context, self._attempt, self._again)
            seconds = time.monotonic() - begin
            outcome = outcome_of(self._context, result, attempts, why, seconds, self._interrupted)
        except LauncherError as error:
            outcome = Outcome(error.exit_code, (), None, str(error), 1, time.monotonic() - begin)
        except Exception as error:
            import traceback

            self._events.debug(traceback.format_exc())
            text = f"{describe(error)}; see {self._opening.run.launcher_log}"
            outcome = Outcome(LauncherError.exit_code, (), None, text, 1, time.monotonic() - begin)
        finally:
            reserve.release()
        return ended(self._context, outcome)

    def _attempt(self, number: int) -> Result:
        self._opening.session.console = self._console
        lease = self._opening.job.config.lease
        return Head(self._opening.session, self._context, lease, number).run()

    def _again(self, number: int) -> str:
        """Start new agents after a while; return why not, "" when they are ready."""
        lost = [host for host in self._opening.session.fleet if host.lost]
        dismiss(self._opening.session)
        rest = restart_policy.NPU_REST if self._opening.plan.backend == "npu" else 0.0
        try:
            self._sleep(restart_policy.back_off(number) + rest)
            self._opening.again(number, self._console)
        except Interrupted as signal:
            self._interrupted = signal.number
            return "interrupted"
        except LauncherError as error:
            before = f" ({named(lost)} {'was' if len(lost) == 1 else 'were'} lost before)" if lost else ""
            return "; ".join(error.lines) + before
        return ""

    def _sleep(self, seconds: float) -> None:
        """Wait. Interrupted: a signal that ends the run has come."""
        import select

        end = time.monotonic() + seconds
        while time.monotonic() < end:
            select.select([self._signals.descriptor], [], [], max(0.0, end - time.monotonic()))
            for number in self._signals.take():
                if number in ENDING:
                    raise Interrupted(number)
