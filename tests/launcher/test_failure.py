"""Who is the culprit: facts in, verdicts out."""

from __future__ import annotations

import json
import os
import time
from pathlib import Path
from typing import Any

import pytest

from launcher.diagnosis.failure import ErrorRecord, Outcome, RankEnd, RankStatus, read_error, read_torch_error
from launcher.diagnosis.verdict import exit_code_of, judge
from launcher.errors import MissingFileError, ReadError
from tests.launching import launch

MS = 1000000


def error(at: int, message: str = "bad", kind: str = "ValueError") -> ErrorRecord:
    text = f"Traceback ...\n{kind}: {message}\n"
    return ErrorRecord(at * MS, kind, message, text, "MainThread", True)


def end(rank: int, code: int | None, at: int, **more: Any) -> RankEnd:
    return RankEnd(rank, rank, pid=100 + rank, code=code, ended_ns=at * MS, **more)


def statuses(ends: list[RankEnd], teardown: int | None) -> list[RankStatus]:
    return [item.status for item in judge(ends, teardown * MS if teardown else None)[0]]


def culprit(ends: list[RankEnd], teardown: int | None) -> int | None:
    found = judge(ends, teardown * MS if teardown else None)[1]
    return None if found is None else found.rank


def test_ranks_that_all_end_with_0_have_no_culprit() -> None:
    ends = [end(rank, 0, rank) for rank in range(4)]
    assert culprit(ends, None) is None and statuses(ends, None) == [RankStatus.FINISHED] * 4


def test_the_error_file_counts_not_the_moment_of_death() -> None:
    ends = [end(0, 3, at=20), end(1, 1, at=30, error=error(10))]
    assert culprit(ends, 31) == 1


@pytest.mark.parametrize(("message", "code"), [("75", 75), ("words", 1)])
def test_a_rank_that_hangs_after_its_exit_has_the_code_it_asked_for(message: str, code: int) -> None:
    ends = [end(0, -15, at=30, error=error(10, message, "SystemExit")), end(1, -15, at=30)]
    judged, found = judge(ends, 20 * MS)
    assert found is judged[0] and exit_code_of(judged, found) == code
    assert statuses(ends, 20) == [RankStatus.EXITED, RankStatus.TERMINATED]


def test_what_ranks_do_after_the_teardown_began_is_ours() -> None:
    ends = [end(0, 9, at=10), end(1, -15, at=30), end(2, 1, at=25, error=error(24)), end(3, 0, at=25)]
    terminated = RankStatus.TERMINATED
    assert statuses(ends, 20) == [RankStatus.EXITED, terminated, terminated, RankStatus.FINISHED]


@pytest.mark.parametrize(
    "message",
    [
        "EI0002: notify wait timeout",
        "EI0006: getting socket times out",
        "all_reduce timed out after 600 s",
        "rank 3 did not arrive within 600 s",
        "Connection reset by peer",
        "CollectiveError: rank 0 ended before all ranks had connected",
        "[Rank 1] Watchdog caught collective operation timeout: WorkNCCL",
    ],
)
def test_a_rank_that_lost_others_is_a_victim_of_any_other_failure(message: str) -> None:
    ends = [end(0, 1, at=5, error=error(4, message, "RuntimeError")), end(1, 1, at=9, error=error(8))]
    assert culprit(ends, 10) == 1 and statuses(ends, 10)[0] is RankStatus.VICTIM


@pytest.mark.parametrize("message", ["learning rate must be positive", "rank table has no rank 3", "timeout"])
def test_other_errors_are_no_victims(message: str) -> None:
    ends = [end(0, 1, at=5, error=error(4, message)), end(1, 1, at=9, error=error(8))]
    assert culprit(ends, 10) == 0


def test_the_rank_that_the_victims_name_is_the_suspect() -> None:
    victims = [end(r, 1, at=5, error=error(4, "rank 2 did not arrive within 9 s")) for r in (0, 1)]
    ends = [*victims, end(2, -15, at=9), end(3, -15, at=9)]
    judged, found = judge(ends, 6 * MS)
    assert found is not None and found.rank == 2 and found.status is RankStatus.SILENT
    assert exit_code_of(judged, found) == 1


