"""What a threshold on the no-answer scores can reach: the official searches. Standard library only."""

from __future__ import annotations

from typing import Mapping

from squad.answers.plots import Curve


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
