"""What happened, on a line of time and as a list."""

from __future__ import annotations

import time
from html import escape
from typing import Iterator, Mapping, NamedTuple, Sequence

from launcher.page.scale import Scale, number
from launcher.page.source import Happened, as_number, as_text
from launcher.page.svg import WIDTH, drawing, tick
from launcher.text import clock, label, named

MOST = 120  # rows that are listed; those between the first and the last ones are counted
_LANES = ("run", "ranks", "trouble")
_QUIET = {"run": 0, "restart": 0, "end": 0, "signal": 0, "started": 1, "ended": 1}  # lane; any other: trouble
_KINDS = {
    **dict.fromkeys(("run", "started", "swept", "restart"), ""),
    **dict.fromkeys(("straggler", "alert", "launcher_was_stopped", "unreadable"), "warn"),
}  # of events; any other is bad
_LEFT, _TALL = 66, 26
_TOLD, _LONGEST = 3, 80  # texts of a mark, and characters of each: a page stays small whatever happened


class Row(NamedTuple):
    """What happened at a time, once or to several ranks in a row."""

    clock: str
    after: float  # seconds since the run began
    event: str
    ranks: str
    text: str
    kind: str  # "", "warn" or "bad"


def rows(events: Sequence[Happened]) -> list[Row]:
    """List what happened; the same that happened to several ranks one after the other is one row."""
    found: list[Row] = []
    start = events[0].time if events else 0.0
    for group, kind in _groups(events):
        first = group[0]
        who = {one.rank for one in group if one.rank is not None}
        texts = [text for text in dict.fromkeys(map(_text, group)) if text]
        more = f" … and {len(texts) - 1} more" if texts[1:] else ""
        whose = label(who) if who else first.host
        text = (texts[0] if texts else "") + more
        found.append(Row(clock(first.time), first.time - start, first.event, whose, text, kind))
    return found


def _groups(events: Sequence[Happened]) -> Iterator[tuple[list[Happened], str]]:
    """Yield what goes into one row, and of what kind it is."""
    group: list[Happened] = []
    last = ("", "")
    for one, kind in zip(events, kinds(events)):
        if group and (one.rank is None or (one.event, kind) != last):
            yield group, last[1]
            group = []
        group.append(one)
        last = one.event, kind
    if group:
        yield group, last[1]


def listed(found: Sequence[Row]) -> tuple[Sequence[Row], int, Sequence[Row]]:
    """Return the first rows, how many are left out, and the last ones."""
    half = MOST // 2
    return (found, 0, ()) if len(found) <= MOST else (found[:half], len(found) - MOST, found[-half:])


def kinds(events: Sequence[Happened]) -> list[str]:
    """Tell of each event whether it is "bad", a warning, or usual: as are ranks that the launcher ends."""
    found, ending = [], False
    for one in events:
        ending = one.event == "teardown" or (ending and one.event != "restart")
        if one.event == "ended":
            found.append("" if ending or one.data.get("code") == 0 else "bad")
        elif one.event == "end":
            found.append("bad" if one.data.get("exit_code") else "")
        else:
            found.append(_KINDS.get(one.event, "bad"))
    return found


def _text(one: Happened) -> str:
    """Say in words what the data of an event are."""
    data = one.data
    said = next(
        (as_text(data.get(name)) for name in ("text", "detail", "why", "error") if data.get(name)), ""
    )
    if one.event == "run":
        return f"run {as_text(data.get('run_id'))}"
    if one.event == "started":
        return "the program runs"
    if one.event == "end":
        culprit = data.get("culprit")
        who = f", {named(culprit)} first" if isinstance(culprit, int) else ""
        return f"exit code {data.get('exit_code')!s:.12}{who}"
    if one.event == "ended":
        return f"exit code {data.get('code')!s:.12} after {number(as_number(data.get('seconds')) or 0.0)} s"
    rest = [
        f"{name} {str(value).strip('[]'):.200}"
        for name, value in data.items()
        if name not in ("text", "detail", "why", "error", "schema", "start") and value is not None
    ]
    return said or ", ".join(rest)


def backwards(events: Sequence[Happened]) -> int:
    """Count how often the clock went back by more than the ranks' lines may overlap."""
    return sum(
        late.time < early.time - 1 for early, late in zip(events, events[1:]) if late.host == early.host
    )


def line_of_time(events: Sequence[Happened]) -> str:
    """Draw the events over seconds; "" when there is none."""
    if not events:
        return ""
    start = min(one.time for one in events)
    scale = Scale([one.time - start for one in events] + [0.0], _LEFT, WIDTH - 12)
    bottom = 8 + _TALL * len(_LANES)
    body = [
        part
        for lane, name in enumerate(_LANES)
        for part in (
            tick(_LEFT - 10, 8 + _TALL * lane + 17, name, "end"),
            f'<path class="grid" d="M{_LEFT} {8 + _TALL * lane + 13}H{WIDTH - 12}"/>',
        )
    ]
    ticks = scale.ticks(7)
    for value in ticks:
        last = " s" if value == ticks[-1] else ""
        body.append(tick(scale.at(value), bottom + 14, number(value) + last, "end" if last else "middle"))
    body += [_mark(at, lane, kind, texts) for (at, lane, kind), texts in _marks(events, start, scale).items()]
    return drawing("time", bottom + 20, "Events over the seconds since the run began", body)


def _marks(
    events: Sequence[Happened], start: float, scale: Scale
) -> Mapping[tuple[int, int, str], list[str]]:
    """Put together what would lie upon another."""
    found: dict[tuple[int, int, str], list[str]] = {}
    for one, kind in zip(events, kinds(events)):
        lane = _QUIET.get(one.event, 2)
        who = f"{named(one.rank)} " if one.rank is not None else ""
        text = f"{one.time - start:.1f} s: {who}{one.event} {_text(one):.{_LONGEST}}"
        found.setdefault((round(scale.at(one.time - start) / 8) * 8, lane, kind), []).append(text)
    return found


def _mark(at: int, lane: int, kind: str, texts: Sequence[str]) -> str:
    y = 8 + _TALL * lane + 13
    shown = [*texts[:_TOLD], *([f"… and {len(texts) - _TOLD} more"] if texts[_TOLD:] else [])]
    return (
        f'<circle class="{f"event {kind}".strip()}" cx="{at}" cy="{y}" r="5">'
        f"<title>{escape(chr(10).join(shown))}</title></circle>"
    )


def day(moment: float) -> str:
    """Render a date and time with its zone."""
    return time.strftime("%Y-%m-%d %H:%M:%S %Z", time.localtime(moment))
