"""Merging the ranks' shares of a prediction."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from squad.answers.logit_shards import encode, merge, shard_path, write_shard
from squad.errors import DataError


def world(rows: int, seed: int = 0) -> tuple[Any, np.ndarray, np.ndarray]:
    random = np.random.RandomState(seed)
    features = SimpleNamespace(input_ids=random.randint(0, 99, (rows, 5)).astype(np.int32))
    start, end = random.rand(2, rows, 5).astype(np.float32)
    return features, start, end


def write_all(folder: Path, owner: np.ndarray, size: int, seed: int = 0) -> Any:
    features, start, end = world(len(owner), seed)
    for rank in range(size):
        write_shard(str(folder), rank, size, encode(features, start, end, owner == rank))
    return features, start, end


@settings(max_examples=30, deadline=None)
@given(owner=st.lists(st.integers(0, 4), max_size=20))
def test_any_share_merges_to_the_same_logits(tmp_path_factory: Any, owner: Any) -> None:
    folder = tmp_path_factory.mktemp("pieces")
    features, start, end = write_all(folder, np.array(owner, np.int64), 5)
    merged = merge(str(folder), 5, features)
    assert np.array_equal(merged[0], start) and np.array_equal(merged[1], end)
    assert not list(folder.iterdir())


def test_a_lost_row_is_counted_and_named(tmp_path: Path) -> None:
    features, _, _ = write_all(tmp_path, np.array([0, 1, 7, 0, 7]), 2)
    with pytest.raises(DataError, match="no rank has predicted 2 of 5 features: 2, 4"):
        merge(str(tmp_path), 2, features)


def test_a_row_predicted_twice_is_counted_and_named(tmp_path: Path) -> None:
    features, start, end = write_all(tmp_path, np.array([0, 1, 1]), 2)
    write_shard(str(tmp_path), 0, 2, encode(features, start, end, np.array([True, True, False])))
    with pytest.raises(DataError, match="two ranks have predicted 1 of 3 features: 1"):
        merge(str(tmp_path), 2, features)


def test_a_rank_that_wrote_nothing_is_named(tmp_path: Path) -> None:
    features, _, _ = write_all(tmp_path, np.array([0, 1]), 2)
    Path(shard_path(str(tmp_path), 1, 2)).unlink()
    with pytest.raises(DataError, match=r"logits_1_of_2\.npz: missing; this rank has written no predictions"):
        merge(str(tmp_path), 2, features)


def test_a_piece_of_other_features_is_refused(tmp_path: Path) -> None:
    write_all(tmp_path, np.array([0, 1]), 2, seed=1)
    with pytest.raises(DataError, match="made from other features"):
        merge(str(tmp_path), 2, world(2)[0])


@pytest.mark.parametrize("keep", [0, 10, 400])
def test_a_piece_cut_short_is_refused(tmp_path: Path, keep: int) -> None:
    features, _, _ = write_all(tmp_path, np.array([0, 1]), 2)
    path = Path(shard_path(str(tmp_path), 1, 2))
    path.write_bytes(path.read_bytes()[:keep])
    with pytest.raises(DataError, match="damaged"):
        merge(str(tmp_path), 2, features)
