"""npu-launch logs --errors: who failed first, and what the codes mean."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest

from launcher.logs.first_errors import collect, report
from launcher.logs.view import LogSource, Query
from launcher.run_dir import RunDir
from tests.launcher.log_makers import BEGIN, MS, make_run
from tests.launching import launch

TRACE = 'Traceback (most recent call last):\n  File "x.py", line 1, in f\n    boom()\n%s\n'


def raised(run: RunDir, rank: int, when: int, error: str) -> None:
    record = {
        "time_ns": BEGIN + when * MS,
        "rank": rank,
        "type": "E",
        "message": error,
        "traceback": TRACE % error,
    }
    run.error(rank).write_text(json.dumps(record))


def test_the_first_rank_to_fail_stands_first_and_victims_with_the_same_error_together(tmp_path: Path) -> None:
    run = make_run(tmp_path / "job-1", [[(0, "e", b"WARNING nothing\n")]] * 4)
    raised(run, 2, 100, "ValueError: bad label 7")
    for rank in (0, 1, 3):
        raised(
            run,
            rank,
            5000 + rank,
            "RuntimeError: EI0002: the wait execution of the Notify register times out",
        )
    lines = report(collect([LogSource(run.path)], Query()))
    assert "rank 2, first of all" in lines[0] and lines[4] == "    ValueError: bad label 7"
    assert "rank 0-1,3" in lines[6] and not any("EI0002:" in line for line in lines[:6])
    assert any(line.startswith("    -> EI0002: a rank waited in a collective") for line in lines)


def test_codes_that_only_plog_shows_are_explained(tmp_path: Path) -> None:
    run = make_run(tmp_path / "job-1", [[(0, "o", b"fine\n")]])
    raised(run, 0, 100, "RuntimeError: tf.session")
    plog = run.rank_dir(0) / "plog" / "debug" / "plog"
    plog.mkdir(parents=True)
    text = "[INFO] HCCL(7,python):2026-03-01-10:21:35.118.204 [a.cc:1] [7]start\n"
    text += "[ERROR] HCCL(7,python):2026-03-01-10:21:36.118.204 [a.cc:2] [7]EI0014: Value 1.0 for ranktable\n"
    (plog / "plog-7_20260301.log").write_text(text)
    (found,) = collect([LogSource(run.path)], Query())
    assert found.rank == 0 and found.lines[-1] == "RuntimeError: tf.session"
    assert [item.code for item in found.explanations] == ["EI0014"]


def test_without_an_error_file_the_first_error_in_the_log_counts(tmp_path: Path) -> None:
    noise = b"2026-03-01 10:21:35.1: E external/x.cc:1] Unable to register cuFFT factory: twice\n"
    text = noise + b"step 1\n" + (TRACE % "OSError: gone").encode() + b"[ERROR] later\n"
    run = make_run(tmp_path / "job-1", [[(0, "e", noise)], [(7, "e", text)]])
    (found,) = collect([LogSource(run.path)], Query())
    assert found.rank == 1 and found.time_ns == BEGIN + 7 * MS
    assert found.lines == (*(TRACE % "OSError: gone").splitlines(), "[ERROR] later")


def test_logs_of_others_show_their_first_error_by_their_own_times(tmp_path: Path) -> None:
    (tmp_path / "train_0.log").write_text(
        "2026-03-01 10:21:36.0 ok\n2026-03-01 10:21:39.0 ERROR EI0006 late\n"
    )
    (tmp_path / "train_1.log").write_text(
        "2026-03-01 10:21:36.0 ok\n2026-03-01 10:21:37.0 ERROR disk\nmore\n"
    )
    first, second = collect([LogSource(tmp_path)], Query())
    assert (first.rank, first.lines) == (1, ("2026-03-01 10:21:37.0 ERROR disk",))
    assert (second.rank, second.explanations[0].code) == (0, "EI0006")


PADDLE = """\
I0301 10:21:3{second}.773968 16260 tcp_utils.cc:132] Successfully connected to 127.0.0.1:57099
{trace}

--------------------------------------
C++ Traceback (most recent call last):
--------------------------------------
No stack trace in paddle, may be caused by external reasons.

----------------------
Error Message Summary:
----------------------
FatalError: `Termination signal` is detected by the operating system.
  [SignalInfo: *** SIGTERM (@0x3f28) received by PID 7 (TID 0x7fbc01861b80) from PID 6 ***]
