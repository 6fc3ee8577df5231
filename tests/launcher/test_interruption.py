"""A signal that ranks and launcher got together is the interruption; what failed before it is not."""

from __future__ import annotations

from typing import Any

import pytest

from launcher.diagnosis.failure import ErrorRecord, RankEnd, RankStatus
from launcher.diagnosis.interruption import explains, is_interrupted, wait_until
from launcher.diagnosis.verdict import judge

MS = 1000000
WAITED = b"EI0006: Getting socket times out\n"


def end(rank: int, code: int, at: int, **more: Any) -> RankEnd:
    return RankEnd(rank, rank, pid=100 + rank, code=code, ended_ns=at * MS, **more)


def raised(kind: str, at: int) -> ErrorRecord:
    return ErrorRecord(at * MS, kind, "", kind, "MainThread", True)


def is_explained(ends: list[RankEnd], teardown: int, signal: int) -> bool:
    judged, culprit = judge(ends, teardown * MS)
    assert culprit is not None
    return explains(judged, culprit, signal * MS)


@pytest.mark.parametrize("code", [-15, -2, -1, 143, 130, 129])
@pytest.mark.parametrize("signal", [4990, 5010, 6500])
def test_ranks_that_the_same_signal_ended_have_not_failed(code: int, signal: int) -> None:
    ends = [end(0, code, at=5000), end(1, code, at=5003), end(2, -15, at=5300)]
    assert is_explained(ends, max(signal, 5004) if signal < 5000 else 5004, signal)


@pytest.mark.parametrize(
    ("ends", "signal"),
    [
        ([end(0, 3, at=4900), end(1, -15, at=5000)], 5001),  # it had failed
        ([end(0, 3, at=4900), end(1, -15, at=5000)], 4950),
        ([end(0, -9, at=5000), end(1, -15, at=5001)], 5500),  # SIGKILL asks nobody to end
        ([end(0, 139, at=5000)], 5500),
        ([end(0, -15, at=5000)], 7100),  # the launcher's signal is another one
        ([end(0, 0, at=5000, status=RankStatus.EXITED_EARLY)], 5001),
        ([end(0, 1, at=5200, error=raised("ValueError", 4900)), end(1, -15, at=5000)], 5001),
        ([end(0, 1, at=2000, tail=WAITED)], 5001),  # long before
    ],
)
def test_a_rank_that_failed_before_the_signal_is_the_culprit(ends: list[RankEnd], signal: int) -> None:
    assert not is_explained(ends, min(signal, 5002), signal)


@pytest.mark.parametrize(
    "ends",
    [
        [end(0, -15, at=5000), end(1, 1, at=5040, error=raised("ValueError", 5020))],  # in its handler
        [end(0, -15, at=5000), end(1, 1, at=4990, tail=WAITED)],  # it lost the one that was ended
        [end(0, 1, at=4500, tail=WAITED)],  # ranks of another host were ended first
        [end(0, 1, at=5000, error=raised("KeyboardInterrupt", 4999))],
    ],
)
def test_what_the_signal_entails_is_no_failure(ends: list[RankEnd]) -> None:
    assert is_explained(ends, 5100, 5200)


def test_the_launcher_waits_for_its_own_signal_only_where_it_would_explain() -> None:
    def until(*ends: RankEnd) -> int:
        return wait_until(*judge(ends, 6000 * MS)) // MS

    assert until(end(0, -15, at=5000), end(1, -2, at=5400)) == 7000
    assert until(end(0, 3, at=4000), end(1, -15, at=5000)) == 0
    assert until(end(0, -9, at=5000)) == until(end(0, 0, at=5000)) == 0
    assert not is_interrupted(end(0, -15, at=5000, status=RankStatus.TERMINATED))
