"""Cases 80 and 81: runs that are started again, and those that are not."""

from __future__ import annotations

import json

from launcher.supervision.events import Event
from tests.faults.helpers import Job, until

ONCE = """
    attempt = int(os.environ["NPU_LAUNCH_ATTEMPT"])
    print("attempt", attempt, flush=True)
"""


def test_a_run_that_fails_once_is_started_again_and_succeeds(job: Job) -> None:
    job.script(ONCE + "    if attempt == 0 and RANK == 1: sys.exit(29)")
    assert job.run(2, "--max-restarts", 2, "--restart-on", "exit:29") == 0
    assert job.log(1) == b"attempt 0\nattempt 1\n"
    assert job.result["attempts"] == 2 and "restart 1 of 2" in job.output


def test_a_failure_that_restart_on_does_not_name_ends_the_run(job: Job) -> None:
    job.script(ONCE + "    sys.exit(3)")
    assert job.run(1, "--max-restarts", 2, "--restart-on", "exit:29,signal:SEGV,hang") == 3
    assert job.result["attempts"] == 1 and "not started again" in job.report


def test_a_signal_is_worth_a_restart_when_it_is_named(job: Job) -> None:
    job.script(ONCE + "    if attempt == 0: os.kill(os.getpid(), signal.SIGSEGV)")
    assert job.run(2, "--max-restarts", 1, "--restart-on", "signal:SEGV") == 0
    assert job.result["attempts"] == 2


def test_case_80_the_same_traceback_again_within_seconds_ends_the_run(job: Job) -> None:
    job.script(ONCE + "    raise ValueError('always')")
    assert job.run(2, "--max-restarts", 5) == 1
    assert job.result["attempts"] == 2
    assert "the same traceback came back" in job.report
    assert (job.path / "ranks" / "0" / "error.json.0").exists() or (
        job.path / "ranks" / "1" / "error.json.0"
    ).exists()


def test_case_80_restarts_end_at_their_number_with_the_code_of_the_last_failure(job: Job) -> None:
    job.script(ONCE + "    os._exit(10 + attempt)")
    assert job.run(1, "--max-restarts", 2) == 12
    assert job.result["attempts"] == 3 and "no restart left" in job.report


STUCK = """
    attempt, folder = int(os.environ["NPU_LAUNCH_ATTEMPT"]), os.environ["NPU_LAUNCH_RANK_DIR"]
    step = min(attempt + 1, 2) * 100
    path = os.path.join(folder, "model.ckpt-%d" % step)
    with open(path, "w") as stream:
        stream.write("weights")
    with open(os.path.join(folder, "artifacts.jsonl"), "a") as stream:
        record = {"kind": "checkpoint", "step": step, "prefix": path, "files": [path]}
        stream.write(json.dumps(record) + "\\n")
    os._exit(7)
"""


def test_restarts_end_when_three_have_brought_no_newer_checkpoint(job: Job) -> None:
    job.script(STUCK)
    hook = f"on_event=cp /dev/stdin {job.folder}/got"
    assert job.run(1, "--max-restarts", 9, "on_event_only=[alert]", hook) == 7
    assert job.result["attempts"] == 5
    said = "no checkpoint beyond step 200 in 3 restarts"
    assert f"not started again: {said}" in job.report
    assert [event["data"] for event in job.events(Event.ALERT)] == [
        {"kind": "no progress", "step": 200, "text": said}
    ]
    assert json.loads((job.folder / "got").read_text())["data"]["text"] == said
    job.gone()


DIES_IN_STEP_3 = """
    from launcher.worker import step
    for number in range(1, 4):
        step(number)
    raise OSError("attempt " + "x" * int(os.environ["NPU_LAUNCH_ATTEMPT"]))
"""


def test_restarts_end_when_all_attempts_have_ended_after_the_same_step(job: Job) -> None:
    job.script(DIES_IN_STEP_3)
    assert job.run(1, "--max-restarts", 9) == 1
    assert job.result["attempts"] == 4
    said = "4 attempts in a row ended after step 3"
    assert f"not started again: {said}" in job.report
    assert job.result["alerts"] == [{"kind": "no progress", "step": 3, "text": said}]


def test_case_81_a_restart_waits_until_the_devices_are_free(job: Job) -> None:
    job.script("print('hello', flush=True); os._exit(9)")
    job.drive("busy", 1, max_restarts=1)
    assert job.wait() == 9
    assert job.log(0) == b"hello\nhello\n"
    probes = (job.folder / "probes").read_text().splitlines()
    started = [event["time"] for event in job.events(Event.STARTED)]
    assert len(probes) >= 3 and len(started) == 2


def test_ctrl_c_while_a_restart_waits_ends_the_run(job: Job) -> None:
    job.script("os._exit(9)")
    job.start(1, "--max-restarts", 8)
    until(lambda: "restart 3 of 8" in job.output)
    job.send(2)
    assert job.wait() == 130
    assert json.loads((job.path / "result.json").read_text())["exit_code"] == 130
