"""Summarise a prediction's speed in the lines that NVIDIA's run_squad prints."""

from __future__ import annotations

import math
from typing import Dict, List, Sequence

LEVELS = (50, 90, 95, 99, 100)  # percent


def percentiles(seconds: Sequence[float]) -> Dict[int, float]:
    """Give the time within which that share of the batches was done, by percentage. No batches: {}."""
    ordered = sorted(seconds)
    # The n-th smallest with n = share of the batches, at least one: NVIDIA's rule, whose slice is empty
    # (and whose program then crashes) for a few batches.
    return {level: ordered[max(1, len(ordered) * level // 100) - 1] for level in LEVELS if ordered}


def throughput(seconds: Sequence[float], sequences: int) -> float:
    """Give sequences per second over the quickest 99 % of the batches: starting up is no throughput."""
    kept = sorted(seconds)[: max(1, len(seconds) * 99 // 100)]
    return sequences * len(kept) / len(seconds) / sum(kept) if sum(kept) else math.nan


def summary(
    seconds: Sequence[float], sequences: int, total: float, batch_size: int, length: int, precision: str
) -> List[str]:
    """Render the lines of one rank, whose batches took `seconds`.

    `sequences` counts real features, without those that fill the last batch; `total` is the wall time.
    """
    if not seconds:
        return []
    kept = sorted(seconds)[: max(1, len(seconds) * 99 // 100)]
    lines = ["-----------------------------"]
    lines += ["Total Inference Time = %0.2f for Sentences = %d" % (total, sequences)]
    lines += [
        "Total Inference Time W/O Overhead = %0.2f for Sentences = %d"
        % (sum(kept), round(sequences * len(kept) / len(seconds)))
    ]
    lines += ["Summary Inference Statistics", "Batch size = %d" % batch_size]
    lines += ["Sequence Length = %d" % length, "Precision = %s" % precision]
    for level, value in percentiles(seconds).items():
        lines.append("Latency Confidence Level %d (ms) = %0.2f" % (level, value * 1000))
    lines.append("Latency Average (ms) = %0.2f" % (sum(seconds) / len(seconds) * 1000))
    lines.append("Throughput Average (sentences/sec) = %0.2f" % throughput(seconds, sequences))
    lines.append(lines[0])
    return lines
