"""The curves of a run, and the picture of who was slow when."""

from __future__ import annotations

from bisect import bisect_left
from typing import Iterator, Mapping, NamedTuple, Sequence

from launcher.metrics.series import Row
from launcher.metrics.stragglers import NOT_SPLIT
from launcher.page.heat import heat_map
from launcher.page.shown import shown
from launcher.page.source import Happened, RankFacts, Source, as_number, as_text
from launcher.page.svg import Band, Line, line_chart

_WIDE = 100  # largest by smallest value from which an axis is logarithmic
_MOST_OTHERS = 6  # charts of fields that only the user's program knows
_RATES = ("examples_per_second", "examples_per_second_per_device")
_LOSSES = ("loss", "own_loss")
_FIGURES = {"eval_f1": "F1", "eval_exact": "EM", "eval_span_f1": "span F1"}
# Fields of a row that have a chart, or a place in one, or are for other parts of the page.
_KNOWN = frozenset((*_LOSSES, *_RATES)) | frozenset(
    "step time epoch learning_rate gradient_norm loss_scale skipped_steps interval_steps interval_examples "
    "interval_tokens input_s own_s wait_s save_s".split()
)


class Chart(NamedTuple):
    """A drawing, or why there is none. note: what a reader should know of it."""

    name: str
    drawing: str
    note: str = ""


def charts(source: Source) -> list[Chart]:
    """Draw what the leading rank wrote: the usual curves, then the fields of the user's own."""
    rows, bands = source.rows, marks(source.rows, source.events)
    usual = [
        _loss(source, bands),
        *_evaluations(source.evaluations, bands),
        _chart("Learning rate", [_line(rows, "learning_rate", "learning rate")], bands, plain=True),
        _chart("Gradient norm", [_line(rows, "gradient_norm", "gradient norm")], bands),
        _loss_scale(rows, bands),
        _throughput(rows, bands),
    ]
    return usual + list(_others(source, bands))


def _loss(source: Source, bands: Sequence[Band]) -> Chart:
    rows = source.rows
    lines = [_line(rows, "loss", "loss"), _line(rows, "own_loss", f"own share of rank {source.leading}")]
    chart, lost = _chart("Loss", lines, bands), _lost(source.lost)
    return Chart("Loss", chart.drawing, lost or chart.note)


def _evaluations(rows: Sequence[Row], bands: Sequence[Band]) -> Iterator[Chart]:
    """Draw the figures of evaluations, where there were any."""
    if rows:
        lines = [_line(rows, field, name) for field, name in _FIGURES.items()]
        yield _chart("Evaluations", lines, bands, unit="%", plain=True)


def _loss_scale(rows: Sequence[Row], bands: Sequence[Band]) -> Chart:
    """Draw the loss scale with the steps that were skipped; a sentence does where nothing happened to it."""
    scales = {row["loss_scale"] for row in rows if "loss_scale" in row}
    skipped = max((row.get("skipped_steps", 0.0) for row in rows), default=0.0)
    if scales == {1.0} and not skipped:
        return Chart("Loss scale", "", "Loss scale 1 throughout, no overflow.")
    lines = [_line(rows, "loss_scale", "loss scale")]
    note = f"{skipped:,.0f} step(s) skipped for an overflow." if rows else ""
    return _chart("Loss scale and overflows", lines, [*bands, *overflows(rows)], note=note)


def _throughput(rows: Sequence[Row], bands: Sequence[Band]) -> Chart:
    lines = [_line(rows, _RATES[0], "all ranks"), _line(rows, _RATES[1], "per device")]
    return _chart("Throughput", lines, bands, unit="examples/s", plain=True)