"""  # workerlog.N of paddle.distributed.launch 3.3


def test_of_lines_without_times_an_own_error_stands_before_those_that_waited_for_it(tmp_path: Path) -> None:
    lost = "RuntimeError: [gloo/transport/tcp/pair.cc:584] TIMEOUT self_rank = 0 pair_rank = 1"
    texts = [TRACE % lost, TRACE % "ValueError: no label", TRACE % lost, "fine"]
    for rank, text in enumerate(texts):
        (tmp_path / f"workerlog.{rank}").write_text(PADDLE.format(second=rank, trace=text))
    found = collect([LogSource(tmp_path)], Query())
    assert [(error.rank, error.waited) for error in found] == [(1, False), (0, True), (2, True)]
    heads = [line.split("  ")[1] for line in report(found) if str(tmp_path) in line]
    assert heads == ["rank 1, first of all", "rank 0,2 (waited for another rank)"]


def test_msrun_s_scheduler_only_tells_of_the_worker_that_failed(tmp_path: Path) -> None:
    line = "[{}] DISTRIBUTED(7,7f9a,python):2026-03-01-10:21:{}.000.000 [a.cc:5] Run] {}\n"
    head = line.format("WARNING", 30, "This node rank id: 1")
    gone = "RuntimeError: The total number of timed out node is 1. Timed out node list is: [const vector]{1}"
    texts = {
        "worker_0": head + TRACE % "RuntimeError: Failed to register to the meta server node.",
        "worker_1": head + "step 1\n" + TRACE % "RuntimeError: For 'MatMulExt' op, shapes differ.",
        "scheduler": head + line.format("ERROR", 31, "The node: 1 is timed out.") + TRACE % gone,
    }  # mindspore/ccsrc/cluster/topology of MindSpore 2.10
    for name, text in texts.items():
        (tmp_path / f"{name}.log").write_text(text)
    found = collect([LogSource(tmp_path)], Query())
    assert [error.label for error in found] == ["1", "0", "scheduler"]
    assert [error.waited for error in found] == [False, True, True]
    warnings = launch(tmp_path, "logs", ".", "--level", "warning").stdout.splitlines()
    assert sum("This node rank id" in line for line in warnings) == 3
    assert not any(line.endswith("step 1") for line in warnings)


def test_what_torch_s_ranks_recorded_is_read_where_torchrun_kept_no_output(tmp_path: Path) -> None:
    texts = {0: "RuntimeError: [pair.cc:5] Connection closed by peer", 1: "ValueError: no label"}
    for rank, text in texts.items():
        folder = tmp_path / "none_y9o" / "attempt_0" / str(rank)
        folder.mkdir(parents=True)
        record = {"message": text, "extraInfo": {"py_callstack": TRACE % text, "timestamp": "1795946259"}}
        (folder / "error.json").write_text(json.dumps({"message": record}))
        os.utime(str(folder / "error.json"), (1795946259, 1795946259 + rank))
    attempt = tmp_path / "none_y9o" / "attempt_0"
    (attempt / "1" / "stderr.log").write_text("terminate called without an active exception\n")
    (attempt / "2").mkdir()
    (attempt / "2" / "error.json").write_text('{"mess')
    found = collect([LogSource(tmp_path)], Query())
    assert [(error.rank, error.lines[-1]) for error in found] == [(1, texts[1]), (0, texts[0])]
    assert [error.rank for error in collect([LogSource(tmp_path)], Query(ranks=(0,)))] == [0]
    (attempt / "1" / "stderr.log").unlink()
    assert "ValueError: no label" in launch(tmp_path, "logs", ".", "--errors").stdout


def test_the_command_line_prints_a_report_or_json(tmp_path: Path) -> None:
    run = make_run(tmp_path / "runs" / "job-1", [[(0, "o", b"x\n")], [(0, "o", b"x\n")]])
    assert launch(tmp_path, "logs", "--errors").stdout == "no error found\n"
    raised(run, 1, 100, "RuntimeError: EJ0001 Failed to initialize the HCCP process")
    done = launch(tmp_path, "logs", "--errors", "--json")
    (row,) = json.loads(done.stdout)
    assert row["rank"] == 1 and row["explanations"][0]["code"] == "EJ0001"
    assert "wait 10 s" in launch(tmp_path, "logs", "job", "--errors").stdout
    assert launch(tmp_path, "logs", "--errors", "--rank", "0").stdout == "no error found\n"


def failed(run: RunDir, **result: Any) -> None:
    run.write_json(run.result, {"exit_code": 137, "culprit": 1, "ends": [], **result})


def test_a_run_that_failed_without_an_error_in_its_logs_shows_how_and_its_last_lines(tmp_path: Path) -> None:
    lines = [(when, "o", b"step %d\n" % when) for when in range(30)]
    run = make_run(tmp_path / "job-1", [lines, lines])
    ends = [
        {"rank": 0, "state": "ended by npu-launch", "exit_code": 143},
        {"rank": 1, "state": "signalled", "exit_code": 137, "detail": "SIGKILL"},
    ]
    failed(run, ends=ends)
    (found,) = collect([LogSource(run.path)], Query())
    assert (found.rank, found.time_ns, found.path) == (1, BEGIN + 29 * MS, str(run.log(1)))
    assert found.lines[0] == "signalled, exit code 137: SIGKILL" and found.lines[-1] == "step 29"
    (found,) = collect([LogSource(run.path)], Query(ranks=(0,)))
    assert found.rank == 0 and found.lines[0].startswith("ended by npu-launch, exit code 143")


@pytest.mark.parametrize("damage", ["", "{", '{"exit_code": 1, "ends": 7, "culprit": "x"}', "fifo", "[]"])
def test_a_result_that_is_missing_or_damaged_does_not_hide_the_failure(tmp_path: Path, damage: str) -> None:
    run = make_run(tmp_path / "job-1", [[(5, "o", b"later\n")], [(1, "o", b"sooner\n")]])
    run.result.unlink()
    if damage == "fifo":
        os.mkfifo(str(run.result))
    elif damage:
        run.result.write_text(damage)
    (found,) = collect([LogSource(run.path)], Query())
    assert found.lines[-1] == "sooner" and found.rank == 1


def test_a_failure_before_any_line_shows_the_launchers_own(tmp_path: Path) -> None:
    run = make_run(tmp_path / "job-1", [[]])
    (run.logs / "launcher.log").write_text("10:00:00 preflight: no device\n")
    failed(run, culprit=None)
    (found,) = collect([LogSource(run.path)], Query())
    assert found.label == "launcher" and found.lines[-1].endswith("no device")


def test_one_file_of_several_ranks_gives_the_first_error_of_each(tmp_path: Path) -> None:
    trace = (TRACE % "ValueError: %d").splitlines()
    lines = [
        b"[rank%d]: %s" % (rank, line.replace("%d", str(rank)).encode()) for line in trace for rank in (0, 3)
    ]
    (tmp_path / "train.log").write_bytes(b"2026-03-01 10:00:00 start\n" + b"\n".join(lines) + b"\nstep 5\n")
    found = collect([LogSource(tmp_path)], Query())
    assert [(error.rank, error.lines[-1]) for error in found] == [(0, "ValueError: 0"), (3, "ValueError: 3")]
    assert all(error.lines[0] == trace[0] for error in found)


def test_prefixes_without_a_rank_tell_who_it_was(tmp_path: Path) -> None:
    text = "web-1  | fine\nweb-2  | free(): invalid pointer\nweb-1  | fine\nweb-2  | Aborted (core dumped)\n"
    (tmp_path / "compose.log").write_text(text)
    (found,) = collect([LogSource(tmp_path)], Query())
    assert found.label == "compose web-2" and len(found.lines) == 2


def test_a_long_traceback_keeps_its_beginning_and_what_was_raised(tmp_path: Path) -> None:
    frames = "".join(f'  File "x.py", line {number}, in f\n' for number in range(900))
    (tmp_path / "rank_0.log").write_text(f"{TRACE.splitlines()[0]}\n{frames}RecursionError: deep\n")
    (found,) = collect([LogSource(tmp_path)], Query())
    shown = report([found])
    assert len(found.lines) <= 400 and shown[1].endswith(TRACE.splitlines()[0])
    assert shown[-1].endswith("RecursionError: deep") and len(shown) < 50


def test_a_fifo_among_the_plogs_of_a_run_is_passed_by(tmp_path: Path) -> None:
    run = make_run(tmp_path / "job-1", [[(0, "o", b"ERROR bad\n")]])
    (run.rank_dir(0) / "plog").mkdir(parents=True)
    os.mkfifo(str(run.rank_dir(0) / "plog" / "plog-7_1.log"))
    source = LogSource(run.path)
    assert [error.lines for error in collect([source], Query())] == [("ERROR bad",)]
    assert "a FIFO" in source.new_problems()[0]
