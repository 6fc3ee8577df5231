"""The shared memory of a host's ranks: sums, barriers, deaths, and what is left behind."""

from __future__ import annotations

import glob
import os
import signal
import subprocess
import sys
import threading
import time
import uuid
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from bert.backend.collective import rendezvous, shared_memory
from bert.backend.collective.buckets import buckets
from bert.backend.collective.shared_memory import Alone, CollectiveError, SharedMemory, connect

ROOT = Path(__file__).resolve().parents[2]
DIES = """
import sys, os, signal
from bert.backend.collective.shared_memory import connect
name, rank, size, where = sys.argv[1], int(sys.argv[2]), int(sys.argv[3]), sys.argv[4]
if where == "before":
    os.kill(os.getpid(), signal.SIGKILL)
joined = connect(name, rank, size, 4.0)
print("joined", flush=True)
if where == "barrier":
    joined.barrier()
os.kill(os.getpid(), signal.SIGKILL)
"""


def _together(size: int, work: Any, timeout: float = 30.0) -> list[Any]:
    """Run work(collective) on `size` threads, each with its own mapping; give what they gave or raised."""
    name, results = uuid.uuid4().hex, [None] * size  # type: List[Any]

    def run(rank: int) -> None:
        try:
            results[rank] = work(connect(name, rank, size, timeout))
        except Exception as error:
            results[rank] = error

    threads = [threading.Thread(target=run, args=(rank,)) for rank in range(size)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return results


def _left() -> list[str]:
    return sorted(glob.glob(os.path.join(rendezvous.FOLDER, "*npu-launch*")))


def _values(rank: int, dtype: Any = np.float32) -> list[np.ndarray]:
    random = np.random.RandomState(rank)
    shapes = [(3,), (), (700, 800), (0, 4), (17, 5), (999999,)]  # across chunks, and ends within lines
    return [np.asarray(random.randn(*shape) * 100).astype(dtype) for shape in shapes]


@pytest.mark.parametrize("size", [1, 2, 3, 5, 8])
def test_sums_are_those_of_numpy_in_rank_order_and_bit_equal_on_all(size: int) -> None:
    results = _together(size, lambda joined: joined.all_reduce_sum(_values(getattr(joined, "rank", 0))))
    expected = _values(0)
    for rank in range(1, size):
        expected = [total + value for total, value in zip(expected, _values(rank))]
    for result in results:
        for made, wanted in zip(result, expected):
            assert made.shape == wanted.shape and made.dtype == wanted.dtype
            np.testing.assert_array_equal(made, wanted)


def test_the_most_ranks_meet_and_one_more_is_refused() -> None:
    size = shared_memory.MAX_RANKS
    results = _together(
        size, lambda joined: (joined.all_reduce_sum([np.ones(5)])[0][0], joined.all_gather(joined.rank))
    )
    assert results == [(float(size), list(range(size)))] * size
    with pytest.raises(ValueError, match="65 ranks: shared memory connects 1 to 64"):
        SharedMemory("x", 0, size + 1)


@pytest.mark.parametrize("size", [1, 2, 3])
@pytest.mark.parametrize("lengths", [(3, 0, 7), (0, 0, 0), (1, 5000, 900)])  # of 1200 bytes
def test_rows_are_joined_in_rank_order_whatever_their_number(size: int, lengths: Any) -> None:
    def rows(rank: int, dtype: Any = np.float32) -> np.ndarray:
        return (np.arange(lengths[rank] * 300).reshape(-1, 300) + 1e6 * rank).astype(dtype)

    def work(joined: Any) -> list[np.ndarray]:
        rank = getattr(joined, "rank", 0)
        values = joined.all_gather_rows(rows(rank))
        [total] = joined.all_reduce_sum([np.ones(700000)])  # what comes next finds the slots in order
        return [values, joined.all_gather_rows(rows(rank, np.int64)[:, 0]), total]

    for values, indices, total in _together(size, work):
        np.testing.assert_array_equal(values, np.concatenate([rows(rank) for rank in range(size)]))
        whole = np.concatenate([rows(rank, np.int64)[:, 0] for rank in range(size)])
        np.testing.assert_array_equal(indices, whole)
        assert (total == size).all()


@pytest.mark.parametrize("dtype", [np.float32, np.float64, np.int32])
def test_sums_keep_their_type(dtype: Any) -> None:
    results = _together(2, lambda joined: joined.all_reduce_sum(_values(joined.rank, dtype)))
    np.testing.assert_array_equal(results[1][4], _values(0, dtype)[4] + _values(1, dtype)[4])


def test_one_sum_takes_one_type() -> None:
    both = [np.ones(2, np.float32), np.ones(2, np.int32)]
    results = _together(2, lambda joined: joined.all_reduce_sum(both))
    assert all("one dtype, not ['float32', 'int32']" in str(result) for result in results)


def test_many_calls_in_a_row_do_not_mix() -> None:
    def work(joined: SharedMemory) -> list[Any]:
        seen: list[Any] = []
        for step in range(40):
            size = 1 + (step * 7919) % 400000
            [total] = joined.all_reduce_sum([np.full(size, step + joined.rank, np.float32)])
            seen += [float(total.min()), float(total.max()), joined.all_gather([step, joined.rank])]
        return seen

    results = _together(3, work)
    wanted: list[Any] = []
    for step in range(40):
        wanted += [3.0 * step + 3, 3.0 * step + 3, [[step, rank] for rank in range(3)]]
    assert results == [wanted] * 3


def test_overflow_is_passed_on_without_a_warning(recwarn: Any) -> None:
    results = _together(2, lambda joined: joined.all_reduce_sum([np.array([3e38, 1.0], np.float32)]))
    np.testing.assert_array_equal(results[0][0], np.array([np.inf, 2.0], np.float32))
    assert not recwarn.list


def test_a_rank_that_never_comes_is_named() -> None:
    name, errors = uuid.uuid4().hex, {}  # type: ignore[var-annotated]

    def run(rank: int) -> None:
        try:
            SharedMemory(name, rank, 4, timeout=1.0)
        except CollectiveError as error:
            errors[rank] = str(error)

    threads = [threading.Thread(target=run, args=(rank,)) for rank in (0, 2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert errors[0] == "rank 1, 3 did not arrive within 1 s"
    assert errors[2] in (
        "rank 0 still waits for another rank after 1 s", "rank 0 ended before all ranks had connected",
    )  # fmt: skip


def test_without_rank_0_the_others_say_so() -> None:
    with pytest.raises(CollectiveError, match="rank 0 did not arrive within"):
        SharedMemory(uuid.uuid4().hex, 1, 2, timeout=0.2)


def test_a_barrier_names_who_is_missing() -> None:
    def work(joined: SharedMemory) -> None:
        if joined.rank != 1:
            joined.barrier()

    results = _together(3, work, timeout=1.0)
    assert [str(results[rank]) for rank in (0, 2)] == ["rank 1 did not arrive within 1 s"] * 2


def test_a_barrier_holds_until_the_last_has_come() -> None:
    def work(joined: SharedMemory) -> float:
        if joined.rank == 2:
            time.sleep(0.5)
        before = time.monotonic()
        joined.barrier()
        return before if joined.rank == 2 else time.monotonic()

    first, second, late = _together(3, work)
    assert first >= late and second >= late


def test_counters_may_start_again_from_zero() -> None:
    def work(joined: SharedMemory) -> Any:
        joined.barrier()
        joined._count = int(np.uint32(2**32 - 3))
        joined._arrived[joined.rank] = joined._count
        time.sleep(0.2)
        for _ in range(6):
            joined.barrier()
        return joined.all_gather(joined._count)

    results = _together(2, work)
    assert results[0] == results[1] == [3, 3]


@pytest.mark.parametrize("where", ["before", "joined", "barrier"])
def test_nothing_is_left_of_ranks_killed_at_any_moment(where: str) -> None:
    before, name = _left(), uuid.uuid4().hex
    environ: dict[str, str] = {**os.environ, "PYTHONPATH": str(ROOT)}
    ranks = [
        subprocess.Popen(
            [sys.executable, "-c", DIES, name, str(rank), "3", "barrier" if rank else where],
            env=environ, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        )
        for rank in range(3)
    ]  # fmt: skip
    errors = [rank.communicate(timeout=60)[1].decode() for rank in ranks]
    assert ranks[0].returncode == -signal.SIGKILL
    if where != "barrier":  # the others outlive rank 0, and say whom they miss
        expected = "CollectiveError: rank 0 did not arrive within 4 s"
        assert all(expected in error for error in errors[1:]), errors
    assert _left() == before


def test_other_users_cannot_come(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rendezvous, "_has_same_user", lambda peer: False)
    results = _together(2, lambda joined: joined.rank, timeout=0.5)
    assert str(results[0]) == "rank 1 did not arrive within 0.5 s"
    assert isinstance(results[1], CollectiveError)


def test_a_small_shared_memory_gets_small_slots(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rendezvous, "free_bytes", lambda: 1 << 20)
    results = _together(2, lambda joined: (joined.slot_bytes, joined.all_reduce_sum(_values(joined.rank))[5]))
    assert results[0][0] == 86016 // 4096 * 4096
    np.testing.assert_array_equal(results[0][1], _values(0)[5] + _values(1)[5])


def test_a_value_too_long_to_gather_is_refused() -> None:
    results = _together(2, lambda joined: joined.all_gather("x" * joined.slot_bytes))
    assert all("all_gather takes" in str(result) for result in results)


def test_one_rank_alone_needs_nobody() -> None:
    alone = connect("", 0, 1)
    assert isinstance(alone, Alone) and alone.all_gather({"a": 1}) == [{"a": 1}]
    [same] = alone.all_reduce_sum([np.arange(3)])
    np.testing.assert_array_equal(same, np.arange(3))


def test_buckets_run_from_the_last_tensor_and_keep_types_apart() -> None:
    tensors = [
        ("float32", 5),
        ("float32", 90),
        ("int32", 4),
        ("float32", 30),
        ("float32", 60),
        ("float32", 11),
    ]
    assert buckets(tensors, 100) == [[5, 4], [3], [2], [1, 0]]
    assert buckets([("float32", 500), ("float32", 1)], 100) == [[1], [0]]
    assert buckets([], 100) == []


def test_buckets_hold_every_tensor_once() -> None:
    random = np.random.RandomState(0)
    for limit in (1, 50, 10**6):
        tensors = [("float32", int(size)) for size in random.randint(1, 99, 40)]
        made = buckets(tensors, limit)
        assert sorted(index for bucket in made for index in bucket) == list(range(40))
        assert all(sum(tensors[i][1] for i in b) <= limit for b in made if len(b) > 1)
