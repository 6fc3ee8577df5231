"""Compare the ranks' weights: equal updates of equal values leave them equal to the last bit."""

from __future__ import annotations

import hashlib
from collections import Counter
from typing import Mapping, Sequence

import numpy as np

from bert.errors import RanksDiffer


def digests(values: Mapping[str, np.ndarray]) -> dict[str, str]:
    """Hash each variable."""
    return {
        name: hashlib.sha256(np.ascontiguousarray(value).tobytes()).hexdigest()[:16]
        for name, value in values.items()
    }


def compare(names: Sequence[str], of_ranks: Sequence[Sequence[str]], step: int) -> None:
    """Compare the digests of each rank, in the order of `names`.

    Raises:
        RanksDiffer: names the ranks that differ from the majority, and the first variable of each.
    """
    tuples = [tuple(one) for one in of_ranks]
    majority, _ = Counter(tuples).most_common(1)[0]
    lines: list[str] = []
    for rank, mine in enumerate(tuples):
        wrong = [name for name, a, b in zip(names, mine, majority) if a != b]
        if wrong:
            lines.append(f"rank {rank} in {len(wrong)} of {len(names)} variables, first {wrong[0]}")
    if lines:
        raise RanksDiffer(
            f"at step {step} the weights differ from those of rank {tuples.index(majority)}:"
            f" {'; '.join(lines)}; nothing was saved"
        )
