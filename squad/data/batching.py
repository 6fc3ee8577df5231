"""Make the batches for the trainer: padded, of similar length, or packed.

A batch (bert.interfaces.Batch) is a dict of numpy arrays, int32 unless stated otherwise. B rows, L columns,
K features per row: input_ids, input_mask, segment_ids [B, L]; start_positions, end_positions [B, K];
example_weights float32 [B, K], 0 where nothing is to be learnt; global_weight, a float32 scalar: the sum of
the weights over all ranks. pack adds position_ids and feature_ids [B, L]: 0 in the padding, k + 1 for the
k-th feature of the row.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Callable, Iterable, Iterator, Sequence, cast

import numpy as np

from squad.data.data_order import NO_FEATURE, DataOrder, OrderConfig, Share
from squad.data.features import Features

if TYPE_CHECKING:
    from bert.interfaces import Batch, Logits, PredictBatch

LOWEST = -10000.0  # logit of columns outside a feature's tokens
_MULTIPLE = 8  # columns of a trimmed batch: a multiple, so that few shapes occur


def make_order(features: Features, global_batch: int, seed: int, shuffle: bool, mode: str) -> DataOrder:
    """Order features for training in a batching mode; global_batch counts rows over all ranks."""
    config = OrderConfig(global_batch, seed, shuffle, mode, row_length=features.max_seq_length)
    return DataOrder(config, len(features), None if mode == "pad" else features.lengths)


def train_batches(
    features: Features,
    order: DataOrder,
    rank: int = 0,
    size: int = 1,
    start_step: int = 0,
    num_steps: int | None = None,
    accumulate: int = 1,
) -> Iterator[Batch]:
    """Yield a rank's batches of the steps start_step to num_steps - 1 (None: without end).

    A step has `accumulate` batches, each with the step's global_weight, so that their gradients add up to
    those of the whole step.
    """
    if features.start_positions is None or features.end_positions is None:
        raise ValueError("these features have no answers; build them with training=True")
    step = start_step
    while num_steps is None or step < num_steps:
        for part in range(rank * accumulate, (rank + 1) * accumulate):
            yield _train_batch(features, order.share(step, part, size * accumulate), order.mode)
        step += 1


def _train_batch(features: Features, share: Share, mode: str) -> Batch:
    if mode == "pack":
        batch = _packed(features, share.features)
    else:
        batch = _plain(features, share.features[:, 0], trim=mode == "bucket")
    batch["example_weights"] = share.weights
    batch["global_weight"] = np.float32(share.global_weight)
    return cast("Batch", batch)


def predict_order(
    features: Features,
    rank: int = 0,
    size: int = 1,
    batch_size: int = 8,
    mode: str = "pad",
    every_rank: bool = False,
) -> list[np.ndarray]:
    """Choose a rank's features for prediction: its batches, each [batch_size], with NO_FEATURE in the tail.

    bucket (and pack, which is for training) puts the longest features first, similar lengths together.
    every_rank: each has a batch, if need be one of NO_FEATURE alone, so that all run the same graphs.
    """
    order = np.arange(len(features))
    if mode != "pad":
        order = np.argsort(-features.lengths.astype(np.int64), kind="stable")
    missing = -len(order) % batch_size
    if every_rank:
        missing = max(missing, size * batch_size - len(order))
    batches = np.concatenate([order, np.full(missing, NO_FEATURE)]).reshape(-1, batch_size)
    return list(batches[rank::size])


def predict_batches(
    features: Features, rank: int = 0, size: int = 1, batch_size: int = 8, mode: str = "pad"
) -> Iterator[PredictBatch]:
    """Yield the batches of `predict_order`; pad keeps all L columns."""
    return batches_of(features, predict_order(features, rank, size, batch_size, mode), mode)


def batches_of(features: Features, order: Sequence[np.ndarray], mode: str) -> Iterator[PredictBatch]:
    """Yield the batches of an order; pad keeps all L columns. A feature of theirs stands for NO_FEATURE."""
    for rows in order:
        first = max(0, int(rows[0]))  # a batch may hold NO_FEATURE alone
        batch = _plain(features, np.where(rows == NO_FEATURE, first, rows), trim=mode != "pad")
        yield cast("PredictBatch", batch)


def logits_of(
    features: Features,
    run: Callable[[Iterator[PredictBatch]], Iterable[Logits]],
    batch_size: int,
    whole_rows: bool,
) -> Logits:
    """Compute the logits of all rows in this process: (start [R, L], end [R, L]).

    run: computes those of batches, in order. whole_rows: every batch has all L columns; else rows of similar
    lengths are together and trimmed, which gives the same logits sooner.
    """
    mode = "pad" if whole_rows else "bucket"
    order = predict_order(features, batch_size=batch_size, mode=mode)
    return collect_logits(features, order, run(batches_of(features, order, mode)))[:2]


def collect_logits(
    features: Features, order: Sequence[np.ndarray], outputs: Iterable[Logits]
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Put the model's outputs for `predict_order`'s batches back into the features' order.

    Returns: (start [R, L], end [R, L], done bool [R]). Columns outside a feature's tokens have a logit so
    low that no answer starts or ends there, so the result does not depend on how batches were padded.
    """
    shape = (len(features), features.max_seq_length)
    start, end = np.full(shape, LOWEST, np.float32), np.full(shape, LOWEST, np.float32)
    done = np.zeros(len(features), bool)
    column = np.arange(shape[1])
    # The outputs first: computing them may begin with what all ranks do together, even one without a batch.
    for logits, rows in zip(outputs, order):
        real = np.flatnonzero(rows != NO_FEATURE)
        width = logits[0].shape[1]
        inside = column[:width] < features.lengths[rows[real], None]
        for whole, part in zip((start, end), logits):
            whole[rows[real], :width] = np.where(inside, part[real], LOWEST)
        done[rows[real]] = True
    return start, end, done


def _plain(features: Features, rows: np.ndarray, trim: bool) -> dict[str, Any]:
    """Take rows as they are; with trim, only the columns that any of them fills."""
    columns = features.max_seq_length
    if trim:
        columns = min(columns, -(-int(features.lengths[rows].max()) // _MULTIPLE) * _MULTIPLE)
    batch: dict[str, Any] = {
        name: getattr(features, name)[rows, :columns].astype(np.int32)
        for name in ("input_ids", "input_mask", "segment_ids")
    }
    for name in ("start_positions", "end_positions"):
        if getattr(features, name) is not None:
            batch[name] = getattr(features, name)[rows, None].astype(np.int32)
    return batch


def _packed(features: Features, rows: np.ndarray) -> dict[str, Any]:
    """Put the features of each row [B, K] side by side; positions restart with every feature."""
    shape = (len(rows), features.max_seq_length)
    tokens = ("input_ids", "input_mask", "segment_ids", "position_ids", "feature_ids")
    batch: dict[str, Any] = {name: np.zeros(shape, np.int32) for name in tokens}
    for name in ("start_positions", "end_positions"):
        batch[name] = np.zeros(rows.shape, np.int32)
    for row, held in enumerate(rows):
        left = 0
        for slot, feature in enumerate(held[held != NO_FEATURE]):
            length = int(features.lengths[feature])
            here = (row, slice(left, left + length))
            for name in tokens[:3]:
                batch[name][here] = getattr(features, name)[feature, :length]
            batch["position_ids"][here] = np.arange(length)
            batch["feature_ids"][here] = slot + 1
            for name in ("start_positions", "end_positions"):
                batch[name][row, slot] = left + getattr(features, name)[feature]
            left += length
    return batch