LOST = "[/gloo/transport/tcp/pair.cc:553] Connection closed by peer [127.0.0.1]:36020"


def test_a_rank_that_lost_others_stays_a_victim_when_it_is_ended_in_its_exit_handlers() -> None:
    lost = error(12, LOST)
    ends = [end(0, -15, at=30, error=lost), end(1, -9, at=13), end(2, -6, at=14, error=lost)]
    assert culprit(ends, 20) == 1
    victim, signalled = RankStatus.VICTIM, RankStatus.SIGNALLED
    assert statuses(ends, 20) == [victim, signalled, victim]


def test_a_rank_that_ended_with_0_before_the_others_lost_it_in_a_collective_is_the_culprit() -> None:
    victims = [end(rank, 1, at=30, error=error(12, LOST)) for rank in (0, 2)]
    judged, found = judge([victims[0], end(1, 0, at=20), victims[1], end(3, -15, at=99)], 40 * MS)
    assert found is judged[1] and found.status is RankStatus.EXITED_EARLY
    assert [item.status for item in judged][::2] == [RankStatus.VICTIM] * 2
    late = [victims[0], end(1, 0, at=9000), victims[1]]
    assert culprit(late, None) == 0
    server = [end(0, 1, at=30, error=error(12, "Connection reset by peer")), end(1, 0, at=20)]
    assert culprit(server, None) == 0  # may be any server


def test_the_rank_that_is_steps_behind_is_the_suspect() -> None:
    victim = end(0, 1, at=5, error=error(4, "barrier timed out"), step=8)
    ends = [victim, end(1, -15, at=9, step=8), end(2, -15, at=9, step=7)]
    assert culprit(ends, 6) == 2


def test_without_any_evidence_the_first_victim_is_named() -> None:
    ends = [end(rank, 1, at=9, error=error(9 - rank, "barrier timed out")) for rank in range(3)]
    assert culprit(ends, None) == 2


def test_of_ranks_that_all_timed_out_the_one_that_waited_elsewhere_is_named() -> None:
    late, library = "Timed out waiting 8000ms for send operation to complete", "/v/site-packages/torch"

    def raised(rank: int, line: int, call: str, message: str = late) -> RankEnd:
        frames = f'  File "/job/a.py", line {line}, in main\n  File "{library}/a.py", line 9, in {call}\n'
        text = f"Traceback (most recent call last):\n{frames}RuntimeError: {message}\n"
        found = ErrorRecord((4 + rank) * MS, "RuntimeError", message, text, "MainThread", True)
        return end(rank, 1, at=20, error=found)

    ends = [raised(rank, *((7, "barrier") if rank == 2 else (5, "all_reduce"))) for rank in range(4)]
    _, found = judge(ends, None)
    assert found is not None and found.rank == 2
    assert found.detail == "it waited elsewhere than the others: in barrier, called in main (/job/a.py:7)"
    assert culprit(ends[:2], None) == culprit([*ends[:3], raised(3, 7, "barrier")], None) == 0
    assert culprit([*ends[:3], raised(3, 5, "all_reduce", LOST)], None) == 0  # it did not wait to the end


@pytest.mark.parametrize(
    ("item", "code"),
    [
        (end(0, -9, 1, status=RankStatus.HUNG), 124),
        (end(0, 0, 1, status=RankStatus.EXITED_EARLY), 124),
        (end(0, -9, 1), 137),
        (end(0, 77, 1), 77),
        (end(0, -9, 1, error=error(0)), 1),  # killed while it hung after its error
        (end(0, -15, 1, error=error(0, kind="torch.OutOfMemoryError")), 1),
        (end(0, 127, 1, status=RankStatus.NOT_STARTED), 127),
    ],
)
def test_the_exit_code_is_the_culprits(item: RankEnd, code: int) -> None:
    judged, found = judge([item], None)
    assert found is not None and exit_code_of(judged, found) == code


RECORD = {"monotonic_ns": 5, "type": "ValueError", "message": "bad", "traceback": "Traceback ..."}


