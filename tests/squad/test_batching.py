"""Batches: what the trainer is fed, and how outputs find their way back."""

from __future__ import annotations

from itertools import islice

import numpy as np
import pytest

from squad.data.batching import (
    LOWEST,
    collect_logits,
    make_order,
    predict_batches,
    predict_order,
    train_batches,
)
from squad.data.data_order import MODES, NO_FEATURE
from squad.data.features import FIRST_UNIQUE_ID, Features

L = 48


def features(count: int, seed: int = 0) -> Features:
    """Make rows of 5 to L tokens with ids that tell rows and columns apart."""
    random = np.random.RandomState(seed)
    lengths = random.randint(5, L + 1, count).astype(np.int32)
    column = np.arange(L)
    mask = (column < lengths[:, None]).astype(np.int8)
    starts = random.randint(0, lengths).astype(np.int32)
    return Features(
        unique_ids=np.arange(FIRST_UNIQUE_ID, FIRST_UNIQUE_ID + count, dtype=np.int32),
        example_index=np.arange(count, dtype=np.int32),
        doc_span_index=np.zeros(count, np.int32),
        lengths=lengths,
        input_ids=((np.arange(count)[:, None] * L + column + 1) * mask).astype(np.int32),
        input_mask=mask,
        segment_ids=((column >= 3) * mask).astype(np.int8),
        start_positions=starts,
        end_positions=np.minimum(starts + 2, lengths - 1).astype(np.int32),
        is_impossible=starts == 0,
    )


def one_epoch(data: Features, mode: str, batch: int = 8, size: int = 1) -> list[dict[str, np.ndarray]]:
    order = make_order(data, batch, 1, True, mode)
    ranks = [train_batches(data, order, rank, size, 0, order.steps_per_epoch) for rank in range(size)]
    return [batch for rank in ranks for batch in rank]


def learnt(batches: list[dict[str, np.ndarray]]) -> list[tuple[list[int], int, int]]:
    """List (tokens, start, end) of every feature with weight, whichever way its row is laid out."""
    found = []
    for batch in batches:
        for row, slot in zip(*np.nonzero(batch["example_weights"])):
            ids = batch["input_ids"][row]
            owner = batch["feature_ids"][row] if "feature_ids" in batch else batch["input_mask"][row]
            where = np.flatnonzero(owner == slot + 1)
            positions = [
                int(batch[name][row, slot]) - where[0] for name in ("start_positions", "end_positions")
            ]
            found.append((ids[where].tolist(), *positions))
    return sorted(found)


@pytest.mark.parametrize("size", [1, 3])
@pytest.mark.parametrize("mode", MODES)
def test_an_epoch_teaches_every_feature_once_and_whole(mode: str, size: int) -> None:
    data = features(53)
    whole = [data.input_ids[i, : data.lengths[i]].tolist() for i in range(len(data))]
    expected = zip(whole, data.start_positions.tolist(), data.end_positions.tolist())
    assert learnt(one_epoch(data, mode, size=size)) == sorted(expected)


@pytest.mark.parametrize("mode", MODES)
def test_shapes_and_types(mode: str) -> None:
    for batch in one_epoch(features(20), mode):
        rows, columns = batch["input_ids"].shape
        slots = 8 if mode == "pack" else 1
        assert rows == 8 and (columns == L or mode == "bucket")
        for name, array in batch.items():
            assert array.dtype == (np.float32 if "weight" in name else np.int32), name
            tail = () if name == "global_weight" else (8, slots)
            tokens = name.startswith(("input", "segment", "position", "feature"))
            assert array.shape == ((8, columns) if tokens else tail), name
        assert ("position_ids" in batch) == ("feature_ids" in batch) == (mode == "pack")


@pytest.mark.parametrize("mode", MODES)
def test_global_weight_is_the_sum_over_all_ranks(mode: str) -> None:
    data = features(53)
    order = make_order(data, 8, 1, True, mode)
    ranks = [train_batches(data, order, rank, 3, 0, order.steps_per_epoch) for rank in range(3)]
    for parts in zip(*ranks):
        assert {float(part["global_weight"]) for part in parts} == {
            sum(float(part["example_weights"].sum()) for part in parts)
        }


@pytest.mark.parametrize("mode", MODES)
def test_a_resumed_run_continues_at_the_exact_batch_across_epochs(mode: str) -> None:
    data = features(20)
    order = make_order(data, 8, 1, True, mode)
    through = list(train_batches(data, order, 0, 1, 0, 9))
    resumed = list(train_batches(data, make_order(data, 8, 1, True, mode), 0, 1, 5, 9))
    assert len(through) == 9 > 2 * order.steps_per_epoch and len(resumed) == 4
    for one, other in zip(through[5:], resumed):
        assert all(np.array_equal(one[name], other[name]) for name in one)


def test_without_a_last_step_batches_go_on_for_ever() -> None:
    data = features(3)
    assert len(list(islice(train_batches(data, make_order(data, 2, 1, True, "pad")), 50))) == 50


def test_packed_positions_restart_and_padding_belongs_to_nobody() -> None:
    for batch in one_epoch(features(53), "pack"):
        for row in range(len(batch["input_ids"])):
            for owner in range(1, batch["feature_ids"][row].max() + 1):
                where = batch["feature_ids"][row] == owner
                assert batch["position_ids"][row][where].tolist() == list(range(where.sum()))
        assert np.array_equal(batch["feature_ids"] > 0, batch["input_mask"] > 0)


def test_bucketed_rows_are_cut_to_the_longest_and_save_half_of_the_padding() -> None:
    data = features(400)
    batches = one_epoch(data, "bucket")
    assert all(batch["input_ids"].shape[1] % 8 == 0 for batch in batches)
    padding = sum(batch["input_ids"].size for batch in batches) - data.lengths.sum()
    assert padding < 0.5 * (len(data) * L - data.lengths.sum())


def test_features_without_answers_cannot_be_trained_on() -> None:
    data = features(3)
    bare = Features(**dict(vars(data), start_positions=None))
    with pytest.raises(ValueError, match="no answers; build them with training=True"):
        next(train_batches(bare, make_order(bare, 2, 1, True, "pad")))


@pytest.mark.parametrize("mode", ["pad", "bucket"])
@pytest.mark.parametrize("batch_size, size", [(1, 1), (8, 1), (7, 2), (64, 3)])
def test_outputs_return_to_their_features_for_any_batch_size_and_ranks(
    mode: str, batch_size: int, size: int
) -> None:
    data = features(41)
    start = np.full((41, L), np.nan, np.float32)
    done = np.zeros(41, int)
    for rank in range(size):
        batches = list(predict_batches(data, rank, size, batch_size, mode))
        assert all(len(batch["input_ids"]) == batch_size for batch in batches)
        outputs = ((b["input_ids"].astype(np.float32), -b["input_ids"]) for b in batches)
        one, other, mine = collect_logits(data, predict_order(data, rank, size, batch_size, mode), outputs)
        start[mine], done = one[mine], done + mine
        assert np.array_equal(other[mine], np.where(one[mine] == LOWEST, LOWEST, -one[mine]))
    assert done.tolist() == [1] * 41
    assert np.array_equal(start, np.where(data.input_mask > 0, data.input_ids, LOWEST))


def test_the_tail_of_a_prediction_is_padded_with_nothing_to_keep() -> None:
    orders = predict_order(features(9), batch_size=4)
    assert orders[-1].tolist() == [8, NO_FEATURE, NO_FEATURE, NO_FEATURE]
    assert predict_order(features(2), rank=1, size=2, batch_size=4) == []
