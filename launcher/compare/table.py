"""A comparison as lines for a person."""

from __future__ import annotations

import io
from typing import Iterator, Sequence

from launcher.compare.align import step_at
from launcher.compare.comparison import Comparison, Side
from launcher.compare.figures import TOLERANCE, Error, Oddities
from launcher.compare.rates import Rate
from launcher.compare.verdict import NOT_JUDGED, percent, plain

MOST_DIFFERENCES = 40
MOST_SAID = 8  # verdicts of a side, and alerts
_NAMES = {"exact": "EM", "f1": "F1"}

Rows = Sequence[Sequence[str]]


def lines(found: Comparison, width: int) -> list[str]:
    """Return the lines of one comparison, for a terminal of such width."""
    shown: list[str] = []
    for title, rows, notes in sections(found):
        body = [*columns(rows, width - 2), *columns([[note] for note in notes], width - 2)]
        shown += ["", *columns([[title]], width), *("  " + line for line in body)]
    return shown[1:]


def columns(rows: Rows, width: int) -> list[str]:
    """Align the cells of rows; what is too wide goes on in a next line of its column."""
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    if not rows:
        return []
    table = Table(box=None, show_header=False, pad_edge=False, padding=(0, 2, 0, 0))
    for _ in range(max(map(len, rows))):
        table.add_column(overflow="fold")
    for row in rows:
        table.add_row(*map(Text, row))
    out = io.StringIO()
    Console(file=out, width=max(width, 20), highlight=False, color_system=None).print(table)
    return [line.rstrip() for line in out.getvalue().rstrip("\n").split("\n")]


def sections(found: Comparison) -> Iterator[tuple[str, Rows, Sequence[str]]]:
    """Yield the parts of a comparison: title, rows of cells, notes."""
    a, b = found.a, found.b
    yield (
        f"{a.name} and {b.name}",
        [_about(side) for side in (*found.members, *([] if found.members else [a]), b)],
        [f"{side.name}: {note}" for side in (a, b) for note in side.curve.notes],
    )
    yield from _differences(found)
    yield _loss(found)
    yield _rates(found)
    yield from _scores(found)
    yield from _said(found)
    rows = [(rule.outcome, rule.name, rule.figures) for rule in found.rules]
    yield f"rules ({found.rule}: {found.why})", rows, [f"verdict: {verdict_line(found)}"]


def verdict_line(found: Comparison) -> str:
    """Say the verdict in one line, and what it leaves out."""
    failed = [rule.name for rule in found.rules if rule.outcome == "fail"]
    open_rules = [rule.name for rule in found.rules if rule.outcome == NOT_JUDGED]
    text = f"{found.b.name} against {found.a.name}: {found.outcome}" + (
        f" ({', '.join(failed)})" if failed else ""
    )
    return text + (f"; not judged: {', '.join(open_rules)}" if open_rules else "")


def _about(side: Side) -> Sequence[str]:
    curve = side.curve
    parts = [f"{len(curve.points)} points"]
    steps = [point.step for point in curve.points if point.step is not None]
    parts += [f"step {min(steps)} to {max(steps)}"] if steps else []
    parts += [f"{curve.ranks} device{'s' if curve.ranks > 1 else ''}"] if curve.ranks else []
    parts += [f"global batch {curve.global_batch}"] if curve.global_batch else []
    return side.name, side.word, curve.kind, ", ".join(parts)


def _differences(found: Comparison) -> Iterator[tuple[str, Rows, Sequence[str]]]:
    sides = (found.a, found.b)
    notes = [f"{side.name} names no settings" for side in sides if not (side.curve.settings or side.settings)]
    more = len(found.differences) - MOST_DIFFERENCES
    if more > 0:
        notes.append(f"... and {more} more; --json lists all")
    listed = [(one.name, _value(one.a), _value(one.b)) for one in found.differences[:MOST_DIFFERENCES]]
    if listed or notes:
        yield "what differs", [("", found.a.name, found.b.name), *listed] if listed else [], notes


def _value(text: str | None) -> str:
    return "-" if text is None else text if len(text) <= 200 else text[:197] + "..."


def _loss(found: Comparison) -> tuple[str, Rows, Sequence[str]]:
    aligned, loss = found.aligned, found.loss
    odd = [
        ("", found.a.name, found.b.name),
        ("NaN or infinite", *map(_not_finite, (loss.a, loss.b))),
        ("spikes", *(f"{side.spikes} of {side.points}" for side in (loss.a, loss.b))),
    ]
    if aligned.problem:
        return "loss: not compared", odd if loss.a.points or loss.b.points else [], [aligned.problem]
    a, b = found.a.name, found.b.name
    header = ("", "places", f"mean |{b}-{a}|", f"mean |{b}-{a}|/|{a}|", "means apart by")
    rows = [header] + [
        (name, str(error.places), plain(error.absolute), percent(error.relative), _signed(error.level))
        for name, error in (("all", loss.whole), ("early", loss.early), ("late", loss.late))
    ]
    first, last = aligned.pairs[0].place, aligned.pairs[-1].place
    title = f"loss, by {aligned.by}: {first:,.0f} to {last:,.0f}"
    notes = [*aligned.notes, *_parting(found), *_remarks(loss.whole)]
    if loss.correlation is not None:
        notes.append(f"correlation of the smoothed curves {loss.correlation:.4f}")
    if found.within is not None:
        notes.append(f"{found.within:.0%} of the places of {b} lie in the band of the benchmark")
    return title, [*rows, *odd], notes


