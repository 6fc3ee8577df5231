"""Cases 65 to 70: clocks that jump, ranks that hang, ranks that are only slow."""

from __future__ import annotations

import os
import threading

import pytest

from tests.faults.helpers import Job, cgroup

BEATS = """
    from bert.heartbeat import beat
    def steps(count, pause=0.05, first=1):
        for n in range(first, first + count):
            beat("train", n); print("step", n, flush=True); time.sleep(pause)
"""


def test_case_65_a_wall_clock_that_jumps_fires_no_timeout(job: Job) -> None:
    job.script(BEATS + "    steps(20)")
    job.drive("jump", 2, hang_timeout=5.0, early_exit_grace=5.0, grace=2.0)
    assert job.wait() == 0
    assert 0 < job.result["seconds"] < 1000


def test_case_66_a_machine_that_sleeps_fires_no_timeout(job: Job) -> None:
    group = cgroup("freezer", "sleep")
    if group is None:
        pytest.skip("no freezer cgroup (version 1) that this user may make, to stop all at once")
    job.script(BEATS + "    steps(30)")
    try:
        job.start(
            2,
            "--hang-timeout",
            3,
            prepare=lambda: (group / "tasks").write_text(str(os.getpid())) and None,  # type: ignore[operator]
        )
        job.says(1, b"step 3")
        (group / "freezer.state").write_text("FROZEN")
        threading.Event().wait(4.0)
        (group / "freezer.state").write_text("THAWED")
        assert job.wait() == 0, job.output
    finally:
        (group / "freezer.state").write_text("THAWED")
        job.close()
        group.rmdir()


@pytest.mark.parametrize(
    ("place", "code"),
    [
        ("in a Python loop", "while True: pass"),
        ("in C with the GIL held", "import ctypes; ctypes.PyDLL(None).sleep(600)"),
        ("in the kernel", "os.read(os.pipe()[0], 1)"),
    ],
)
def test_case_67_a_hang_is_found_and_the_odd_rank_named(job: Job, place: str, code: str) -> None:
    job.script(
        BEATS
        + f"""
    def all_reduce():
        time.sleep(600)
    def tokenise():
        {code}
    steps(2)
    tokenise() if RANK == 1 else all_reduce()
    """
    )
    assert job.run(4, "--hang-timeout", 1, "--grace", 0.5) == 124
    assert job.result["culprit"] == 1 and job.state(1) == "hung"
    assert "0,2-3 in all_reduce" in job.report and "1 in tokenise" in job.report
    assert "last in step 2 (train)" in job.report
    job.gone()


def test_case_67_a_rank_that_is_stopped_is_named_as_such(job: Job) -> None:
    job.script(
        BEATS
        + """
    steps(2)
    if RANK == 2: os.kill(os.getpid(), signal.SIGSTOP)
    time.sleep(600)
    """
    )
    assert job.run(3, "--hang-timeout", 1, "--grace", 0.5) == 124
    assert job.result["culprit"] == 2 and "rank 2 is stopped" in job.report
    job.gone()


def test_case_68_a_slow_first_step_and_a_phase_without_steps_are_no_hang(job: Job) -> None:
    job.script(
        BEATS
        + """
    beat("compile"); time.sleep(2.5)
    steps(3)
    if RANK == 0: beat("answers"); time.sleep(2.5)
    wait_for("done") if RANK else open("done", "w")
    """
    )
    assert job.run(2, "--hang-timeout", 1) == 0, job.output


def test_case_69_a_heartbeat_that_cannot_be_written_is_no_hang(job: Job) -> None:
    job.script(
        BEATS
        + """
    import resource
    beat("train", 1)
    resource.setrlimit(resource.RLIMIT_FSIZE, (0, 0))
    steps(60, first=2)
    """
    )
    assert job.run(2, "--hang-timeout", 1.5) == 0, job.output


def test_case_70_a_slow_rank_gets_a_warning_and_nothing_else(job: Job) -> None:
    job.script(BEATS + "    steps(40, 0.02) if RANK != 2 else steps(8, 0.15)\n    time.sleep(0.5)")
    assert job.run(4) == 0
    assert "rank 2 is slow" in job.output
