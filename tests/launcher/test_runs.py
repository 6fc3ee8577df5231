"""ps, stop, stacks, --detach: real runs, seen and ended from another process."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any, Callable, Iterator

import pytest

from launcher.commands.runs import ps
from launcher.diagnosis import stacks
from launcher.engines.background import start
from launcher.errors import LauncherError, PreflightError, UsageError
from launcher.process import procfs, sweep
from launcher.run_dir import RunDir
from launcher.runs import launcher_record, registry
from launcher.runs.locks import hold
from launcher.runs.processes import ProcessTable
from launcher.runs.stop import stop
from tests.launcher.log_makers import make_run
from tests.launching import ROOT, launch

PATIENCE = 60.0  # seconds, for what takes one
WAITING = """
import os, sys, time
rank = int(os.environ["RANK_ID"])
def all_reduce(): time.sleep(600)
def tokenise(): time.sleep(600)
print("ready", rank, flush=True)
(tokenise if rank == 1 else all_reduce)()
"""


def until(condition: Callable[[], Any]) -> Any:
    """Wait for what must come."""
    end = time.monotonic() + PATIENCE
    while time.monotonic() < end:
        value = condition()
        if value:
            return value
        time.sleep(0.05)
    raise AssertionError("it did not come")


@pytest.fixture
def detached(tmp_path: Path) -> Iterator[Callable[..., RunDir]]:
    """Give a function that starts a detached run in tmp_path; what is left of it is killed at the end."""
    made: list[RunDir] = []

    def begin(program: str = WAITING, ranks: int = 3, *words: str) -> RunDir:
        (tmp_path / "job.py").write_text(program)
        (tmp_path / "job.yaml").write_text("program: job.py\n")
        line = ["--devices", f"0-{ranks - 1}", "--backend", "cpu", "--detach", *words, "job.yaml"]
        done = launch(tmp_path, *line)
        assert done.returncode == 0, done.stderr
        made.append(registry.resolve("", str(tmp_path / "runs")))
        return made[-1]

    yield begin
    for run in made:
        launcher = launcher_record.find(run).process
        if launcher:
            os.kill(launcher.pid, signal.SIGKILL)
        sweep.freeze_and_kill(sweep.ProcessMatcher(registry.run_id(run)))


def ready(run: RunDir, ranks: int = 3) -> bool:
    return all(run.log(rank).exists() and b"ready" in run.log(rank).read_bytes() for rank in range(ranks))


def test_a_run_is_found_by_name_path_prefix_or_as_the_latest(tmp_path: Path) -> None:
    folder = tmp_path / "runs"
    for name in ("a-20260101-1", "a-20260102-2", "b-20260101-3"):
        make_run(folder / name, [[]])
    (folder / "latest").unlink()
    (folder / "latest").symlink_to("b-20260101-3")

    def found(word: str) -> str:
        return registry.resolve(word, str(folder)).path.name

    assert found("") == found("latest") == found("last") == found("b") == "b-20260101-3"
    assert found("a-20260102") == found(str(folder / "a-20260102-2")) == "a-20260102-2"
    with pytest.raises(UsageError, match="a fits 2 runs: a-20260101-1, a-20260102-2"):
        found("a")
    with pytest.raises(UsageError, match="c: no such run"):
        found("c")
    (folder / "empty").mkdir()
    with pytest.raises(UsageError, match=r"runs/empty: an empty folder .*; .*runs has a-20260101-1"):
        found("empty")
    with pytest.raises(UsageError, match=r"elsewhere: no run yet \(no such folder\); start one"):
        registry.resolve("", str(tmp_path / "elsewhere"))


def test_a_detached_run_is_listed_asked_for_its_stacks_and_stopped(
    detached: Callable[..., RunDir], tmp_path: Path
) -> None:
    run = detached()
    until(lambda: ready(run))
    (row,) = [
        row for row in json.loads(launch(tmp_path, "ps", "--json").stdout) if row["path"] == str(run.path)
    ]
    assert (row["state"], row["ranks"], row["devices"]) == ("running", 3, "0-2")
    rows = json.loads(launch(tmp_path, "ps", run.path.name, "--json").stdout)
    assert [one["rank"] for one in rows if one["rank"] is not None] == [0, 1, 2]
    assert rows[0]["pid"] == row["pid"] and all(one["memory_mb"] > 0 for one in rows[:4])

    done = launch(tmp_path, "stacks")
    assert done.returncode == 0, done.stderr
    assert (
        done.stdout.startswith("0,2 in all_reduce (") and "; 1 in tokenise (" in done.stdout.splitlines()[0]
    )
    assert "rank 1:\nCurrent thread 0x" in launch(tmp_path, "stacks", "--full").stdout
    assert until(lambda: ready(run)) and registry.running(run)  # nothing was hurt

    done = launch(tmp_path, "stop", run.path.name)
    assert done.returncode == 0 and "stopped" in done.stdout, done.stderr
    assert not sweep.members(registry.run_id(run)) and registry.read_json(run.result)["exit_code"] == 143
    assert "no process of it is running" in launch(tmp_path, "stop", run.path.name).stdout
    status = registry.status(run)
    assert (status.state, status.exit_code, status.launcher) == ("failed", 143, None)


def test_a_detached_run_outlives_the_session_it_was_started_in(
    detached: Callable[..., RunDir], tmp_path: Path
) -> None:
    run = detached()
    launcher = launcher_record.find(run).process
    assert launcher is not None and os.getsid(launcher.pid) == launcher.pid
    os.kill(launcher.pid, signal.SIGHUP)
    until(lambda: ready(run))
    assert procfs.alive(launcher)
    for number in range(3):
        assert os.readlink(f"/proc/{launcher.pid}/fd/{number}").startswith((os.devnull, str(run.path)))


def test_following_attaches_to_a_detached_run_and_ends_with_it(
    detached: Callable[..., RunDir], tmp_path: Path
) -> None:
    program = """
