"""Runs of npu-launch: the run folder, metrics.jsonl, the lines that rank 0 prints (bert/progress.py)."""

from __future__ import annotations

import math
import os
import re
from itertools import repeat
from pathlib import Path
from typing import Any, Mapping, Sequence

from launcher import foreign
from launcher.compare.curve import Curve, Point
from launcher.compare.formats import scores
from launcher.compare.formats.log import Line, Log
from launcher.compare.formats.stream import Entry
from launcher.compare.formats.text import NUMBER, as_number, number, whole
from launcher.compare.settings import flags, masked
from launcher.errors import MissingFileError, ReadError
from launcher.metrics import series
from launcher.metrics.leading import leading_rank
from launcher.run_dir import RunDir, opened
from launcher.runs.registry import known_plan, read_json

RUN, METRICS, CONSOLE = "npu-launch run", "npu-launch metrics.jsonl", "npu-launch console"
_STEP = re.compile(r"(?:^|\s)step (\d{1,16})/\d{1,16}  .{0,40}?loss (" + NUMBER + r")  lr (" + NUMBER + ")")
_RATE = re.compile(r"  (" + NUMBER + r") examples/s \((" + NUMBER + r") per device\)")
_SUMMARY = re.compile(
    r"trained to step (\d{1,16}): (\d{1,18}) examples in .{1,40}?; (" + NUMBER + r") examples/s .{1,40}?, ("
    + NUMBER + r") per device"
)  # fmt: skip


def read_step(line: Line, log: Log) -> bool:
    """Read `step 275/480  epoch 0.57  loss 0.5026  lr 3e-05  14.7 examples/s (7.4 per device)  ...`."""
    found = _STEP.search(line.text)
    if found is None:
        return False
    stream = log.stream(CONSOLE, line)
    stream.rate_is = "global"
    rate = _RATE.search(line.text)
    values = (number(found.group(2)), number(found.group(3)), number(rate.group(1)) if rate else None)
    stream.add(Entry(whole(found.group(1)), *values))
    return True


def read_summary(line: Line, log: Log) -> bool:
    """Read `trained to step 480: 3840 examples in 206 s; 18.67 examples/s ..., 9.34 per device; ...`."""
    found = _SUMMARY.search(line.text)
    if found is None:
        return False
    steps, examples = int(found.group(1)), int(found.group(2))
    rate, each = number(found.group(3)), number(found.group(4))
    if rate and each:
        log.ranks = max(1, round(rate / each))
        log.summary = log.summary or (rate, "global")
    if steps and examples and examples % steps == 0:  # of a training that began at step 0
        log.global_batch = examples // steps
    return True


def read_row(row: Mapping[str, Any], line: Line, log: Log) -> bool:
    """Read a JSON line with a step and a loss; null is a loss that is no number in metrics.jsonl."""
    step = whole(row.get("step", row.get("global_step")))
    own = "examples_per_second" in row
    loss = as_number(row.get("loss", row.get("train_loss", row.get("train/loss"))))
    if step is None or (loss is None and not (own and "loss" in row)):
        return False
    stream = log.stream(METRICS if own else "JSON lines", line)
    stream.rate_is = "global"
    rate, time = as_number(row.get("examples_per_second")), as_number(row.get("time"))
    learning_rate = as_number(row.get("learning_rate", row.get("lr")))
    each = as_number(row.get("examples_per_second_per_device"))
    if rate and each and rate >= each > 0:
        log.ranks = round(rate / each)
        log.device_batch = _batch_of_interval(row) or log.device_batch
    stream.add(Entry(step, math.nan if loss is None else loss, learning_rate, rate, None, time))
    return True


def _batch_of_interval(row: Mapping[str, Any]) -> int | None:
    steps, examples = whole(row.get("interval_steps")), whole(row.get("interval_examples"))
    return examples // steps if steps and examples and examples % steps == 0 else None


def read_run(path: Path, hints: Mapping[str, int]) -> Curve:
    """Read a run folder: metrics.jsonl of the leading rank, the plan, the results."""
    run = opened(path)
    notes: list[str] = []
    plan = known_plan(run)
    known = [spec.rank for spec in plan.ranks] if plan is not None else run.ranks()
    leading = leading_rank(run, known)
    written = _read_rows(run, leading or 0, notes)
    rows = written.rows
    asked = flags(plan.ranks[0].argv) if plan is not None and plan.ranks else {}
    ranks = hints.get("ranks") or (plan.world_size if plan is not None else _ranks_of(rows))
    batch = hints.get("global_batch") or _batch(asked, ranks)
    others = [rank for rank in (known or range(ranks or 1)) if rank != leading]
    seen = _examples(run, rows, others, ranks, notes) if not hints.get("global_batch") else None
    if seen is None and batch is not None:
        seen = [row["step"] * batch for row in rows]
    unit = next((rate.unit for rate in series.rates(rows)), series.ALL)
    points = tuple(map(_point, rows, seen or repeat(None), repeat(unit), repeat(written.lost)))
    if not any(point.loss is not None for point in points):
        points, found = (), "holds no loss" if not rows else "holds no loss: its rows have none"
        notes.append(found)
    elif seen is None:
        notes.append("says nowhere how many examples a step has: give --global-batch N")
    found_scores = {**_scores(run, notes), **_evaluated(written.evaluations, notes)}
    if not found_scores:
        notes.append("holds no EM and F1")
    rate_is = "global" if unit == series.ALL else "per device"
    return Curve(str(path), RUN, points, found_scores, ranks, batch, masked(asked), rate_is, tuple(notes))


