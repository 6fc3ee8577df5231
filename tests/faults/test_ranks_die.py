"""Cases 1 to 20: ranks that die, each in its own way, and who is named."""

from __future__ import annotations

import json
import os
import signal
from pathlib import Path

import pytest

from tests.faults.helpers import Job, cgroup


def test_case_01_an_exception_is_named_with_its_traceback_before_anything_else(job: Job) -> None:
    job.script("if RANK == 1: raise ValueError('bad label 7')\ntime.sleep(60)")
    assert job.run(3) == 1
    lines = job.report.splitlines()
    assert "rank 1" in lines[0] and lines[0].endswith("ValueError: bad label 7")
    assert lines[3].strip().startswith("Traceback") and "job.py" in lines[4]
    assert "worker.py" not in job.report
    assert "ranks 0,2: ended by npu-launch" in job.report
    job.gone()


def test_case_02_sys_exit_with_a_code_is_the_exit_code(job: Job) -> None:
    job.script("if RANK == 0: sys.exit(29)\ntime.sleep(60)")
    assert job.run(2) == 29
    assert job.result["culprit"] == 0 and job.state(0) == "exited"
    assert "exit code 29" in job.report


def test_case_03_an_exit_without_flush_keeps_the_tail(job: Job) -> None:
    job.script("os.write(1, b'the last words'); os._exit(3)")
    assert job.run(1) == 3
    assert "the last words" in job.report and job.log() == b"the last words"


def test_case_04_a_kill_from_outside_is_told_from_our_own(job: Job) -> None:
    job.script("time.sleep(60)")
    job.start(3)
    os.kill(job.pids(3)[2], signal.SIGKILL)
    assert job.wait() == 137
    assert "killed by SIGKILL, not by npu-launch" in job.report
    assert job.result["culprit"] == 2 and job.state(0) == "ended by npu-launch"
    job.gone()


def test_case_05_a_segmentation_fault_shows_its_python_stack(job: Job) -> None:
    job.script("import ctypes\ndef deep(): ctypes.string_at(0)\ndeep()")
    assert job.run(1) == 139
    assert "SIGSEGV" in job.report and "in deep" in job.report


def test_case_06_an_abort_in_a_c_thread_is_a_signal(job: Job) -> None:
    job.script(
        """
        import ctypes
        threading.Thread(target=ctypes.CDLL(None).abort).start()
        time.sleep(60)
        """
    )
    assert job.run(2) == 134
    assert "SIGABRT" in job.report


@pytest.mark.parametrize(("number", "name"), [(7, "SIGBUS"), (8, "SIGFPE"), (40, "signal 40")])
def test_case_07_every_signal_has_a_name_and_its_code(job: Job, number: int, name: str) -> None:
    assert job.run(1, command=["sh", "-c", f"kill -{number} $$"]) == 128 + number
    assert f"killed by {name}" in job.report


def test_case_08_the_kernels_oom_kill_is_proved(job: Job) -> None:
    group = cgroup("memory", "oom")
    if group is None:
        pytest.skip("no memory cgroup (version 1) that this user may make")
    try:
        (group / "memory.limit_in_bytes").write_text(str(200 << 20))
        job.script("time.sleep(0.5)\nif RANK == 1: hog = b'x' * (400 << 20)\ntime.sleep(60)")
        code = job.run(2, prepare=lambda: (group / "tasks").write_text(str(os.getpid())) and None)
    finally:
        job.close()
        group.rmdir()
    assert code == 137
    assert job.state(1) == "out of memory" and "OOM killer" in job.report


def test_case_09_a_memory_error_is_called_out_of_memory(job: Job) -> None:
    job.script(
        """
        import resource
        resource.setrlimit(resource.RLIMIT_AS, (1 << 30, 1 << 30))
        if RANK == 1: b'x' * (2 << 30)
        time.sleep(60)
        """
    )
    assert job.run(2) == 1
    assert job.state(1) == "out of memory" and "MemoryError" in job.report


@pytest.mark.parametrize(
    ("text", "mode", "code"),
    [
        ("#!/no/such/interpreter\n", 0o755, 127),
        ("echo no first line\n", 0o755, 126),
        ("#!/bin/sh\n", 0o644, 126),
    ],
)
def test_case_10_a_program_that_cannot_run_names_its_path(job: Job, text: str, mode: int, code: int) -> None:
    program = job.folder / "program"
    program.write_text(text)
    program.chmod(mode)
    assert job.run(2, command=["./program"]) == code
    assert "program" in job.output and "Traceback" not in job.output
    job.gone()


def test_case_10_a_program_that_is_not_there_is_127(job: Job) -> None:
    assert job.run(2, command=["./nowhere"]) == 127
    assert "./nowhere" in job.output


def test_case_11_an_import_error_of_the_program_is_named(job: Job) -> None:
    job.script("import no_such_module_at_all")
    assert job.run(4) == 1
    assert "No module named 'no_such_module_at_all'" in job.report.splitlines()[0]


def test_case_12_of_two_failures_5_ms_apart_the_earlier_is_named(job: Job) -> None:
    job.script(
        """
        open("ready_%d" % RANK, "w").close()
        for rank in range(SIZE): wait_for("ready_%d" % rank)
        start = max(os.stat("ready_%d" % rank).st_mtime for rank in range(SIZE)) + 0.3
        delay = {3: 0.0, 1: 0.005}.get(RANK)
        if delay is not None:
            time.sleep(max(0, start + delay - time.time()))
            raise RuntimeError("from rank %d" % RANK)
        time.sleep(60)
        """
    )
    assert job.run(4) == 1
    stamps = {
        rank: json.loads(path.read_text())["monotonic_ns"]
        for rank, path in ((r, job.path / "ranks" / str(r) / "error.json") for r in (1, 3))
        if path.exists()
    }
    assert job.result["culprit"] == min(stamps, key=lambda rank: stamps[rank])


