"""Summarise the speed of a prediction in the lines that NVIDIA's run_squad prints."""

from __future__ import annotations

import math
from typing import Sequence

LEVELS = (50, 90, 95, 99, 100)  # percent


def percentiles(seconds: Sequence[float]) -> dict[int, float]:
    """Compute the time within which each share of the batches was done, by percentage. No batches: {}."""
    ordered = sorted(seconds)
    # The n-th smallest with n = share of the batches, at least one: NVIDIA's rule, except that its slice is
    # empty for a few batches, and its program then crashes.
    return {level: ordered[max(1, len(ordered) * level // 100) - 1] for level in LEVELS if ordered}


def throughput(seconds: Sequence[float], sequences: int) -> float:
    """Compute sequences per second over the quickest 99 % of the batches, which leaves out starting up."""
    kept = _quickest(seconds)
    return sequences * len(kept) / len(seconds) / sum(kept) if sum(kept) else math.nan


def _quickest(seconds: Sequence[float]) -> list[float]:
    return sorted(seconds)[: max(1, len(seconds) * 99 // 100)]


def summary(
    seconds: Sequence[float], sequences: int, total: float, batch_size: int, length: int, precision: str
) -> list[str]:
    """Format the lines of one rank, whose batches took `seconds`.

    `sequences` counts real features, without those that fill the last batch; `total` is the wall time.
    """
    if not seconds:
        return []
    kept = _quickest(seconds)
    counted = round(sequences * len(kept) / len(seconds))
    lines = ["-----------------------------"]
    lines += [f"Total Inference Time = {total:0.2f} for Sentences = {sequences}"]
    lines += [f"Total Inference Time W/O Overhead = {sum(kept):0.2f} for Sentences = {counted}"]
    lines += ["Summary Inference Statistics", f"Batch size = {batch_size}"]
    lines += [f"Sequence Length = {length}", f"Precision = {precision}"]
    for level, value in percentiles(seconds).items():
        lines.append(f"Latency Confidence Level {level} (ms) = {value * 1000:0.2f}")
    lines.append(f"Latency Average (ms) = {sum(seconds) / len(seconds) * 1000:0.2f}")
    lines.append(f"Throughput Average (sentences/sec) = {throughput(seconds, sequences):0.2f}")
    lines.append(lines[0])
    return lines
