"""Summarise a prediction's speed in the lines that NVIDIA's run_squad prints."""

from __future__ import annotations

import math
from typing import Sequence

LEVELS = (50, 90, 95, 99, 100)  # percent


def percentiles(seconds: Sequence[float]) -> dict[int, float]:
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
) -> list[str]:
    """Render the lines of one rank, whose batches took `seconds`.

    `sequences` counts real features, without those that fill the last batch; `total` is the wall time.
    """
    if not seconds:
        return []
    kept = sorted(seconds)[: max(1, len(seconds) * 99 // 100)]
    lines = ["-----------------------------"]
    lines += [f"Total Inference Time = {total:0.2f} for Sentences = {sequences}"]
    lines += [
        "Total Inference Time W/O Overhead = %0.2f for Sentences = %d"
        % (sum(kept), round(sequences * len(kept) / len(seconds)))
    ]
    lines += ["Summary Inference Statistics", f"Batch size = {batch_size}"]
    lines += [f"Sequence Length = {length}", f"Precision = {precision}"]
    for level, value in percentiles(seconds).items():
        lines.append(f"Latency Confidence Level {level} (ms) = {value * 1000:0.2f}")
    lines.append(f"Latency Average (ms) = {sum(seconds) / len(seconds) * 1000:0.2f}")
    lines.append(f"Throughput Average (sentences/sec) = {throughput(seconds, sequences):0.2f}")
    lines.append(lines[0])
    return lines
