"""Lists of different lengths as two flat arrays, so that numpy can process all of them at once."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import chain
from typing import Dict, Generic, Hashable, Iterable, Sequence, TypeVar

import numpy as np

T = TypeVar("T", bound=Hashable)


@dataclass(frozen=True)
class Ragged:
    """Lists in one array: list i is values[starts[i]:starts[i + 1]]."""

    values: np.ndarray
    starts: np.ndarray  # one more than there are lists

    @classmethod
    def of(cls, values: np.ndarray, counts: Sequence[int]) -> Ragged:
        """Make lists of these lengths."""
        return cls(values, np.concatenate([[0], np.cumsum(counts, dtype=np.int64)]))

    def __getitem__(self, index: int) -> np.ndarray:
        return self.values[self.starts[index] : self.starts[index + 1]]

    def counts(self) -> np.ndarray:
        """Compute the lists' lengths."""
        return np.diff(self.starts)

    def take(self, lists: Ragged) -> Ragged:
        """Replace every value of `lists`, an index of a list here, by that list."""
        counts = self.counts()[lists.values]
        ends = np.cumsum(counts)
        source = np.repeat(self.starts[lists.values] - ends + counts, counts) + np.arange(counts.sum())
        return Ragged(self.values[source], np.concatenate([[0], ends])[lists.starts])


class Numbering(Dict[T, int], Generic[T]):
    """Numbers of distinct things, in the order in which they are first seen."""

    def __missing__(self, thing: T) -> int:
        number = self[thing] = len(self)
        return number

    def number(self, lists: Iterable[Sequence[T]], counts: Sequence[int]) -> Ragged:
        """Number the things in `lists`, whose lengths are `counts`."""
        numbers = map(self.__getitem__, chain.from_iterable(lists))
        return Ragged.of(np.fromiter(numbers, np.int32, sum(counts)), counts)
