"""What a step takes from tf.data: when each batch was ready, how long the step waited for it, its size."""

from __future__ import annotations

import time
from collections import deque
from typing import Any, Mapping, NamedTuple, Sequence

import numpy as np


class Taken(NamedTuple):
    """What a step has taken. input_s: seconds for which it waited; tokens: padding included."""

    examples: int = 0
    tokens: int = 0
    input_s: float = 0.0

    def plus(self, other: Taken) -> Taken:
        """Add up two parts of a step."""
        return Taken(self.examples + other.examples, self.tokens + other.tokens, self.input_s + other.input_s)


class Feed:
    """The batches of a training, made ahead in a thread of tf.data and taken in that order."""

    def __init__(self) -> None:
        self._ready: deque[tuple[float, int, int]] = deque()  # when, examples, tokens

    def made(self, batch: Mapping[str, Any]) -> None:
        """Take note of a batch that is ready now (in tf.data's thread)."""
        ids = batch.get("input_ids", ())
        weights = batch.get("example_weights")
        examples = len(ids) if weights is None else int(np.count_nonzero(weights))  # rows of padding weigh 0
        self._ready.append((time.monotonic(), examples, int(np.size(ids))))

    def taken(self, count: int, begin: float, end: float) -> Taken:
        """Tell what a call that ran from `begin` to `end` has taken: `count` batches."""
        parts = [self._ready.popleft() for _ in range(min(count, len(self._ready)))]
        stall = waited([ready for ready, _, _ in parts], begin, end)
        return Taken(sum(part[1] for part in parts), sum(part[2] for part in parts), stall)


def waited(ready: Sequence[float], begin: float, end: float) -> float:
    """Compute for how long a call of len(ready) equally long steps waited for batches ready at these times.

    Step j begins when step j - 1 has ended and its batch is ready, and takes c seconds. The longest c with
    which all end by `end` is the work; the rest of the call is the waiting. A single step waits from the
    beginning until its batch is ready.
    """
    if not ready:
        return 0.0
    count = len(ready)
    latest = [max(begin, moment) for moment in ready]
    work = min((end - moment) / (count - index) for index, moment in enumerate(latest))
    return max(0.0, end - begin - count * max(0.0, work))
