"""EM and F1 with their parts, and the precision-recall curve, as the evaluation wrote them."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any, Mapping

from launcher import foreign
from launcher.errors import MissingFileError, ReadError
from launcher.page.source import Source, as_number
from launcher.page.svg import Line, line_chart
from launcher.runs import artifacts
from launcher.runs.artifacts import Artifacts
from launcher.runs.figures import unified

FILE = "precision_recall.json"  # {"pr_f1": {"precisions": [...], "recalls": [...], "average": per cent}, ...}
_LARGEST = 16 << 20  # bytes
_RANKS = 8  # that may have scored
_PARTS = (("All questions", ""), ("With an answer", "HasAns_"), ("Without", "NoAns_"))
_CURVES = (("pr_exact", "EM"), ("pr_f1", "F1"), ("pr_oracle", "answer or none"))


def answers(source: Source) -> Mapping[str, Any]:
    """Return the rows of scores, the best thresholds, other figures, and the curve or why there is none."""
    metrics = source.result.get("metrics")
    metrics = unified(metrics) if isinstance(metrics, dict) else {}
    rows = []
    for label, prefix in _PARTS:
        exact, f1, total = (as_number(metrics.get(prefix + name)) for name in ("exact", "f1", "total"))
        if exact is not None and f1 is not None:
            rows.append((label, f"{exact:.2f}", f"{f1:.2f}", f"{total:,.0f}" if total is not None else ""))
    known = {prefix + name for _, prefix in _PARTS for name in ("exact", "f1", "total")}
    others = [(str(name), value) for name, value in metrics.items() if name not in known]
    drawing, note = _curve(source) if rows else ("", "")
    if not rows and not others:
        note = "Nothing was scored: the ranks reported no metrics."
    return {"rows": rows, "others": others[:40], "drawing": drawing, "note": note}


def _curve(source: Source) -> tuple[str, str]:
    """Draw precision over recall; or say why not."""
    for folder in _folders(source):
        try:
            found = foreign.read_json(folder / FILE, _LARGEST)
            drawn = (_line(found.get(name).value, label) for name, label in _CURVES)
            lines = [line for line in drawn if line]
        except MissingFileError:
            continue
        except ReadError as error:
            return "", f"{error}."
        if lines:
            return line_chart(lines, "Precision over recall", "%", x_unit="% recall"), ""
    return "", "No precision-recall curve: the evaluation had no no-answer scores, or did not write any."


def _folders(source: Source) -> list[Path]:
    """List where the curve may be: beside the predictions that ranks reported; not one of an earlier run."""
    reported = Artifacts()
    for rank in list(source.ranks)[:_RANKS]:
        artifacts.read(source.run, rank, "", reported, True)
    beside = [Path(path).parent for one in reported.predictions for path in one.files]
    started = as_number(source.result.get("started")) or 0.0
    places = dict.fromkeys([*beside, *(source.run.rank_dir(rank) for rank in list(source.ranks)[:_RANKS])])
    return [place for place in places if _changed(place / FILE) >= started - 1]


def _changed(path: Path) -> float:
    try:
        return os.lstat(str(path)).st_mtime
    except (OSError, ValueError):
        return 0.0


def _line(curve: Any, label: str) -> Line | None:
    if not isinstance(curve, dict):
        return None
    recalls, precisions = curve.get("recalls"), curve.get("precisions")
    if not isinstance(recalls, list) or not isinstance(precisions, list):
        return None
    pairs = [(as_number(x), as_number(y)) for x, y in zip(recalls, precisions)]
    average = as_number(curve.get("average"))
    name = label if average is None else f"{label}, average precision {average:.2f} %"
    return Line(name, [(100 * x, 100 * y) for x, y in pairs if x is not None and y is not None])
