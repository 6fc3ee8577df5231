"""What the launcher said of slow ranks, and its alerts; where nobody looked for any, what the rows show."""

from __future__ import annotations

from contextlib import suppress
from typing import Any, Mapping

from launcher.errors import ReadError
from launcher.metrics import alerts
from launcher.page.source import Happened, Source, as_text

MOST = 100


def said(source: Source) -> Mapping[str, Any]:
    """List (kind, text) of what was said, and a note on where it is from."""
    told = [one for one in source.events if one.event in ("straggler", "alert")]
    found = [(as_text(one.data.get("kind")) or one.event, _text(one)) for one in told]
    later = [] if _was_watched(source) else [(alert.kind, alert.text) for alert in _looked_for(source)]
    note = f"No alert was recorded: {len(later)} of these are by the rows of metrics.jsonl." if later else ""
    return {"said": [*found, *later][:MOST], "note": note}


def _text(one: Happened) -> str:
    """Return the line that a person reads; of releases before 0.2.0, what there was."""
    text = as_text(one.data.get("text"))
    who = f"rank {one.rank}: " if one.rank is not None else ""
    return text or f"{who}step {one.data.get('step')!s:.20}, usual {one.data.get('usual')!s:.20}"


def _was_watched(source: Source) -> bool:
    """Tell whether a launcher looked for alerts: one that does says so at the end, or is still at it."""
    told = any(one.event == "alert" for one in source.events)
    return told or "alerts" in source.result or source.state == "running" or source.leading is None


def _looked_for(source: Source) -> list[alerts.Alert]:
    policy = vars(source.plan.policy) if source.plan else {}
    limits = {name: policy[f"alert_{name}"] for name in ("loss", "throughput") if f"alert_{name}" in policy}
    with suppress(ReadError):  # the curves name it
        return alerts.over(source.run.metrics(source.leading or 0), **limits)
    return []
