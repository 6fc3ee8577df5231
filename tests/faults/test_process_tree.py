"""Cases 40 to 52: what ranks start, and how they try to escape."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import pytest

from launcher.supervision.events import Event
from tests.faults.helpers import Job, until

SLEEP = "import time; time.sleep(60)"


def test_case_40_children_of_a_rank_that_crashed_are_killed(job: Job) -> None:
    job.script(f"child({SLEEP!r}); child({SLEEP!r})\nif RANK == 1: os._exit(4)\ntime.sleep(60)")
    assert job.run(3) == 4
    job.gone()


@pytest.mark.parametrize("env", ["", ", env={}, cwd='/'"])
def test_case_41_a_child_in_its_own_session_is_found(job: Job, env: str) -> None:
    text = "child(%r, start_new_session=True%s)\nif RANK == 1: os._exit(4)\ntime.sleep(60)"
    job.script(text % (SLEEP, env))
    assert job.run(2) == 4
    job.gone()


def test_case_42_a_daemon_that_forks_twice_and_clears_everything_is_found(job: Job) -> None:
    job.script(
        f"""
        if os.fork() == 0:
            os.setsid()
            if os.fork() == 0:
                null = os.open(os.devnull, os.O_RDWR)
                for number in range(3): os.dup2(null, number)
                os.execve(sys.executable, [sys.executable, "-c", {SLEEP!r}, MARK], {{}})
            os._exit(0)
        print("ready", flush=True)
        time.sleep(0.3)
        """
    )
    assert job.run(2) == 0
    job.gone()


def test_case_43_a_child_that_ignores_sigterm_is_killed_at_the_grace(job: Job) -> None:
    job.script(
        """
        child("import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); time.sleep(60)")
        time.sleep(1 if RANK == 0 else 60)
        os._exit(4)
        """
    )
    assert job.run(2, "--grace", 0.5) == 4
    job.gone()


def test_case_43_a_child_keeps_the_grace_period_when_its_parent_is_gone(job: Job) -> None:
    job.script(
        """
        if RANK == 0: time.sleep(1); os._exit(4)
        lines = ["import signal, sys, time",
                 "signal.signal(signal.SIGTERM, lambda *_: (time.sleep(0.5), print('saved'), sys.exit(0)))",
                 "time.sleep(60)"]
        child("\\n".join(lines))
        time.sleep(60)
        """
    )
    assert job.run(2, "--grace", 20) == 4
    assert b"saved" in job.log(1)
    job.gone()


def test_case_44_a_rank_that_ignores_signals_is_killed_at_the_grace(job: Job) -> None:
    job.script(
        """
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP): signal.signal(number, signal.SIG_IGN)
        open("ready_%d" % RANK, "w").close()
        if RANK == 0: wait_for("ready_1"); os._exit(4)
        time.sleep(60)
        """
    )
    assert job.run(2, "--grace", 0.5) == 4
    assert next(end for end in job.result["ends"] if end["rank"] == 1)["signal"] == signal.SIGKILL
    job.gone()


def test_case_45_a_stopped_rank_is_ended_too(job: Job) -> None:
    job.script("print('ready', flush=True)\nif RANK == 0: wait_for('go'); os._exit(4)\ntime.sleep(60)")
    job.start(2)
    job.says(1, b"ready")
    os.kill(job.pids(2)[1], signal.SIGSTOP)
    (job.folder / "go").touch()
    assert job.wait() == 4
    job.gone()


def test_case_47_processes_that_hop_from_pid_to_pid_are_caught(job: Job) -> None:
    hop = '[ $2 -gt 300 ] && exit; sleep 0.02; setsid sh "$0" "$1" $(($2 + 1)) > /dev/null 2>&1 & exit 0'
    (job.folder / "hop.sh").write_text(hop + "\n")
    job.script(
        """
        for _ in range(25): subprocess.Popen(["sh", "hop.sh", MARK, "0"])
        time.sleep(0.5)
        os._exit(4)
        """
    )
    code = job.run(2)
    (job.folder / "hop.sh").unlink()
    assert code == 4
    assert not job.events(Event.SURVIVORS)
    job.gone()


def test_case_48_a_rank_that_becomes_another_program_dies_with_the_launcher(job: Job) -> None:
    job.script("os.execvp('sh', ['sh', '-c', 'echo other; exec tail -f /dev/null', MARK])")
    job.start(2)
    job.says(0, b"other")
    job.says(1, b"other")
    pids = job.pids(2).values()
    job.send(signal.SIGKILL)
    job.wait()
    until(lambda: not any(Path(f"/proc/{pid}").exists() for pid in pids))


def test_case_49_a_rank_that_changes_its_user_dies_with_the_launcher(job: Job) -> None:
    if os.getuid() != 0:
        pytest.skip("only root may change its user")
    job.script("os.setuid(65534); print('ready', flush=True); time.sleep(60)")
    job.start(2)
    job.says(0, b"ready")
    job.says(1, b"ready")
    job.send(signal.SIGKILL)
    job.wait()
    job.gone()


def test_case_50_groups_and_sessions_of_a_rank_are_no_escape(job: Job) -> None:
    job.script(
        """
        if os.fork() == 0: os.setpgid(0, 0); time.sleep(60); os._exit(0)
        if os.fork() == 0: os.setsid(); time.sleep(60); os._exit(0)
        time.sleep(0.3)
        os._exit(4)
        """
    )
    assert job.run(2) == 4
    job.gone()


def test_case_51_ranks_start_with_a_clean_signal_mask(job: Job) -> None:
    everything = {signal.SIGTERM, signal.SIGUSR1, signal.SIGCHLD}
    job.start(
        1,
        command=["cat", "/proc/self/status"],
        prepare=lambda: signal.pthread_sigmask(signal.SIG_BLOCK, everything) and None,
    )
    assert job.wait() == 0
    lines = [line.split() for line in job.log().decode().splitlines()]
    glibc = 3 << 31  # signals 32 and 33, which sigaction(3) lets nobody change: what started pytest decides
    masks = [int(line[1], 16) for line in lines if line[0] in ("SigBlk:", "SigIgn:")]
    assert [mask & ~glibc for mask in masks] == [0, 0]


def test_case_51_a_launcher_started_with_sigterm_blocked_still_takes_it(job: Job) -> None:
    job.script("print('ready', flush=True); time.sleep(60)")
    job.start(1, prepare=lambda: signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM}) and None)
    job.says(0, b"ready")
    job.send(signal.SIGTERM)
    assert job.wait() == 143


def test_case_52_orphans_that_end_are_reaped_while_the_run_goes_on(job: Job) -> None:
    job.script(
        """
        for _ in range(10): subprocess.Popen(["sh", "-c", "(setsid sleep 0.05 &) ; exit 0"]).wait()
        time.sleep(0.3)
        print("ready", flush=True)
        wait_for("go")
        """
    )
    job.start(2)
    for rank in (0, 1):
        job.says(rank, b"ready")
    until(lambda: not _zombies(job.process.pid))
    (job.folder / "go").touch()
    assert job.wait() == 0


def _zombies(parent: int) -> int:
    count = 0
    for path in Path("/proc").glob("[0-9]*/stat"):
        try:
            words = path.read_text().rpartition(")")[2].split()
        except OSError:
            continue
        count += words[0] == "Z" and int(words[1]) == parent
    return count
