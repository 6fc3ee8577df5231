"""What every part of a run's supervision works with."""

from __future__ import annotations

from dataclasses import dataclass

from launcher.plan.model import Plan
from launcher.run_dir import RunDir
from launcher.supervision.events import EventLog
from launcher.ui.console import Console


@dataclass(frozen=True)
class RunContext:
    """The plan of a run, its folder, and where it reports."""

    plan: Plan
    folder: RunDir
    console: Console
    events: EventLog
