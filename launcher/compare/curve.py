"""The curve of a run or a log, whatever wrote it: formats/ makes it, the rest of the room compares it."""

from __future__ import annotations

from typing import Mapping, NamedTuple


class Point(NamedTuple):
    """What was written after a step.

    examples: seen by all ranks until then. loss: may be NaN or infinite. rate: examples/s (`Curve.rate_is`).
    time: seconds since the epoch, or since any other moment. None: not known.
    """

    step: int | None = None
    examples: float | None = None
    loss: float | None = None
    learning_rate: float | None = None
    rate: float | None = None
    time: float | None = None


class Curve(NamedTuple):
    """A run as its log tells it.

    kind: the name of the format. scores: in per cent, by exact, f1, HasAns_exact, ...; eval_exact, ... are
    those of the last evaluation while training, eval_best_exact, ... the best. rate_is: "global",
    "per device" or "unknown". settings: the flags found. notes: what the log does not hold, a sentence each.
    """

    name: str
    kind: str
    points: tuple[Point, ...] = ()
    scores: Mapping[str, float] = {}
    ranks: int | None = None
    global_batch: int | None = None
    settings: Mapping[str, str] = {}
    rate_is: str = "unknown"
    notes: tuple[str, ...] = ()
