"""Finding processes by their traces, and the clock of a run."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

from launcher.process import procfs, signals, sweep
from launcher.supervision.run_clock import PausableClock
from tests.faults.helpers import until

SLEEP = [sys.executable, "-c", "import time; print('up', flush=True); time.sleep(60)"]


def start(**options: object) -> subprocess.Popen:
    process = subprocess.Popen(SLEEP, stdout=subprocess.PIPE, **options)  # type: ignore[call-overload]
    assert process.stdout.readline() == b"up\n"
    return process


def end(process: subprocess.Popen) -> None:
    process.kill()
    process.wait()
    process.stdout.close()


def test_the_environment_the_pipe_the_pid_and_the_descent_each_tell() -> None:
    process = start(env=dict(os.environ, NPU_LAUNCH_RUN_ID="run-x"))
    try:
        pid = process.pid
        inode = os.fstat(process.stdout.fileno()).st_ino
        begun = procfs.start_of(pid)
        assert pid in sweep.members("run-x") and pid not in sweep.members("run-")
        assert pid in sweep.ProcessMatcher("none", frozenset([inode])).find()
        assert pid in sweep.ProcessMatcher("none", pids={pid: begun}).find()
        assert pid not in sweep.ProcessMatcher("none", pids={pid: begun + 1}).find()
        assert pid in sweep.ProcessMatcher("none", top=os.getpid()).find()
        assert pid not in sweep.ProcessMatcher("none", top=os.getpid(), without=frozenset([pid])).find()
    finally:
        end(process)
    assert procfs.start_of(process.pid) == 0


def test_the_usage_of_a_process_counts_its_children() -> None:
    process = start()
    try:
        used = procfs.usage(os.getpid())
        assert {os.getpid(), process.pid} <= used.pids
        assert used.resident > procfs.usage(process.pid).resident > 1 << 20
    finally:
        end(process)


def test_a_signal_is_handled_when_it_is_caught_or_ignored() -> None:
    before = signal.signal(signal.SIGUSR1, lambda *_: None)
    try:
        assert procfs.handles(os.getpid(), signal.SIGUSR1)
        assert not procfs.handles(os.getpid(), signal.SIGUSR2)
    finally:
        signal.signal(signal.SIGUSR1, before)


def test_killing_ends_with_nothing_left() -> None:
    process = start(env=dict(os.environ, NPU_LAUNCH_RUN_ID="run-y"), start_new_session=True)
    assert sweep.freeze_and_kill(sweep.ProcessMatcher("run-y")) == {process.pid}
    until(lambda: not sweep.members("run-y"))
    end(process)


def test_time_in_which_the_launcher_did_not_run_does_not_count() -> None:
    now = [0.0]
    clock = PausableClock(lambda: now[0])
    now[0] = 0.3
    assert clock.discount_pause(0.0, 0.25) == 0.0  # a little late is only late
    now[0] = 100.0
    assert clock.discount_pause(0.3, 0.25) > 99 and clock.now() < 1.0


def test_signals_come_in_order_and_ignored_ones_stay_ignored() -> None:
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        with signals.Signals() as watched:
            for number in (signal.SIGUSR1, signal.SIGHUP, signal.SIGTERM):
                os.kill(os.getpid(), number)
            assert watched.take() == [signal.SIGUSR1, signal.SIGTERM]
            assert watched.take() == []
        assert signal.getsignal(signal.SIGHUP) is signal.SIG_IGN
    finally:
        signal.signal(signal.SIGHUP, before)


def test_a_stopped_process_is_seen_as_such(tmp_path: Path) -> None:
    process = start()
    os.kill(process.pid, signal.SIGSTOP)
    until(lambda: procfs.processes()[process.pid].state == "T")
    end(process)


def test_of_several_hosts_on_one_machine_each_finds_its_own_ranks_alone() -> None:
    marked = {"NPU_LAUNCH_RUN_ID": "run-z", "PATH": os.environ["PATH"]}
    ranks = [subprocess.Popen(["sleep", "60"], env={**marked, "NPU_LAUNCH_HOST": name}) for name in "ab"]
    pod = subprocess.Popen(["sleep", "60"], env=marked)
    try:
        assert sweep.ProcessMatcher("run-z", host="b").find() == {ranks[1].pid}
        assert sweep.ProcessMatcher("run-z").find() == {ranks[0].pid, ranks[1].pid, pod.pid}
    finally:
        for process in (*ranks, pod):
            process.kill()
            process.wait()
