"""The ends of ranks on their way to the head, and the verdict over hosts that ended at times of their own."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as some

from launcher.diagnosis.failure import ErrorRecord, RankEnd, RankStatus
from launcher.diagnosis.verdict import judge
from launcher.errors import ReadError
from launcher.typed_json import Value

SECOND = 10**9
NUMBERS = some.integers(0, 10**18)
ERRORS = some.builds(
    ErrorRecord, NUMBERS, some.text(), some.text(), some.text(), some.text(), some.booleans()
)
ENDS = some.builds(
    RankEnd, rank=some.integers(0, 9999), device_id=some.integers(0, 99), pid=some.integers(0, 1 << 22),
    code=some.none() | some.integers(-64, 255), seconds=some.floats(0, 1e6), ended_ns=NUMBERS,
    status=some.sampled_from(RankStatus), error=some.none() | ERRORS, thread_error=some.none() | ERRORS,
    step=some.integers(0, 10**9), detail=some.text(), tail=some.binary(), plog=some.binary(),
)  # fmt: skip


def sent(end: RankEnd) -> RankEnd:
    return RankEnd.from_json(Value(json.loads(json.dumps(end.to_json())), "end"))


@given(ENDS)
def test_an_end_arrives_as_it_was(end: RankEnd) -> None:
    assert sent(end) == end


@given(some.sampled_from(sorted(RankEnd(0, 0).to_json())), some.sampled_from([[], {}, "\u00e9", -1.5, True]))
def test_anything_else_is_refused_or_read_by_its_type(key: str, value: Any) -> None:
    document = {**RankEnd(0, 0).to_json(), key: value}
    try:
        found = RankEnd.from_json(Value(document, "end"))
    except ReadError:
        return
    assert all(
        type(getattr(found, name)) in (int, float, str, bytes, type(None), RankStatus, ErrorRecord)
        for name in vars(found)
    )


def test_an_end_moves_to_the_head_s_clock_with_its_error() -> None:
    error = ErrorRecord(50, "ValueError", "x", "", "MainThread", True)
    end = RankEnd(0, 0, ended_ns=70, error=error).on_clock(20)
    assert (end.ended_ns, end.cause_ns) == (50, 30)
    assert RankEnd(0, 0, ended_ns=0).on_clock(20).ended_ns == 0  # it has not ended


@pytest.mark.parametrize(
    ("teardown", "status"),
    [(9 * SECOND, RankStatus.TERMINATED), (11 * SECOND, RankStatus.SIGNALLED), (None, RankStatus.SIGNALLED)],
    ids=["asked before", "asked after", "never asked"],
)
def test_each_host_s_own_time_says_which_ranks_were_ended(teardown: int | None, status: RankStatus) -> None:
    first = RankEnd(0, 0, code=7, ended_ns=8 * SECOND)
    other = RankEnd(1, 0, code=-15, ended_ns=10 * SECOND)
    ends, culprit = judge([first, other], {0: 8 * SECOND, 1: teardown})
    assert culprit is not None and culprit.rank == 0 and ends[1].status is status


def test_the_earliest_cause_of_all_hosts_is_the_culprit() -> None:
    late = RankEnd(0, 0, code=1, ended_ns=8 * SECOND)
    early = replace(late, rank=8, code=9, ended_ns=7 * SECOND)
    _, culprit = judge([late, early], {0: 8 * SECOND, 8: 7 * SECOND})
    assert culprit is not None and culprit.rank == 8