def _not_finite(side: Oddities) -> str:
    text = f"{side.not_finite} of {side.points}"
    return text if side.first_not_finite is None else f"{text}, from {side.first_not_finite:,.0f} on"


def _parting(found: Comparison) -> list[str]:
    """Say where the curves part, as the place to look into (train_debug_guide 1.3)."""
    parting, pairs = found.loss.parting, found.aligned.pairs
    if parting.first is None:
        return [f"nowhere beyond {TOLERANCE:.0%}"]
    text = f"beyond {TOLERANCE:.0%} first at {_place(found, parting.first)}"
    if parting.lasting is None:
        return [f"{text}; not at the end"]
    text += (
        f"; for good from {_place(found, parting.lasting)}: the last {parting.left} of {len(pairs)} places"
    )
    if parting.first == pairs[0].place:
        text += "; the first place differs already: look at data, weights and the forward pass"
    return [text]


def _place(found: Comparison, place: float) -> str:
    """Name a place, and beside examples the step of each side."""
    by = found.aligned.by
    steps = (
        [(side.name, step_at(side.curve, place, by)) for side in (found.a, found.b)]
        if by == "examples"
        else []
    )
    told = ", ".join(f"step {step} of {name}" for name, step in steps if step is not None)
    return f"{place:,.0f} {by}" + (f" ({told})" if told else "")


def _remarks(error: Error) -> list[str]:
    alone = error.only_a + error.only_b
    texts = (
        (error.zeros, "where the loss of the benchmark is 0 have no relative error"),
        (alone, "are NaN or infinite on one side alone, and in no mean"),
    )
    return [f"{count} place(s) {text}" for count, text in texts if count]


def _rates(found: Comparison) -> tuple[str, Rows, Sequence[str]]:
    rates = found.rates
    if rates.problem:
        return "examples/s: not compared", [], [rates.problem]
    rows: list[Sequence[str]] = [("", found.a.name, found.b.name, f"{found.b.name}/{found.a.name}")]
    for one in rates.rates:
        rows.append((one.unit, *map(_rate, (one.a, one.b)), f"{one.ratio:.3f}"))
    first = rates.rates[0]
    rows.append(
        (
            "intervals",
            *(f"{side.intervals}" + (f" (+{side.slow} slow)" if side.slow else "") for side in first[1:3]),
        )
    )
    return (
        "examples/s: median (p5 to p95), without the first interval and slow ones (saves)",
        rows,
        rates.notes,
    )


def _rate(rate: Rate) -> str:
    return f"{rate.median:,.5g} ({rate.p5:,.5g} to {rate.p95:,.5g})"


def _scores(found: Comparison) -> Iterator[tuple[str, Rows, Sequence[str]]]:
    a, b = found.a.curve.scores, found.b.curve.scores
    names = [*a, *(name for name in b if name not in a)]
    rows = [("", found.a.name, found.b.name, f"{found.b.name}-{found.a.name}")] + [
        (
            _score_name(name),
            _score(a.get(name)),
            _score(b.get(name)),
            f"{b[name] - a[name]:+.3f}" if name in a and name in b else "-",
        )
        for name in names
    ]
    notes = [*_answers(found), *found.notes]
    if names or notes:
        yield "scores", rows if names else [], notes


def _said(found: Comparison) -> Iterator[tuple[str, Rows, Sequence[str]]]:
    """List what the launcher said of the runs: who was slow, what was not as it should be."""
    sides = (*(found.members or (found.a,)), found.b)
    rows = [
        (side.name, kind, text)
        for side in sides
        for kind, texts in (("slow", side.said.verdicts), ("alert", side.said.alerts))
        for text in texts[-MOST_SAID:]
    ]
    more = sum(max(0, len(texts) - MOST_SAID) for side in sides for texts in side.said)
    if rows:
        yield "what the launcher said", rows, [f"... and {more} more; --json lists all"] if more else []


def _score_name(name: str) -> str:
    group, _, last = name.rpartition("_")
    return " ".join(filter(None, (group.replace("_", " "), _NAMES[last]))) if last in _NAMES else name


def _score(value: float | None) -> str:
    return "-" if value is None else f"{value:.3f}"


def _answers(found: Comparison) -> list[str]:
    answers = found.answers
    if answers is None:
        return []
    text = f"{answers.differ} of {answers.questions} answers differ"
    if answers.p is not None:
        text += (
            f"; {found.a.name} alone is right {answers.only_a} times, {found.b.name} alone "
            f"{answers.only_b} times: "
            f"McNemar's exact test p = {answers.p:.3g}"
        )
    else:
        text += "; which are right is not known: give --answers FILE (a SQuAD file)"
    return [text, *answers.notes]


def _signed(value: float | None) -> str:
    return "-" if value is None else f"{100 * value:+.3g}%"
