"""Cases 21 to 39: what happens to the launcher itself."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from launcher.run_dir import RunDir
from tests.faults.helpers import Job, alive, cgroup, until
from tests.launching import ROOT

FAMILY = """
    child("import time; time.sleep(60)")
    child("import time; time.sleep(60)", start_new_session=True)
    child("import time; time.sleep(60)", start_new_session=True, env={}, cwd="/")
    print("ready", flush=True)
    time.sleep(60)
"""


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGSEGV])
def test_case_21_and_22_nothing_outlives_a_launcher_that_is_killed(job: Job, number: int) -> None:
    job.script(FAMILY)
    job.start(3)
    for rank in job.pids(3):
        job.says(rank, b"ready")
    assert len(job.living()) >= 3
    job.send(number)
    assert job.wait() == -number
    job.gone()


def test_case_22_a_bug_of_the_launcher_is_125_and_leaves_nothing(job: Job) -> None:
    job.script(FAMILY)
    job.drive("bug", 2)
    job.says(0, b"ready")
    (job.folder / "now").touch()
    assert job.wait() == 125
    assert "ZeroDivisionError" in (job.path / "logs" / "launcher.log").read_text()
    assert "bug" in job.report
    job.gone()


def test_case_22_a_bug_after_a_ranks_failure_keeps_its_code_and_report(job: Job) -> None:
    job.script("sys.exit(4) if RANK else time.sleep(60)")
    job.drive("late_bug", 2)
    assert job.wait() == 4
    assert "rank 1 (" in job.report and "failed first: exit code 4" in job.report
    assert "then npu-launch failed: ZeroDivisionError: a defect (driver.py:" in job.report
    job.gone()


@pytest.mark.parametrize(
    ("number", "code"),
    [(signal.SIGTERM, 143), (signal.SIGHUP, 129), (signal.SIGQUIT, 131), (signal.SIGINT, 130)],
)
def test_case_23_24_26_a_signal_lets_the_ranks_end_in_their_own_time(
    job: Job, number: int, code: int
) -> None:
    job.script(
        """
        def end(number, frame):
            print("saved", flush=True)
            sys.exit(0)
        signal.signal(signal.SIGTERM, end)
        print("ready", flush=True)
        time.sleep(60)
        """
    )
    job.start(2)
    job.says(0, b"ready")
    job.says(1, b"ready")
    job.send(number)
    assert job.wait() == code
    assert b"saved" in job.log(0) and b"saved" in job.log(1)
    job.gone()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP])
def test_a_signal_that_the_ranks_get_before_the_launcher_accuses_nobody(job: Job, number: int) -> None:
    job.script("print('ready', flush=True)\ntime.sleep(60)")
    job.start(2)
    for rank in (0, 1):
        job.says(rank, b"ready")
    pids = list(job.pids(2).values())
    for pid in pids:
        os.kill(pid, number)
    until(lambda: not any(map(alive, pids)))
    job.send(number)
    assert job.wait() == 128 + number
    assert "ended by SIG" in job.output and "failed first" not in job.output
    assert job.result["culprit"] is None
    job.gone()


def test_a_rank_that_failed_before_the_signal_is_named_and_not_started_again(job: Job) -> None:
    rank_0 = "    signal.signal(signal.SIGTERM, signal.SIG_IGN); open('deaf', 'w').close(); time.sleep(60)"
    job.script(f"if RANK:\n    wait_for('deaf'); sys.exit(3)\nelse:\n{rank_0}")
    job.start(2, "max_restarts=1", "--grace", 0.5)
    until(lambda: "ending rank" in job.output)
    job.send(signal.SIGTERM)
    assert job.wait() == 3
    assert job.result["culprit"] == 1 and job.result["attempts"] == 1
    job.gone()


DEAF = "signal.signal(signal.SIGTERM, signal.SIG_IGN); print('ready', flush=True); time.sleep(60)"


def test_case_24_a_second_ctrl_c_kills_at_once(job: Job) -> None:
    job.script(DEAF)
    job.start(2, "--grace", 50)
    for rank in (0, 1):
        job.says(rank, b"ready")
    job.send(signal.SIGINT)
    until(lambda: "ending ranks" in job.output)
    job.send(signal.SIGINT)
    assert job.wait(20) == 130
    job.gone()


def test_case_24_and_46_a_third_ctrl_c_ends_the_launcher_although_a_rank_cannot_be_killed(job: Job) -> None:
    group = cgroup("freezer", "ice")
    if group is None:
        pytest.skip("no freezer cgroup (version 1) that this user may make: nothing here survives SIGKILL")
    job.script(DEAF)
    job.start(2, "--grace", 50)
    job.says(1, b"ready")
    pid = job.pids(2)[1]
    try:
        (group / "tasks").write_text(str(pid))
        (group / "freezer.state").write_text("FROZEN")
        for text in ("ending ranks", "killing rank", f"cannot kill process {pid}"):
            job.send(signal.SIGINT)
            until(lambda text=text: text in job.output)  # type: ignore[misc]
        assert job.wait(20) == 130
    finally:
        (group / "freezer.state").write_text("THAWED")
        job.gone()
        group.rmdir()


def test_case_25_a_ctrl_c_while_ranks_are_started_leaves_none(job: Job) -> None:
    job.start(64, command=["sh", "-c", f"sleep 60 # {job.mark}"])
    job.pids(1)
    job.send(signal.SIGINT)
    assert job.wait() == 130
    job.gone()


def test_case_26_nohup_is_respected(job: Job) -> None:
    job.script(f"print('ready', flush=True)\nwait_for('{job.folder / 'go'}')")
    job.start(2, prepare=lambda: signal.signal(signal.SIGHUP, signal.SIG_IGN) and None)
    job.says(1, b"ready")
    job.send(signal.SIGHUP)
    (job.folder / "go").touch()
    assert job.wait() == 0


def test_case_27_ctrl_z_stops_the_ranks_too_and_no_timeout_runs_on(job: Job) -> None:
    job.script(
        """
        from bert.heartbeat import beat
        for n in range(1, 1000):
            beat("train", n); print("step", n, flush=True); time.sleep(0.05)
            if os.path.exists("%s"): break
        """
        % (job.folder / "go")
    )
    job.start(2, "--hang-timeout", 1)
    for rank in (0, 1):
        job.says(rank, b"step 2")
    pid = job.pids(2)[0]
    job.send(signal.SIGTSTP)
    until(lambda: _state(job.process.pid) == "T" and _state(pid) == "T")
    threading.Event().wait(2.0)
    job.send(signal.SIGCONT)
    until(lambda: _state(pid) != "T")
    (job.folder / "go").touch()
    assert job.wait() == 0, job.output


def _state(pid: int) -> str:
    return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]


def test_case_28_usr1_reaches_the_ranks_that_want_it_and_ends_nothing(job: Job) -> None:
    job.script(
        """
        seen = []
        if RANK == 0: signal.signal(signal.SIGUSR1, lambda *_: seen.append(1))
        print("ready", flush=True)
        wait_for("%s")
        print("usr1" if seen else "none", flush=True)
        """
        % (job.folder / "go")
    )
    job.start(2)
    for rank in (0, 1):
        job.says(rank, b"ready")
    for _ in range(500):
        job.send(signal.SIGUSR1)
        job.send(signal.SIGUSR2)
    threading.Event().wait(0.3)
    (job.folder / "go").touch()
    assert job.wait() == 0
    assert b"usr1" in job.log(0) and b"none" in job.log(1)


def test_case_29_a_reader_that_goes_away_does_not_end_the_training(job: Job) -> None:
    job.script(
        f"""
        for n in range(2000): print('line', n, flush=True)
        open('{job.folder}/done_%d' % RANK, 'w')
        """
    )
    job.start(2, stdout=subprocess.PIPE)
    head = subprocess.Popen(["head", "-1"], stdin=job.process.stdout, stdout=subprocess.DEVNULL)
    job.process.stdout.close()
    assert job.wait() == 0
    head.wait()
    assert (job.folder / "done_0").exists() and job.log(1).count(b"\n") == 2000


@pytest.mark.parametrize("where", ["closed", "full"])
def test_case_30_a_stdout_that_takes_nothing_does_not_end_the_training(job: Job, where: str) -> None:
    job.script("for n in range(200): print('line', n, flush=True)")
    if where == "closed":
        job.start(2, prepare=lambda: os.close(1))
    else:
        with open("/dev/full", "wb") as full:
            job.start(2, stdout=full)
    assert job.wait() == 0
    assert job.log(1).count(b"\n") == 200 and job.result["exit_code"] == 0


def test_case_31_a_stopped_launcher_calls_no_hang_when_it_goes_on(job: Job) -> None:
    job.script(
        """
        from bert.heartbeat import beat
        for n in range(1, 50):
            beat("train", n); print("step", n, flush=True); time.sleep(0.05)
        time.sleep(0.2)
        beat("train", 50)
        """
    )
    job.start(2, "--hang-timeout", 1)
    job.says(1, b"step 3")
    job.send(signal.SIGSTOP)
    job.says(1, b"step 3")
    threading.Event().wait(2.0)
    job.send(signal.SIGCONT)
    assert job.wait() == 0, job.output
    assert b"step 49" in job.log(0)


def test_case_32_a_fork_that_fails_ends_what_was_started(job: Job) -> None:
    job.drive("eagain", 8, command=["/bin/sh", "-c", f"sleep 60 # {job.mark}"])
    assert job.wait() == 125
    assert "rank 5" in job.report and "Resource temporarily unavailable" in job.report
    job.gone()


def test_case_32_a_full_process_table_ends_what_was_started(job: Job) -> None:
    group = cgroup("pids", "few")
    if group is None:
        pytest.skip("no pids cgroup (version 1) that this user may make")
    try:
        (group / "pids.max").write_text("6")
        code = job.run(
            8,
            command=["sh", "-c", f"exec sleep 60 # {job.mark}"],
            prepare=lambda: (group / "tasks").write_text(str(os.getpid())) and None,
        )
    finally:
        job.close()
        group.rmdir()
    assert code == 125
    assert "cannot start a process" in job.output and "Traceback" not in job.output


def test_case_33_too_few_descriptors_end_what_was_started(job: Job) -> None:
    import resource

    code = job.run(
        8,
        command=["sh", "-c", f"sleep 60 # {job.mark}"],
        prepare=lambda: resource.setrlimit(resource.RLIMIT_NOFILE, (16, 16)),
    )
    assert code == 125
    assert "Too many open files" in job.output and "Traceback" not in job.output
    job.gone()


def test_case_34_another_thread_than_the_main_one_is_refused(job: Job) -> None:
    job.drive("thread", 2, command=["sleep", "60"])
    assert job.wait() == 125
    assert "main thread" in job.report and not (job.path / "logs" / "rank_0.log").exists()


def test_case_34_a_launcher_started_by_a_thread_that_ends_goes_on(job: Job) -> None:
    job.script("time.sleep(0.5)")
    starter = threading.Thread(target=job.start, args=(2,))
    starter.start()
    starter.join()
    assert job.wait() == 0


def test_case_35_as_process_1_the_launcher_reaps_orphans(job: Job) -> None:
    job.script(
        """
        for _ in range(5):
            subprocess.Popen(["sh", "-c", "(setsid sleep 0.1 &) ; exit 0"]).wait()
        time.sleep(0.5)
        print("zombies", open("/proc/self/stat").read() and sum(
            " Z " in open("/proc/%s/stat" % pid).read() for pid in os.listdir("/proc") if pid.isdigit()))
        sys.exit(9)
        """
    )
    unshare = ["unshare", "--pid", "--fork", "--mount-proc"]
    if subprocess.run([*unshare, "true"], stderr=subprocess.DEVNULL).returncode:
        pytest.skip("no new PID namespace for this user")
    line = [*unshare, sys.executable, "-m", "launcher", "--devices", "0", "--backend", "cpu", "--"]
    program = [sys.executable, str(ROOT / "launcher" / "worker.py"), "job.py", job.mark]
    done = subprocess.run(
        [*line, *program], cwd=str(job.folder), env=dict(os.environ, PYTHONPATH=str(ROOT)), timeout=30
    )
    assert done.returncode == 9
    assert b"zombies 0" in job.log(0)


def test_case_36_a_shell_that_exits_leaves_its_launcher_running(job: Job) -> None:
    job.script("time.sleep(0.5); print('done')")
    line = f"{sys.executable} -m launcher --devices 0 --backend cpu"
    line += f" -- {sys.executable} job.py x > out.txt 2>&1 &"
    environ = dict(os.environ, PYTHONPATH=str(ROOT))
    subprocess.run(["sh", "-c", line], cwd=str(job.folder), env=environ, check=True)
    until(lambda: bool(list(job.folder.glob("runs/*/result.json"))))
    assert job.result["exit_code"] == 0 and job.log(0) == b"done\n"


def test_case_38_a_run_folder_is_never_used_twice(tmp_path: Path) -> None:
    run = RunDir.create(tmp_path / "run", range(2))
    run.events.write_text("first")
    with pytest.raises(FileExistsError):
        RunDir.create(tmp_path / "run", range(2))
    assert run.events.read_text() == "first"
