"""Ranks whose weights have come apart are found at the next checkpoint, and named."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from bert import agreement
from bert.errors import RanksDiffer
from tests.bert.runs import Job, settings


def test_equal_ranks_pass() -> None:
    agreement.compare(["a", "b"], [["1", "2"]] * 3, 5)


def test_the_rank_that_is_not_like_the_most_is_named_with_its_first_variable() -> None:
    of_ranks = [["9", "2", "8"], ["1", "2", "3"], ["1", "2", "3"]]
    with pytest.raises(RanksDiffer, match=r"step 5 .* those of rank 1: rank 0 in 2 of 3 variables, first a;"):
        agreement.compare(["a", "b", "c"], of_ranks, 5)


def test_a_digest_changes_with_a_single_bit() -> None:
    value = np.zeros(3, np.float32)
    other = value.copy()
    other.view(np.uint32)[1] ^= 1
    assert agreement.digests({"w": value}) != agreement.digests({"w": other})
    assert agreement.digests({"w": value}) == agreement.digests({"w": value.copy()})


def _disturb(rank: int) -> None:
    """Let rank 1 update its weights by something else than what all ranks have summed."""
    from bert import step

    reduce = step.reduce_gradients

    def reduced(backend: object, gradients: object) -> object:
        total = reduce(backend, gradients)  # type: ignore[arg-type]
        total[3] = total[3] * (1.0 + 0.5 * rank)
        return total

    step.reduce_gradients = reduced  # type: ignore[assignment]


def test_ranks_that_differ_end_the_run_and_save_nothing(tmp_path: Path) -> None:
    job = Job(tmp_path, settings(clip="none"), ranks=2, sabotage=_disturb)
    assert job.wait() == [1, 1]
    for rank in (0, 1):
        assert "RanksDiffer: at step 6 the weights differ from those of rank 0: rank 1 in" in job.output(rank)
    assert not list((tmp_path / "out").glob("*.index"))
