"""What the launcher said of a run while it went on: who was slow, and its alerts."""

from __future__ import annotations

import json
from typing import Any, Iterator, Mapping, NamedTuple

from launcher import foreign
from launcher.errors import ReadError
from launcher.run_dir import RunDir
from launcher.runs.registry import read_json
from launcher.ui.summary import settled

_FIELDS = {"straggler": "verdicts", "alert": "alerts"}


class Said(NamedTuple):
    """The lines that a person reads; of verdicts the last one on each finding."""

    verdicts: tuple[str, ...] = ()
    alerts: tuple[str, ...] = ()


def of_run(run: RunDir) -> Said:
    """Read it from the result, or of a run that has none, or an older one, from the events."""
    result = read_json(run.result)
    if not set(_FIELDS.values()) <= result.keys():
        result = _of_events(run)
    found = {name: list(_objects(result.get(name))) for name in _FIELDS.values()}
    return Said(_texts(settled(found["verdicts"])), _texts(found["alerts"]))


def _of_events(run: RunDir) -> dict[str, list[Any]]:
    found: dict[str, list[Any]] = {name: [] for name in _FIELDS.values()}
    try:
        lines = foreign.read_bytes(run.events, foreign.DOCUMENT).split(b"\n")
    except ReadError:
        return found
    for line in lines:
        try:
            event = json.loads(line.decode())
        except (ValueError, RecursionError):
            continue
        name = _FIELDS.get(str(event.get("event"))) if isinstance(event, dict) else None
        if name and isinstance(event.get("data"), dict):
            found[name].append({"rank": event.get("rank"), **event["data"]})
    return found


def _objects(value: Any) -> Iterator[Mapping[str, Any]]:
    yield from (item for item in value if isinstance(item, dict)) if isinstance(value, list) else ()


def _texts(items: Any) -> tuple[str, ...]:
    return tuple(item["text"][:300] for item in items if isinstance(item.get("text"), str))
