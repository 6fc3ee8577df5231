"""Comparisons as a JSON document (docs/compare.md)."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any, Mapping, Sequence

from launcher.compare.comparison import Comparison, Side


def document(found: Sequence[Comparison]) -> dict[str, Any]:
    """Return all comparisons; numbers that JSON does not have (NaN, infinity) are null."""
    failed = any(one.outcome == "fail" for one in found)
    return {"version": 1, "failed": failed, "comparisons": [_plain(_comparison(one)) for one in found]}


def _comparison(found: Comparison) -> dict[str, Any]:
    aligned = found.aligned
    return {
        "a": _side(found.a),
        "b": _side(found.b),
        "benchmark": [_side(side) for side in found.members],
        "outcome": found.outcome,
        "rule": found.rule,
        "rules": found.rules,
        "aligned": {"by": aligned.by, "places": len(aligned.pairs), "problem": aligned.problem},
        "loss": found.loss,
        "within_band": found.within,
        "rates": found.rates,
        "scores": {
            name: {"a": found.a.curve.scores.get(name), "b": found.b.curve.scores.get(name)}
            for name in dict.fromkeys([*found.a.curve.scores, *found.b.curve.scores])
        },
        "answers": found.answers,
        "differences": found.differences,
        "notes": [*aligned.notes, *found.notes],
    }


def _side(side: Side) -> dict[str, Any]:
    curve = side.curve
    return {
        "name": side.name,
        "run": side.word,
        "kind": curve.kind,
        "points": len(curve.points),
        "ranks": curve.ranks,
        "global_batch": curve.global_batch,
        "rate_is": curve.rate_is,
        "verdicts": side.said.verdicts,
        "alerts": side.said.alerts,
        "notes": curve.notes,
    }


def _plain(value: Any) -> Any:
    """Turn named tuples into objects, and what JSON does not have into null."""
    if hasattr(value, "_asdict"):
        value = value._asdict()
    if isinstance(value, Mapping):
        return {str(name): _plain(item) for name, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(item) for item in value]
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return str(value) if isinstance(value, Path) else value