import os, time
rank = os.environ["RANK_ID"]
for n in range(5):
    print("rank", rank, "line", n, flush=True)
    time.sleep(0.1)
while not os.path.exists(%r): time.sleep(0.02)
os.write(1, b"the end")
"""
    run = detached(program % str(tmp_path / "go"), 2)
    command = [sys.executable, "-m", "launcher", "logs", "--follow"]
    env = dict(os.environ, PYTHONPATH=str(ROOT))
    with subprocess.Popen(command, cwd=str(tmp_path), env=env, stdout=subprocess.PIPE, text=True) as follower:
        assert follower.stdout is not None
        lines = [follower.stdout.readline() for _ in range(10)]
        assert registry.running(run)
        (tmp_path / "go").write_text("")
        lines += follower.stdout.readlines()
    assert follower.returncode == 0
    for rank in (0, 1):
        mine = [line.split("| ")[1].strip() for line in lines if f" {rank}| " in line]
        assert mine == [f"rank {rank} line {n}" for n in range(5)] + ["the end"]
    stamps = [line.split(" ")[0] for line in lines]
    assert stamps == sorted(stamps)
    tail = launch(tmp_path, "logs", "--follow", "--tail", "1").stdout
    assert tail.endswith("the end\n") and tail.count("\n") <= 3


def test_stop_now_does_not_wait_for_a_rank_that_ignores_sigterm(
    detached: Callable[..., RunDir], tmp_path: Path
) -> None:
    program = "import signal, time; signal.signal(15, signal.SIG_IGN); signal.signal(2, signal.SIG_IGN)\n"
    run = detached(program + "print('ready', flush=True); time.sleep(600)", 1, "--grace", "500")
    until(lambda: ready(run, 1))
    with pytest.raises(LauncherError, match="still running after 1 s; --now kills at once"):
        stop(run, timeout=1.0)
    assert launch(tmp_path, "stop", run.path.name, "--now").returncode == 0
    assert not sweep.members(registry.run_id(run))


def test_what_a_killed_launcher_left_is_swept_and_the_run_is_called_lost(tmp_path: Path) -> None:
    run = make_run(tmp_path / "runs" / "job-1", [[]])
    run.result.unlink()
    env = dict(os.environ, NPU_LAUNCH_RUN_ID="job-1", NPU_LAUNCH_RUN_DIR=str(run.path), RANK_ID="0")
    left = subprocess.Popen(
        [sys.executable, "-c", "input()"], env=env, stdin=subprocess.PIPE, start_new_session=True
    )
    with left:
        until(lambda: registry.rank_pids(run) == {0: left.pid})
        assert registry.status(run).state == "lost"
        assert "killed 1 process" in stop(run)
        assert left.wait(PATIENCE) == -signal.SIGKILL


def test_a_run_of_another_host_is_unknown_here_not_lost(tmp_path: Path) -> None:
    run = make_run(tmp_path / "runs" / "job-1", [[]])
    run.result.unlink()
    run.write_json(run.path / "launcher.json", {"pid": os.getpid(), "start": 1, "host": "elsewhere"})
    assert launcher_record.find(run).process is None and registry.running(run)
    assert (registry.status(run).state, registry.status(run).where) == ("unknown", "on host elsewhere")
    assert "running on host elsewhere?" in launch(tmp_path, "ps").stdout
    with pytest.raises(UsageError, match=f"is running on host elsewhere; stop it there: .* stop {run.path}"):
        stop(run)


def record(run: RunDir, pid: int, **more: Any) -> None:
    """Write launcher.json as a launcher, or anybody, may."""
    known = {"pid": pid, "start": procfs.start_of(pid), "host": os.uname().nodename}
    run.write_json(run.path / "launcher.json", dict(known, **more))


def test_a_recycled_pid_is_not_taken_for_the_launcher(tmp_path: Path) -> None:
    run = make_run(tmp_path / "runs" / "job-1", [[]])
    run.result.unlink()
    with hold((), run):
        assert launcher_record.find(run).process == procfs.identity(os.getpid())
        assert registry.status(run).state == "running"
    assert launcher_record.find(run).process is None and registry.status(run).state == "lost"
    record(run, os.getpid(), start=procfs.start_of(os.getpid()) - 1)
    assert registry.status(run).problems == ()


def test_a_launcher_is_known_by_its_open_file_not_by_what_is_written(tmp_path: Path) -> None:
    run = make_run(tmp_path / "runs" / "job-1", [[]])
    run.result.unlink()
    with hold((), run):
        copy, twin, moved = (RunDir(run.path.parent / name) for name in ("copy", "twin", "moved"))
        shutil.copytree(str(run.path), str(copy.path))
        twin.path.mkdir()
        os.link(str(run.path / "launcher.json"), str(twin.path / "launcher.json"))
        assert launcher_record.find(copy).process is launcher_record.find(twin).process is None
        assert f"process {os.getpid()} is not the launcher of this run" in registry.status(copy).problems[0]
        assert "left alone" in stop(copy) and "left alone" in stop(twin)
        os.rename(str(run.path), str(moved.path))
        (twin.path / "launcher.json").unlink()
        assert launcher_record.find(moved).process == procfs.identity(os.getpid())
    # A launcher of a release before 0.1.0 has nothing open but events.jsonl.
    with moved.events.open("a"):
        record(moved, os.getpid())
        assert launcher_record.find(moved).process == procfs.identity(os.getpid())
    with moved.events.open():
        assert launcher_record.find(moved).process is None


@pytest.mark.parametrize("kept", [True, False])
def test_a_copy_of_a_run_has_no_claim_to_its_processes(tmp_path: Path, kept: bool) -> None:
    """Unless the folder of the start is no more: then the copy is the run, renamed."""
    run = make_run(tmp_path / "runs" / "job-1", [[]])
    plan = {"run_id": "job-1", "run_dir": str(run.path), "ranks": []}
    run.write_json(run.plan, plan)
    copy = RunDir(run.path.parent / "copy")
    shutil.copytree(str(run.path), str(copy.path))
    env = dict(os.environ, NPU_LAUNCH_RUN_ID="job-1", NPU_LAUNCH_RUN_DIR=str(run.path), RANK_ID="0")
    command = [sys.executable, "-c", "print(flush=True); input()"]
    pipe = subprocess.PIPE
    with subprocess.Popen(command, env=env, stdin=pipe, stdout=pipe, start_new_session=True) as process:
        assert process.stdout and process.stdout.readline()
        assert registry.rank_pids(run) == {0: process.pid}
        if not kept:
            shutil.rmtree(str(run.path))
        assert registry.rank_pids(copy) == ({} if kept else {0: process.pid})
        assert ("no process of it" if kept else "killed 1 process") in stop(copy)
        process.kill()


SPOILED: list[Callable[[Path], Any]] = [
    lambda path: os.mkfifo(str(path)),
    lambda path: path.mkdir(),
    lambda path: path.symlink_to("/dev/zero"),
    lambda path: path.write_bytes(b"\xff\0"),
    lambda path: path.write_text("[" * 100000),
    lambda path: path.write_text(
        '{"exit_code": [0], "pid": 1e99, "start": "x", "host": 3, "ranks": 7, "step": -1}'
    ),
    lambda path: path.write_text(
        '{"exit_code": "0", "pid": -1, "start": 1, "host": "h", "ranks": [3], "step": ""}'
    ),
]


@pytest.mark.parametrize("spoil", SPOILED)
@pytest.mark.parametrize("name", ["plan.json", "result.json", "launcher.json", "ranks/0/heartbeat.json"])
def test_a_damaged_file_costs_its_run_one_line_and_the_others_nothing(
    tmp_path: Path, name: str, spoil: Callable[[Path], Any], capsys: pytest.CaptureFixture[str]
) -> None:
    make_run(tmp_path / "runs" / "good-1", [[]])
    bad = make_run(tmp_path / "runs" / "bad-1", [[]])
    if name != "plan.json":
        bad.result.unlink()
    spoil(bad.path / name)
    ps.main(["--runs-dir", str(tmp_path / "runs"), "--json"], standalone_mode=False)
    printed = capsys.readouterr()
    rows = {row["run"]: row for row in json.loads(printed.out)}
    state = {"plan.json": "finished", "result.json": "unknown"}.get(name, "lost")
    assert (rows["good-1"]["state"], rows["bad-1"]["state"]) == ("finished", state)
    assert [line for line in printed.err.splitlines() if line.startswith(f"npu-launch: bad-1: {name}")]
    assert "good-1" not in printed.err
    assert registry.resolve("bad", str(tmp_path / "runs")).path == bad.path


def test_a_link_to_a_run_that_is_gone_is_named(tmp_path: Path) -> None:
    run = make_run(tmp_path / "runs" / "a-1", [[]])
    make_run(tmp_path / "runs" / "b-1", [[]])
    shutil.rmtree(str(run.path))
    with pytest.raises(UsageError, match="latest: a link to a-1, where no run is; name one of b-1"):
        registry.resolve("", str(tmp_path / "runs"))
    assert [one.path.name for one in registry.all_runs(str(tmp_path / "runs"))] == ["b-1"]


def test_the_result_spares_reading_the_plan_of_a_finished_run(tmp_path: Path) -> None:
    run = make_run(tmp_path / "runs" / "a-1", [[]])
    ends = [{"step": 7}, {"step": None}, {"step": 5}]
    run.write_json(run.result, {"exit_code": 0, "run_id": "a-1", "devices": [4, 5, 6], "ends": ends})
    run.plan.write_text("damaged")
    status = registry.status(run)
    assert (status.devices, status.step, status.problems) == ({0: 4, 1: 5, 2: 6}, 5, ())


NOBODY = 65534


@pytest.fixture
def stranger(tmp_path: Path) -> Iterator[subprocess.Popen[bytes]]:
    """Start a process of another user that says it belongs to run job-1."""
    if os.geteuid() != 0:
        pytest.skip("needs a second user")
    env = dict(os.environ, NPU_LAUNCH_RUN_ID="job-1", NPU_LAUNCH_RUN_DIR=str(tmp_path / "runs" / "job-1"))
    command = [str(shutil.which("sleep")), "600"]
    with subprocess.Popen(command, env=env, preexec_fn=lambda: os.setuid(NOBODY), cwd="/") as process:
        yield process
        process.kill()


def test_what_a_process_of_another_user_says_is_not_believed(
    tmp_path: Path, stranger: subprocess.Popen[bytes]
) -> None:
    run = make_run(tmp_path / "runs" / "job-1", [[]])
    assert sweep.members("job-1") == set() and procfs.marks(stranger.pid) is None
    assert str(run.path) not in [str(one.path) for one in registry.listed(str(tmp_path), 0, ProcessTable())]
    assert "no process of it is running" in stop(run)
    run.result.unlink()
    record(run, stranger.pid)
    assert "left alone" in stop(run) and stranger.poll() is None


def test_the_run_of_another_user_is_seen_and_left_alone(
    tmp_path: Path, stranger: subprocess.Popen[bytes]
) -> None:
    run = make_run(tmp_path / "runs" / "job-1", [[]])
    run.result.unlink()
    record(run, stranger.pid)
    os.chown(str(run.path), NOBODY, NOBODY)
    with pytest.raises(UsageError, match=r"belongs to user .*; stop it as that user: npu-launch stop "):
        stop(run)
    os.chown(str(run.path), 0, 0)
    os.chown(str(run.path / "launcher.json"), NOBODY, NOBODY)
    assert "belongs to another user" in registry.status(run).problems[0]


DEAF = WAITING.replace("rank =", "import signal; signal.signal(signal.SIGTERM, signal.SIG_IGN)\nrank =", 1)


@pytest.mark.parametrize("background", [False, True])
def test_stop_now_kills_at_once_also_what_a_script_began_in_the_background(
    detached: Callable[..., RunDir], background: bool
) -> None:
    """A shell that is not interactive starts `command &` with SIGINT ignored, and that is inherited."""
    # Both are set: the suite itself may have been started with `&`.
    before = signal.signal(signal.SIGINT, signal.SIG_IGN if background else signal.SIG_DFL)
    try:
        run = detached(DEAF, 2)
    finally:
        signal.signal(signal.SIGINT, before)
    until(lambda: ready(run, 2))
    launcher = launcher_record.find(run).process
    assert launcher and procfs.ignores(launcher.pid, signal.SIGINT) == background
    assert stop(run, now=True, timeout=20.0).endswith("stopped")  # the grace would be 30 s
    assert not registry.running(run)


def test_programs_that_do_not_catch_the_signal_are_not_asked_for_stacks(
    detached: Callable[..., RunDir], tmp_path: Path
) -> None:
    (tmp_path / "job.yaml").write_text("")
    line = ["--devices", "0", "--backend", "cpu", "--detach", "--", "sh", "-c", "echo ready; exec sleep 600"]
    assert launch(tmp_path, *line).returncode == 0
    run = registry.resolve("", str(tmp_path / "runs"))
    try:
        until(lambda: ready(run, 1))
        done = launch(tmp_path, "stacks")
        assert done.returncode == 1 and "rank 0 gave no stack" in done.stderr
        assert registry.rank_pids(run)
    finally:
        stop(run, now=True)


def test_ranks_with_equal_stacks_are_grouped_and_the_odd_one_is_last() -> None:
    text = (
        "Thread 0x00007f01 (most recent call first):\n"
        '  File "/usr/lib/python3.9/threading.py", line 9 in wait\n\n'
        "Current thread 0x00007f%02d (most recent call first):\n"
        '  File "/usr/lib/python3.9/socket.py", line 5 in recv\n'
        '  File "/job/train.py", line %d in %s\n  File "/job/train.py", line 1 in <module>\n'
    )
    texts = {rank: text % (rank, 7, "all_reduce") for rank in (0, 2, 3)}
    texts[1] = text % (1, 9, "tokenise")
    groups = stacks.group(texts)
    assert [group.ranks for group in groups] == [(0, 2, 3), (1,)]
    assert stacks.summary(groups).split("; ") == [
        "0,2-3 in recv, called in all_reduce (/job/train.py:7)",
        "1 in recv, called in tokenise (/job/train.py:9)",
    ]
    assert stacks.place(()) == "no Python code"


def test_a_background_process_that_cannot_begin_says_so_to_its_parent(
    tmp_path: Path, monkeypatch: Any
) -> None:
    monkeypatch.setenv("NPU_LAUNCH_LOCK_DIR", str(tmp_path / "locks"))
    run = RunDir.create(tmp_path / "runs" / "job-1", [])
    other = RunDir.create(tmp_path / "runs" / "job-2", [])
    with hold([0], other):
        with pytest.raises(PreflightError, match="device 0 is held by run job-2"):
            start(run, [0], lambda: 0)
    pid = start(run, [0], lambda: 7)
    assert os.waitpid(pid, 0)[1] == 7 << 8


def test_an_error_in_the_background_leaves_its_traceback_and_exit_125(tmp_path: Path) -> None:
    run = RunDir.create(tmp_path / "runs" / "job-1", [])
    code = (
        "import os, sys; from pathlib import Path; from launcher.engines.background import start\n"
        "from launcher.run_dir import RunDir\n"
        "pid = start(RunDir(Path(sys.argv[1])), (), lambda: 1 // 0)\n"
        "sys.exit(os.waitpid(pid, 0)[1] != 125 << 8)"
    )
    env = dict(os.environ, PYTHONPATH=str(ROOT))
    assert subprocess.call([sys.executable, "-c", code, str(run.path)], env=env) == 0
    assert "ZeroDivisionError" in (run.logs / "console.log").read_text()


@pytest.mark.parametrize(
    "seconds,text", [(5, "5 s"), (125, "2 min 5 s"), (7260, "2 h 1 min"), (180000, "2 d 2 h")]
)
def test_ages_are_written_for_a_person(seconds: float, text: str) -> None:
    assert procfs.span(seconds) == text