def _others(source: Source, bands: Sequence[Band]) -> Iterator[Chart]:
    """Draw some of the fields that only the user's program knows, and name the others."""
    names = sorted({name for row in source.rows for name in row} - _KNOWN)
    for name in names[:_MOST_OTHERS]:
        title = shown(name, source.secrets)[:40]
        yield _chart(title, [_line(source.rows, name, title)], bands)
    if names[_MOST_OTHERS:]:
        yield Chart("More", "", f"Not drawn: {', '.join(names[_MOST_OTHERS:][:20])}.")


def _line(rows: Sequence[Row], field: str, name: str) -> Line:
    """Take a field out of the rows: a row that lacks it, as null was written, is a gap."""
    there = any(field in row for row in rows)
    return Line(name, [(row["step"], row.get(field)) for row in rows] if there else [])


def _chart(
    name: str,
    lines: Sequence[Line],
    bands: Sequence[Band],
    unit: str = "",
    note: str = "",
    plain: bool = False,
) -> Chart:
    """Draw curves; plain: on a linear axis, however far the values reach."""
    lines = [line for line in lines if line.points]
    values = [y for line in lines for _, y in line.points if y is not None]
    if not values:
        return Chart(name, "", f"{name}: nothing was written.")
    wide = not plain and min(values) > 0 and max(values) > _WIDE * min(values)
    return Chart(name, line_chart(lines, name, unit, log=wide, bands=bands), note)


def _lost(gone: frozenset[float]) -> str:
    """Say at which steps the loss was no number: null stands there in the file."""
    if not gone:
        return ""
    return f"No number was written as the loss at {len(gone)} place(s), the first at step {min(gone):,.0f}."


def overflows(rows: Sequence[Row]) -> list[Band]:
    """Mark the intervals in which steps were skipped."""
    found, before = [], 0.0
    for row in rows:
        skipped = row.get("skipped_steps", before)
        if skipped > before:
            words = f"until step {row['step']:,.0f}: {skipped - before:,.0f} step(s) skipped for an overflow"
            found.append(Band(row["step"], row["step"], words, alert=True))
        before = skipped
    return found


def marks(rows: Sequence[Row], events: Sequence[Happened]) -> list[Band]:
    """Mark restarts, alerts and verdicts on the axis of steps."""
    found = []
    times = [row.get("time", 0.0) for row in rows]
    in_order = all(early <= late for early, late in zip(times, times[1:]))
    for one in events:
        step = as_number(one.data.get("since", one.data.get("step")))
        text = as_text(one.data.get("text")) or one.event
        if one.event == "restart" and rows and in_order:
            place = min(bisect_left(times, one.time), len(rows) - 1)
            found.append(Band(rows[place]["step"], rows[place]["step"], "restart"))
        elif one.event in ("alert", "straggler") and step is not None:
            found.append(Band(step, step, f"step {step:,.0f}: {text}", alert=True))
    return found


def slowness(ranks: Mapping[int, RankFacts]) -> Chart:
    """Draw each rank's own seconds per step over the run."""
    title = f"{own_words(ranks)} time per step"
    steps = sorted({step for facts in ranks.values() for step in facts.own})
    columns = [f"step {step:,.0f}" for step in steps]
    values = [[facts.own.get(step) for step in steps] for facts in ranks.values()]
    drawing = heat_map([f"rank {rank}" for rank in ranks], columns, values, title, "s")
    if not drawing:
        return Chart(title, "", "The ranks wrote no own_s per interval into metrics.jsonl.")
    notes = [f"{NOT_SPLIT[0].upper()}{NOT_SPLIT[1:]}."] if not are_split(ranks) else []
    notes += ["Of long files only the last part was read."] if any(one.cut for one in ranks.values()) else []
    return Chart(title, drawing, " ".join(notes))


def are_split(ranks: Mapping[int, RankFacts]) -> bool:
    """Tell whether own time is own work alone; a rank that is alone waits for no other."""
    return len(ranks) < 2 or all(facts.split for facts in ranks.values())


def own_words(ranks: Mapping[int, RankFacts]) -> str:
    """Say what the ranks' own time is."""
    return "Own" if are_split(ranks) else "Own and waiting"
