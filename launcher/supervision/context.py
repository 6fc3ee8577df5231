"""What every part of a run's supervision works with."""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import TYPE_CHECKING

from launcher.plan.model import Plan
from launcher.run_dir import RunDir
from launcher.supervision.events import EventLog
from launcher.ui.console import Console

if TYPE_CHECKING:  # loaded when a run has gone on for some seconds
    from launcher.supervision.alerts import Alerts

LOOK = 5.0  # seconds between two looks for alerts, and before the first


class Watch:
    """When alerts of a run are looked for. unseen: ranks that write on a disk of another host only."""

    def __init__(self, unseen: frozenset[int] = frozenset()) -> None:
        self._unseen, self._due = unseen, 0.0
        self._alerts: Alerts | None = None

    def look(self, context: RunContext, now: float, last: bool) -> None:
        """Look if it is time to. last: an attempt has ended."""
        if last:
            paths = (str(context.folder.metrics(spec.rank)) for spec in context.plan.ranks)
            if self._alerts is None and not any(map(os.path.exists, paths)):
                return
        else:
            waits = not self._due or now < self._due
            if not self._due or not waits:
                self._due = now + LOOK
            if waits:
                return
        with context.events.surviving("the search for alerts"):
            if self._alerts is None:
                from launcher.supervision.alerts import Alerts

                self._alerts = Alerts(context, self._unseen)
            self._alerts.look(now, last)


@dataclass(frozen=True)
class RunContext:
    """The plan of a run, its folder, where it reports; what looks for alerts, if anything does."""

    plan: Plan
    folder: RunDir
    console: Console
    events: EventLog
    watch: Watch | None = None

    def look(self, now: float, last: bool = False) -> None:
        """Look for alerts if it is time to. last: an attempt has ended."""
        if self.watch is not None:
            self.watch.look(self, now, last)
