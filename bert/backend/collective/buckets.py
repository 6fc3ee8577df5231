"""Decide which gradients are summed together."""

from __future__ import annotations

from typing import Sequence


def buckets(tensors: Sequence[tuple[str, int]], limit: int) -> list[list[int]]:
    """Group tensors (dtype, bytes) into lists of indices, from the last tensor to the first.

    A bucket has one dtype and holds at most `limit` bytes; a larger tensor has a bucket of its own.
    """
    made: list[list[int]] = []
    open_: dict[str, tuple[list[int], int]] = {}
    for index in reversed(range(len(tensors))):
        dtype, size = tensors[index]
        bucket, held = open_.get(dtype, ([], limit))
        if not bucket or held + size > limit:
            bucket, held = [], 0
            made.append(bucket)
        bucket.append(index)
        open_[dtype] = bucket, held + size
    return made
