"""Predictions that overlap come in order, and end cleanly."""

from __future__ import annotations

import threading
import time
from typing import Iterator

import pytest

from bert.predictor import ahead


@pytest.mark.parametrize("count", [1, 2, 3, 9])
def test_results_come_in_order_whatever_finishes_first(count: int) -> None:
    def run(batch: int) -> int:
        time.sleep(0.01 * (3 - batch % 3))
        return -batch

    assert list(ahead(run, iter(range(7)), count)) == [-batch for batch in range(7)]


def test_no_more_batches_are_made_than_are_under_way() -> None:
    made: list[int] = []

    def batches() -> Iterator[int]:
        for number in range(100):
            made.append(number)
            yield number

    results = ahead(lambda batch: batch, batches(), 3)
    assert [next(results) for _ in range(4)] == [0, 1, 2, 3]
    assert len(made) <= 4 + 3


def test_an_error_of_a_batch_comes_in_its_place() -> None:
    def run(batch: int) -> int:
        if batch == 2:
            raise ValueError("batch 2")
        return batch

    results = ahead(run, iter(range(9)), 3)
    assert [next(results), next(results)] == [0, 1]
    with pytest.raises(ValueError, match="batch 2"):
        next(results)


def test_whoever_stops_early_waits_for_what_is_under_way() -> None:
    under_way = threading.Semaphore(0)
    done: list[int] = []

    def run(batch: int) -> int:
        under_way.release()
        time.sleep(0.05)
        done.append(batch)
        return batch

    results = ahead(run, iter(range(9)), 3)
    next(results)
    results.close()
    begun = 0
    while under_way.acquire(blocking=False):
        begun += 1
    assert len(done) == begun <= 4