def test_an_error_file_is_read_as_what_it_should_be(tmp_path: Path) -> None:
    path = tmp_path / "error.json"
    path.write_text(json.dumps(RECORD))
    assert read_error(path) == ErrorRecord(5, "ValueError", "bad", "Traceback ...", "", True)
    path.write_text(json.dumps(dict(RECORD, message="a" * 300000 + "the end", thread="t", fatal=False)))
    read = read_error(path)
    assert len(read.message) < 1 << 16 and read.message.endswith("the end") and not read.fatal
    assert "characters left out" in read.message
    with pytest.raises(MissingFileError):
        read_error(tmp_path / "nowhere.json")


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "empty"),
        ("[]", "a list (expected an object)"),
        ("null", "null (expected an object)"),
        ("\xff\x00", "not UTF-8"),
        (json.dumps(RECORD)[:40], "line 1"),
        (json.dumps(dict(RECORD, monotonic_ns="x")), "monotonic_ns: a text (expected a whole number)"),
        (json.dumps(dict(RECORD, monotonic_ns=10**400)), "monotonic_ns: a number out of range"),
        (json.dumps(dict(RECORD, monotonic_ns=-1)), "monotonic_ns: a number out of range"),
        (json.dumps(dict(RECORD, message=None)), "message: null (expected a text)"),
        (json.dumps(dict(RECORD, fatal=1)), "fatal: a whole number (expected true or false)"),
        ('{"type": "ValueError"}', "monotonic_ns: null (expected a whole number)"),
    ],
)
def test_a_damaged_error_file_is_one_error(tmp_path: Path, text: str, said: str) -> None:
    (tmp_path / "error.json").write_text(text, encoding="latin-1")
    with pytest.raises(ReadError) as caught:
        read_error(tmp_path / "error.json")
    assert said in str(caught.value)


def test_an_outcome_is_json() -> None:
    judged, _ = judge([end(0, -11, 1), end(1, 1, 2, error=error(2))], None)
    value = json.loads(json.dumps(Outcome(139, judged, 0, "text", 1, 2.5).as_dict()))
    assert value["ends"][0] == {
        "rank": 0, "device_id": 0, "pid": 100, "state": "signalled", "exit_code": 139, "signal": 11,
        "seconds": 0.0, "step": 0, "detail": "", "error": None,
    }  # fmt: skip
    assert value["ends"][1]["error"] == {"type": "ValueError", "message": "bad"}


@pytest.mark.parametrize(
    ("message", "kind", "text", "trace"),
    [
        (
            {"message": "my.Error: no: such file", "extraInfo": {"py_callstack": "Trace", "timestamp": "17"}},
            "my.Error", "no: such file", "Trace",
        ),
        ("plain words: of C++", "", "plain words: of C++", ""),
        ({"message": "RuntimeError: x"}, "RuntimeError", "x", ""),
    ],
)  # fmt: skip
def test_what_torch_records_is_read(
    tmp_path: Path, message: Any, kind: str, text: str, trace: str
) -> None:
    path = tmp_path / "torchelastic_error.json"
    path.write_text(json.dumps({"message": message}))
    os.utime(str(path), (time.time() - 100, time.time() - 100))
    read = read_torch_error(path)
    assert (read.kind, read.message, read.traceback) == (kind, text, trace)
    assert 99e9 < time.monotonic_ns() - read.monotonic_ns < 130e9


def test_torch_s_record_of_a_process_below_the_rank_is_the_rank_s_error(tmp_path: Path) -> None:
    trace = "Traceback (most recent call last):\nKeyError: 'x'"
    record = json.dumps({"message": {"message": "KeyError: 'x'", "extraInfo": {"py_callstack": trace}}})
    program = f"import os; open(os.environ['TORCHELASTIC_ERROR_FILE'], 'w').write({record!r}); os._exit(3)"
    words = ("--devices", "0", "--backend", "cpu", "framework=torch", "--", "python", "-c", program)
    done = launch(tmp_path, *words)
    assert done.returncode == 3
    assert "failed first: KeyError: 'x'" in done.stdout + done.stderr