def test_case_13_one_error_of_eight_ranks_is_printed_once(job: Job) -> None:
    job.script(
        """
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        open("ready_%d" % RANK, "w").close()
        for rank in range(SIZE): wait_for("ready_%d" % rank)
        start = max(os.stat("ready_%d" % rank).st_mtime for rank in range(SIZE)) + 0.5
        time.sleep(max(0, start - time.time()))
        raise KeyError("rank %d lacks a key" % RANK)
        """
    )
    assert job.run(8) == 1
    assert "[0-7]" in job.report
    assert job.report.count("Traceback (most recent call last)") == 1


def test_case_14_ranks_that_only_waited_are_victims(job: Job) -> None:
    job.script(
        """
        print("step 1", flush=True)
        if RANK == 5:
            time.sleep(0.4)
            raise ValueError("the real reason")
        time.sleep(0.1)
        raise TimeoutError("all_reduce timed out: not every rank came")
        """
    )
    assert job.run(8) == 1
    assert job.result["culprit"] == 5 and "the real reason" in job.report.splitlines()[0]
    assert {job.state(rank) for rank in (0, 1, 2, 3, 4, 6, 7)} == {"victim"}


def test_the_noise_of_a_shutdown_hides_no_victim(job: Job) -> None:
    (job.folder / "rank.sh").write_text(
        """
        if [ $RANK_ID = 1 ]; then sleep 0.6; echo "RuntimeError: the real reason"; exit 7; fi
        echo "EI0006: [PID: 71] Getting socket times out."
        for i in $(seq 300); do
            echo "/lib/tempfile.py:$i: ResourceWarning: Implicitly cleaning up <TemporaryDirectory '/tmp/x'>"
        done
        exit 1
        """
    )
    assert job.run(3, command=["sh", "rank.sh"]) == 7
    assert job.result["culprit"] == 1 and "it wrote: RuntimeError: the real reason" in job.report
    assert {job.state(0), job.state(2)} == {"victim"}


def test_case_14_a_rank_that_is_silent_while_all_others_time_out_is_the_suspect(job: Job) -> None:
    job.script(
        """
        def stuck(): time.sleep(60)
        if RANK == 2: stuck()
        time.sleep(0.3)
        raise RuntimeError("EI0002: notify wait timeout")
        """
    )
    assert job.run(4) == 1
    assert job.result["culprit"] == 2 and job.state(2) == "silent"
    assert "in stuck" in job.report and "EI0002" in job.report


def test_case_15_an_exception_in_another_thread_is_in_the_report(job: Job) -> None:
    job.script(
        """
        def feed(): raise OSError("the data set is gone")
        thread = threading.Thread(target=feed, name="feeder"); thread.start(); thread.join()
        time.sleep(0.5)  # the process goes on all the same
        os._exit(7)
        """
    )
    assert job.run(2) == 7
    assert "in thread feeder" in job.report and "the data set is gone" in job.report


def test_case_16_an_exception_that_cannot_be_printed_is_named_by_its_type(job: Job) -> None:
    job.script(
        """
        class Odd(Exception):
            def __str__(self): raise RuntimeError("no")
            __reduce__ = __str__
        raise Odd()
        """
    )
    assert job.run(2) == 1
    assert "Odd" in job.report.splitlines()[0]


def test_case_17_a_rank_that_hangs_after_its_error_starts_the_teardown(job: Job) -> None:
    job.script(
        """
        import atexit
        atexit.register(time.sleep, 60)
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        if RANK == 1: raise ValueError("said before the hang")
        time.sleep(60)
        """
    )
    assert job.run(2, "--grace", 0.5) == 1
    assert "said before the hang" in job.report and "exit handlers" in job.report
    job.gone()


def test_case_18_a_rank_that_leaves_with_0_while_others_wait_is_found(job: Job) -> None:
    job.script("if RANK == 1: sys.exit(0)\ntime.sleep(60)")
    assert job.run(3, "early_exit_grace=1", "--grace", 2) == 124
    assert job.result["culprit"] == 1 and "exited with 0 while" in job.report


def test_case_18_ranks_that_still_work_are_left_alone_when_one_is_done(job: Job) -> None:
    job.script(
        """
        for n in range(25 if RANK else 0):
            print(n, flush=True); time.sleep(0.1)
        """
    )
    assert job.run(2, "early_exit_grace=1") == 0


def test_case_19_a_late_failure_wins_over_an_early_success(job: Job) -> None:
    job.script("time.sleep(RANK * 0.2)\nif RANK == 3: sys.exit(5)")
    assert job.run(4) == 5
    assert job.state(0) == "finished" and job.result["culprit"] == 3


def test_case_20_a_daemon_that_a_good_run_leaves_is_killed(job: Job) -> None:
    job.script("child('import time; time.sleep(60)', start_new_session=True)")
    assert job.run(2) == 0
    job.gone()


def test_all_exit_codes_of_a_rank_are_kept(tmp_path: Path) -> None:
    from launcher.diagnosis.failure import RankEnd
    from launcher.diagnosis.verdict import exit_code_of, judge

    for code in range(1, 256):
        ends, culprit = judge([RankEnd(0, 0, pid=1, code=code)], None)
        assert culprit is not None and exit_code_of(ends, culprit) == code
