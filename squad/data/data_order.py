"""Decide which features each step reads, whatever the number of ranks.

The sequence of global batches is a pure function of the data, the seed, the epoch and the global batch
size; each rank takes its share of each. So 1 and 8 ranks see the same batches, and a resumed run continues
at the exact example.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Sequence

import numpy as np

MODES = ("pad", "bucket", "pack")
NO_FEATURE = -1  # stands for an empty slot
_WINDOW = 64  # global batches whose features are sorted by length together (bucket)
_SLOTS = 8  # most features in a packed row


@dataclass(frozen=True)
class Share:
    """What one rank reads in one step: features int64 and weights float32, both [rows, slots]."""

    features: np.ndarray  # NO_FEATURE in empty slots
    weights: np.ndarray  # 0 where nothing is to be learnt
    global_weight: float  # sum of the weights of all ranks


@dataclass(frozen=True)
class OrderConfig:
    """The settings of a data order."""

    global_batch: int  # rows of a step, over all ranks
    seed: int = 12345
    shuffle: bool = True
    mode: str = "pad"  # pad | bucket | pack
    row_length: int = 384  # tokens of a packed row


class DataOrder:
    """Features ordered into rows, and rows into global batches; every feature occurs once per epoch.

    A row is one feature (pad, bucket) or several that fit into `row_length` tokens (pack). bucket and pack
    put rows of similar lengths into a batch and balance the tokens between the ranks; they need `lengths`,
    the tokens of each feature. The last batch of an epoch is filled up with empty rows.
    """

    def __init__(
        self, config: OrderConfig, num_examples: int, lengths: np.ndarray | Sequence[int] | None = None
    ) -> None:
        self.mode, self.global_batch, self.num_examples = config.mode, config.global_batch, num_examples
        if self.mode not in MODES:
            raise ValueError(f"batching {self.mode!r} is none of {', '.join(MODES)}")
        if num_examples < 1 or self.global_batch < 1:
            raise ValueError(f"{num_examples} features in batches of {self.global_batch}; give 1 or more")
        if (self.mode == "pad") != (lengths is None):
            raise ValueError(f"batching {self.mode}: bucket and pack need lengths, pad takes none")
        self._seed, self._shuffle = config.seed, config.shuffle
        self._lengths = None if lengths is None else np.asarray(lengths, np.int64)
        self._rows: np.ndarray = np.arange(num_examples)[:, None]
        if self.mode == "pack" and self._lengths is not None:
            order = self._random(-1).permutation(num_examples) if self._shuffle else np.arange(num_examples)
            self._rows = pack_rows(self._lengths, config.row_length, order)
        self._epoch: tuple[int, np.ndarray] = (-1, self._rows)

    @property
    def steps_per_epoch(self) -> int:
        """The number of global batches in an epoch, including a last one that is filled up."""
        return -(-len(self._rows) // self.global_batch)

    @property
    def num_rows(self) -> int:
        """The number of rows in an epoch, without those that fill it up."""
        return len(self._rows)

    @property
    def slots(self) -> int:
        """The most features in a row."""
        return int(self._rows.shape[1])

    def batch(self, step: int) -> tuple[np.ndarray, np.ndarray]:
        """Return the global batch of a step, counted over all epochs from 0.

        Returns: (features int64, weights float32), both [global_batch, slots]; NO_FEATURE and 0 where empty.
        """
        epoch, index = divmod(step, self.steps_per_epoch)
        if self._epoch[0] != epoch:
            self._epoch = (epoch, self._epoch_rows(epoch))
        rows = self._epoch[1][index * self.global_batch : (index + 1) * self.global_batch]
        return rows, (rows != NO_FEATURE).astype(np.float32)

    def share(self, step: int, rank: int, size: int) -> Share:
        """Return a rank's share of a global batch: ceil(global_batch / size) rows on every rank."""
        rows, weights = self.batch(step)
        loads = None if self._lengths is None else _loads(rows, self._lengths)
        picked = deal_rows(loads, len(rows), size)[rank]
        each = -(-len(rows) // size)
        mine = np.zeros((each, rows.shape[1]), np.float32)
        mine[: len(picked)] = weights[picked]
        # Rows without a feature repeat a real one with weight 0: in a row of padding alone, the softmax over
        # its tokens would have nothing to sum. The first row of a batch always contains a feature.
        held = np.repeat(rows[:1], each, axis=0)
        real = mine[: len(picked)].any(axis=1, keepdims=True)
        held[: len(picked)] = np.where(real, rows[picked], rows[:1])
        return Share(held, mine, float(weights.sum()))

    def _random(self, epoch: int) -> np.random.RandomState:
        # RandomState's numbers are frozen for all versions of numpy; default_rng's are not.
        return np.random.RandomState([self._seed % 2**32, epoch % 2**32])

    def _epoch_rows(self, epoch: int) -> np.ndarray:
        """Order the rows of an epoch [steps_per_epoch * global_batch, slots]."""
        random = self._random(epoch)
        count = len(self._rows)
        order = random.permutation(count) if self._shuffle else np.arange(count)
        missing = self.steps_per_epoch * self.global_batch - count
        if self._lengths is not None:
            loads = _loads(self._rows, self._lengths)
            order = _sorted_in_windows(order, loads, self.global_batch * _WINDOW)
        filled = np.concatenate([order, np.full(missing, NO_FEATURE, order.dtype)])
        batches = filled.reshape(-1, self.global_batch)
        if self._lengths is not None and self._shuffle:
            batches = batches[random.permutation(len(batches))]
        flat = batches.reshape(-1)
        return np.where(flat[:, None] == NO_FEATURE, NO_FEATURE, self._rows[flat])


def _loads(rows: np.ndarray, lengths: np.ndarray) -> np.ndarray:
    """Count the tokens of each row."""
    loads: np.ndarray = np.where(rows == NO_FEATURE, 0, lengths[rows]).sum(axis=1)
    return loads


def _sorted_in_windows(order: np.ndarray, loads: np.ndarray, window: int) -> np.ndarray:
    """Sort rows by load within each run of `window`."""
    group = np.arange(len(order)) // window
    return order[np.lexsort((loads[order], group))]


def deal_rows(loads: np.ndarray | None, count: int, size: int) -> list[list[int]]:
    """Distribute rows to ranks, at most ceil(count / size) each: balanced by load, without loads in runs.

    The heaviest row first, each to the rank with the least load so far.
    """
    each = -(-count // size)
    if loads is None:
        return [list(range(count))[r * each : (r + 1) * each] for r in range(size)]
    shares: list[list[int]] = [[] for _ in range(size)]
    sums = [0] * size
    for row in np.argsort(-loads, kind="stable").tolist():
        rank = min((r for r in range(size) if len(shares[r]) < each), key=lambda r: (sums[r], len(shares[r])))
        shares[rank].append(row)
        sums[rank] += int(loads[row])
    return [sorted(share) for share in shares]


def pack_rows(lengths: np.ndarray, row_length: int, order: np.ndarray, slots: int = _SLOTS) -> np.ndarray:
    """Pack features into rows of at most row_length tokens: [rows, slots], NO_FEATURE where empty.

    Longest first, each into the row where it leaves the least room (best fit decreasing). The order
    decides between equal lengths.
    """
    if len(lengths) and lengths.max() > row_length:
        raise ValueError(f"a feature of {lengths.max()} tokens does not fit into a row of {row_length}")
    rows: list[list[int]] = []
    open_rows: list[list[int]] = [[] for _ in range(row_length + 1)]  # by room left
    rooms = 0  # bit r is set when open_rows[r] is not empty
    for feature in order[np.argsort(-lengths[order], kind="stable")].tolist():
        length = int(lengths[feature])
        fitting = rooms >> length
        if fitting:
            room = length + (fitting & -fitting).bit_length() - 1
            row = open_rows[room].pop()
            if not open_rows[room]:
                rooms ^= 1 << room
        else:
            room, row = row_length, len(rows)
            rows.append([])
        rows[row].append(feature)
        if len(rows[row]) < slots and room > length:
            open_rows[room - length].append(row)
            rooms |= 1 << (room - length)
    packed = np.full((len(rows), slots), NO_FEATURE, np.int64)
    for index, row_features in enumerate(rows):
        packed[index, : len(row_features)] = row_features
    return packed