def _read_rows(run: RunDir, rank: int, notes: list[str]) -> series.Series:
    try:
        found = series.read(run.metrics(rank))
    except MissingFileError:
        notes.append(f"rank {rank} wrote no metrics.jsonl")
        return series.Series(())
    except ReadError as error:
        notes.append(str(error))
        return series.Series(())
    if found.unread:
        notes.append(f"{found.unread} line(s) of metrics.jsonl are no rows")
    return found


def _point(row: series.Row, examples: float | None, unit: str, lost: frozenset[float]) -> Point:
    loss = math.nan if row["step"] in lost else row.get("loss")
    rate = series.rate_of(row)
    told = rate.value if rate.value and rate.unit == unit else None
    return Point(int(row["step"]), examples, loss, row.get("learning_rate"), told, row.get("time"))


def _ranks_of(rows: Sequence[series.Row]) -> int | None:
    for row in reversed(rows):
        rate, each = row.get("examples_per_second", 0.0), row.get("examples_per_second_per_device", 0.0)
        if rate >= each > 0:
            return round(rate / each)
    return None


def _batch(asked: Mapping[str, str], ranks: int | None) -> int | None:
    """Return the examples of a step by the flags of squad/flags.py."""
    whole_batch = whole(asked.get("global_batch_size", ""))
    if whole_batch:
        return whole_batch
    each, summed = (
        whole(asked.get("train_batch_size", "")),
        whole(asked.get("num_accumulation_steps", "")) or 1,
    )
    return each * summed * ranks if each and ranks else None


def _examples(
    run: RunDir, rows: Sequence[series.Row], others: Sequence[int], ranks: int | None, notes: list[str]
) -> list[float] | None:
    """Count the examples that all ranks had seen at each row, by what each rank wrote of its intervals."""
    each = _by_step(rows)
    if not each:
        return None
    for rank in others[:4096]:
        own = _by_step(_read_rows(run, rank, []).rows)
        if not each.keys() <= own.keys():
            return None if not ranks else _scaled(rows, each, ranks, notes)
        each = {step: value + own[step] for step, value in each.items()}
    return _scaled(rows, each, 1, [])


def _by_step(rows: Sequence[series.Row]) -> dict[int, float]:
    """Return the examples of one step at each row's step; empty where a row does not count them.

    A row of no step, as the first that a program writes may be, is as the one after it.
    """
    found: dict[int, float] = {}
    after: float | None = None
    for row in reversed(rows):
        steps = row.get("interval_steps", -1.0)
        if steps > 0 and "interval_examples" in row:
            after = row["interval_examples"] / steps
        if steps < 0 or after is None:
            return {}
        found[int(row["step"])] = after
    return found


def _scaled(
    rows: Sequence[series.Row], each: Mapping[int, float], times: int, notes: list[str]
) -> list[float]:
    if times > 1:
        notes.append("not every rank wrote its examples: those of one are taken for each")
    total, before, found = 0.0, 0, []
    for row in rows:
        step = int(row["step"])
        total += each[step] * times * (step - before)
        before = step
        found.append(total)
    return found


def _scores(run: RunDir, notes: list[str]) -> dict[str, float]:
    """Return the scores of result.json, or of the records of rank 0 where the run has not ended."""
    log = Log("", {})
    values = read_json(run.result).get("metrics")
    if isinstance(values, dict):
        scores.take(((str(name), as_number(value)) for name, value in values.items()), log, "")
    elif os.path.lexists(str(run.artifacts(0))):
        try:
            text = foreign.read_of_rank(run.artifacts(0), foreign.DOCUMENT).decode("utf-8", "replace")
        except ReadError as error:
            notes.append(str(error))
            text = ""
        for line in text.splitlines():
            if '"metrics"' in line:
                scores.read(Line(line), log)
    return log.scores


def _evaluated(rows: Sequence[series.Row], notes: list[str]) -> dict[str, float]:
    """Return the EM and F1 of the last evaluation while training, and the best ones of several."""
    found: dict[str, float] = {}
    for name in ("exact", "f1"):
        values = [row[f"eval_{name}"] for row in rows if f"eval_{name}" in row]
        if values:
            found[f"eval_{name}"] = values[-1]
        if values[1:]:
            found[f"eval_best_{name}"] = max(values)
    if found:
        notes.append(f"eval: while it trained, {len(rows)} time(s), the last at step {rows[-1]['step']:.0f}")
    return found
