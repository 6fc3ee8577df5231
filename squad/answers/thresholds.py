"""What a threshold on the no-answer scores can reach: the official searches, and one to predict with.

Standard library only.
"""

from __future__ import annotations

from collections import defaultdict
from typing import Mapping, Sequence

from squad.answers.plots import Curve

_MARGIN = 2.0  # how far beyond the lowest and highest no-answer score the search looks
_EQUAL = 1e-9  # sums of F1 that differ by less are the same


def best_threshold(
    values: Mapping[str, float],
    predictions: Mapping[str, str],
    na_probs: Mapping[str, float],
    has_answer: Mapping[str, bool],
) -> tuple[float, float]:
    """Find the no-answer threshold with the best average; return (percentage, threshold).

    The official search: start with no question answered, and add the questions, surest answers first.
    """
    current: float = sum(1 for answerable in has_answer.values() if not answerable)
    best, threshold = current, 0.0
    for key in sorted(na_probs, key=na_probs.__getitem__):
        if has_answer[key]:
            current += values[key]
        elif predictions[key]:
            current -= 1
        if current > best:
            best, threshold = current, na_probs[key]
    return 100.0 * best / len(values), threshold


def stable_threshold(
    values: Mapping[str, float], na_probs: Mapping[str, float], has_answer: Mapping[str, bool]
) -> float:
    """Find the no-answer threshold to predict with: the middle of the widest range with the best average.

    The official search returns the very score of a question, so a rounding error empties its answer; it looks
    between questions of equal scores, where no threshold lies; and it takes an answer such as "the" for wrong
    where there is none, which counts as right. Ties: the lowest of the widest ranges.
    """
    gains: dict[float, float] = defaultdict(float)
    for key, answerable in has_answer.items():
        gains[na_probs[key]] += values[key] - (not answerable)  # an empty answer is right where there is none
    odds = sorted(gains)
    if not odds:
        return 0.0
    edges = [odds[0] - _MARGIN, *odds, odds[-1] + _MARGIN]
    totals = [0.0]  # totals[i] is reached from edges[i] up to edges[i + 1]
    for score in odds:
        totals.append(totals[-1] + gains[score])
    low, high = max(_plateaus(edges, totals), key=lambda ends: ends[1] - ends[0])
    middle = low / 2 + high / 2
    return middle if low <= middle < high else low


def _plateaus(edges: Sequence[float], totals: Sequence[float]) -> list[tuple[float, float]]:
    """List the ranges of thresholds, as long as possible, that give the greatest total; lowest first."""
    best = max(totals) - _EQUAL
    found: list[tuple[float, float]] = []
    for total, low, high in zip(totals, edges, edges[1:]):
        if total >= best:
            joined = found and found[-1][1] == low
            found.append((found.pop()[0] if joined else low, high))
    return found


def precision_recall(
    values: Mapping[str, float], na_probs: Mapping[str, float], has_answer: Mapping[str, bool]
) -> Curve:
    """Compute precision and recall as answers are added, surest first."""
    answerable = sum(1 for value in has_answer.values() if value)
    order = sorted(na_probs, key=na_probs.__getitem__)
    precisions, recalls, right, average = [1.0], [0.0], 0.0, 0.0
    for place, key in enumerate(order):
        if has_answer[key]:
            right += values[key]
        if place + 1 == len(order) or na_probs[key] != na_probs[order[place + 1]]:
            precision, recall = right / float(place + 1), right / float(answerable)
            average += precision * (recall - recalls[-1])
            precisions.append(precision)
            recalls.append(recall)
    return Curve(precisions, recalls, 100.0 * average)
