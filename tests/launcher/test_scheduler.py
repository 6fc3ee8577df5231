"""MindSpore's dynamic cluster: the scheduler beside the ranks, with plain programs in their place."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any, Iterator

import pytest

from launcher.errors import ReadError
from launcher.plan.model import Plan
from launcher.supervision.events import violations
from launcher.text import SCHEDULER
from tests.launching import ROOT, latest, launch

# What each process does is a file of its name: how long it sleeps, then its exit code.
PROGRAM = """
import os, sys, time
name = "scheduler" if os.environ["MS_ROLE"] == "MS_SCHED" else os.environ["MS_NODE_ID"]
attempt = os.environ["NPU_LAUNCH_ATTEMPT"]
print(f"{name} of attempt {attempt} begins", flush=True)
with open(f"{sys.argv[1]}/{name}-{attempt}", "w") as stream:
    stream.write(str(os.getpid()))
for key in (f"{name}-{attempt}.does", f"{name}.does"):
    if os.path.exists(os.path.join(sys.argv[1], key)):
        seconds, code = open(os.path.join(sys.argv[1], key)).read().split()
        time.sleep(float(seconds))
        sys.exit(int(code))
"""
WORDS = ("--devices", "0-1", "--backend", "cpu", "framework=mindspore", "grace=1")


class Cluster:
    """A job of two workers and a scheduler in a folder."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        (folder / "train.py").write_text(PROGRAM)

    def does(self, name: str, seconds: float, code: int = 0) -> None:
        (self.folder / f"{name}.does").write_text(f"{seconds} {code}")

    def run(self, *words: str) -> Any:
        return launch(self.folder, *WORDS, *words, "--", "train.py", self.folder)

    def start(self, *words: str) -> subprocess.Popen[str]:
        command = [sys.executable, "-m", "launcher", *WORDS, *words, "--", "train.py", str(self.folder)]
        return subprocess.Popen(
            command, cwd=str(self.folder), env={**os.environ, "PYTHONPATH": str(ROOT)},
            stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
        )  # fmt: skip

    def pid(self, name: str, attempt: int = 0) -> int:
        path, end = self.folder / f"{name}-{attempt}", time.monotonic() + 30
        while not (path.exists() and path.read_text()):
            assert time.monotonic() < end
            time.sleep(0.02)
        return int(path.read_text())

    @property
    def result(self) -> dict[str, Any]:
        found: dict[str, Any] = json.loads((latest(self.folder) / "result.json").read_text())
        return found

    def states(self) -> list[str]:
        return [end["state"] for end in (*self.result["ends"], self.result["scheduler"])]


@pytest.fixture()
def cluster(tmp_path: Path) -> Iterator[Cluster]:
    yield Cluster(tmp_path)


def test_a_run_is_over_when_ranks_and_scheduler_have_ended(cluster: Cluster) -> None:
    cluster.does("scheduler", 0.5)
    done = cluster.run()
    assert done.returncode == 0, done.stdout + done.stderr
    assert "finished     2 rank(s)" in done.stdout and "scheduler| scheduler of attempt 0" in done.stdout
    assert [end["rank"] for end in cluster.result["ends"]] == [0, 1]
    assert cluster.states() == ["finished"] * 3
    run = latest(cluster.folder)
    assert (run / "logs" / "scheduler.log").read_text() == "scheduler of attempt 0 begins\n"
    assert (run / "ranks" / "scheduler" / "heartbeat.json").exists()
    events = [json.loads(line) for line in (run / "events.jsonl").read_text().splitlines()]
    assert not [fault for event in events for fault in violations(event)]
    started = [event["rank"] for event in events if event["event"] == "started"]
    assert started == [SCHEDULER, 0, 1]  # nobody has to wait for it
    lines = launch(cluster.folder, "logs").stdout.splitlines()
    assert {line.split("|")[0].split()[-1] for line in lines} == {"0", "1", "scheduler"}
    only = launch(cluster.folder, "logs", "--rank", "1").stdout
    assert "1 of attempt 0" in only and "scheduler" not in only
    assert launch(cluster.folder, "logs", "--rank", "scheduler").stdout.count("|") == 1
    both = launch(cluster.folder, "logs", "--rank", "scheduler,1").stdout
    assert {line.split("|")[0].split()[-1] for line in both.splitlines()} == {"1", "scheduler"}
    assert launch(cluster.folder, "logs", "--rank", "scheduler,x").returncode == 2


@pytest.mark.parametrize(("seconds", "code"), [(60.0, 0), (0.8, 3)])
def test_what_becomes_of_a_scheduler_that_no_rank_needs_is_no_failure(
    cluster: Cluster, seconds: float, code: int
) -> None:
    cluster.does("scheduler", seconds, code)
    done = cluster.run()
    assert done.returncode == 0, done.stdout + done.stderr
    assert cluster.states() == ["finished", "finished", "ended by npu-launch"]
    assert cluster.result["culprit"] is None


def test_a_scheduler_that_has_ended_well_before_the_ranks_is_no_failure(cluster: Cluster) -> None:
    cluster.does("0", 1)
    assert cluster.run().returncode == 0 and cluster.states() == ["finished"] * 3


def test_a_scheduler_that_is_killed_ends_the_run_and_is_named(cluster: Cluster) -> None:
    for name in ("0", "1", "scheduler"):
        cluster.does(name, 60)
    process = cluster.start()
    pids = [cluster.pid(name) for name in ("0", "1", "scheduler")]
    rows = json.loads(launch(cluster.folder, "ps", "latest", "--json").stdout)
    assert [row["pid"] for row in rows if row["rank"] == SCHEDULER] == pids[2:]
    assert [row["pid"] for row in rows if row["rank"] in (0, 1)] == pids[:2]
    assert "\nscheduler  " in launch(cluster.folder, "ps", "latest").stdout
    os.kill(pids[2], signal.SIGKILL)
    out, _ = process.communicate(timeout=30)
    assert process.returncode == 137
    assert "the scheduler failed; ending ranks 0-1 (grace 1 s)" in out
    assert f"the scheduler (pid {pids[2]}, after" in out
    assert "failed first: killed by SIGKILL, not by npu-launch" in out
    assert "ranks 0-1: ended by npu-launch" in out
    assert f"log of the scheduler: {latest(cluster.folder)}/logs/scheduler.log" in out
    assert cluster.result["culprit"] == SCHEDULER
    assert cluster.states() == ["ended by npu-launch", "ended by npu-launch", "signalled"]
    page = (latest(cluster.folder) / "report.html").read_text()
    assert "exit code 137, the scheduler first" in page and "rank -1" not in page


def test_a_scheduler_that_fails_is_told_from_ranks_that_fail_after_it(cluster: Cluster) -> None:
    cluster.does("scheduler", 0.5, 3)
    cluster.does("0", 60)
    cluster.does("1", 60)
    done = cluster.run()
    assert done.returncode == 3 and cluster.result["culprit"] == SCHEDULER
    assert "the scheduler (pid" in done.stderr + done.stdout


def test_a_worker_that_fails_is_the_culprit_and_all_start_again_with_a_scheduler(cluster: Cluster) -> None:
    cluster.does("scheduler", 60)
    cluster.does("0", 1)
    cluster.does("1-0", 0.5, 7)
    done = cluster.run("max_restarts=1")
    text = done.stdout + done.stderr
    assert done.returncode == 0, text
    assert "rank 1 failed; ending rank 0 and the scheduler (grace 1 s)" in text
    assert "rank 1 (device 1, pid" in text and "failed first: exit code 7; restart 1 of 1" in text
    assert cluster.pid("scheduler", 1) != cluster.pid("scheduler", 0)
    assert "scheduler of attempt 1 begins" in (latest(cluster.folder) / "logs" / "scheduler.log").read_text()
    assert (latest(cluster.folder) / "ranks" / "scheduler" / "heartbeat.json.0").exists()


def test_what_a_scheduler_raised_is_read_from_its_error_json(cluster: Cluster) -> None:
    program = PROGRAM.replace("sys.exit(int(code))", "raise SystemError('no cluster')")
    (cluster.folder / "train.py").write_text(program)
    cluster.does("scheduler", 0.5)
    for name in ("0", "1"):
        cluster.does(name, 60)
    assert cluster.run().returncode == 1
    found = json.loads(launch(cluster.folder, "logs", "--errors", "--json").stdout)
    (error,) = [error for error in found if error["label"] == "scheduler"]
    assert error["path"].endswith("ranks/scheduler/error.json") and error["rank"] == SCHEDULER
    assert error["lines"][-1] == "SystemError: no cluster"


def test_a_scheduler_that_cannot_be_started_is_named(cluster: Cluster) -> None:
    (cluster.folder / "a-program").write_bytes(b"\0not a program")
    (cluster.folder / "a-program").chmod(0o755)
    done = launch(cluster.folder, *WORDS, "--", "./a-program")
    assert done.returncode == 126
    assert "the scheduler (after 0.0 s) failed first: could not be started" in done.stdout


def planned(cluster: Cluster, *words: str) -> dict[str, Any]:
    done = launch(cluster.folder, *WORDS, *words, "--dry-run", "--json", "--", "train.py")
    assert done.returncode == 0, done.stderr
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def test_the_plan_shows_the_scheduler(cluster: Cluster) -> None:
    plan = planned(cluster)
    spec, first = plan["scheduler"], plan["ranks"][0]
    assert (spec["rank"], spec["device_id"], spec["cores"]) == (-1, -1, [])
    assert spec["argv"] == first["argv"] and spec["log"].endswith("/logs/scheduler.log")
    assert (spec["env"]["MS_ROLE"], first["env"]["MS_ROLE"]) == ("MS_SCHED", "MS_WORKER")
    text = launch(cluster.folder, *WORDS, "--dry-run", "--", "train.py").stdout
    assert "\nscheduler  " in text and "(removed) MS_NODE_ID" in text
    assert "\nthe scheduler differs by\n" in text
    assert "RANK_TABLE_FILE" not in {*spec["env"], *first["env"]}  # the scheduler would number ranks by it
    assert "scheduler" not in planned(cluster, "framework=none")


def test_a_plan_with_a_scheduler_is_read_as_it_was_written(cluster: Cluster) -> None:
    cluster.run()
    text = (latest(cluster.folder) / "plan.json").read_text()
    plan = Plan.from_json(text)
    assert plan.scheduler is not None and plan.scheduler.rank == SCHEDULER
    assert Plan.from_json(plan.to_json()) == plan
    assert plan.local_processes == (*plan.ranks, plan.scheduler)
    document = json.loads(text)
    document["scheduler"]["rank"] = 2
    with pytest.raises(ReadError, match="rank 2 \\(expected -1"):
        Plan.from_json(json.dumps(document))


def test_the_scheduler_reads_no_stdin(cluster: Cluster) -> None:
    (cluster.folder / "reads.py").write_text("import sys\nprint(repr(sys.stdin.read()), flush=True)\n")
    command = [sys.executable, "-m", "launcher", *WORDS, "stdin_rank=1", "--", "reads.py"]
    done = subprocess.run(
        command, cwd=str(cluster.folder), env={**os.environ, "PYTHONPATH": str(ROOT)},
        input="words", stdout=subprocess.PIPE, timeout=60, text=True,
    )  # fmt: skip
    assert done.returncode == 0
    logs = latest(cluster.folder) / "logs"
    found = {name: (logs / f"{name}.log").read_text() for name in ("rank_0", "rank_1", "scheduler")}
    assert found == {"rank_0": "''\n", "rank_1": "'words'\n", "scheduler": "''\n"}


def test_a_traceback_that_the_scheduler_has_too_is_headed_with_its_name(cluster: Cluster) -> None:
    (cluster.folder / "train.py").write_text(
        "import glob, os, signal, sys, time\nsignal.signal(signal.SIGTERM, signal.SIG_IGN)\n"
        "open(f'{sys.argv[1]}/{os.getpid()}.here', 'w').close()\n"
        "while len(glob.glob(f'{sys.argv[1]}/*.here')) < 3: time.sleep(0.01)\nimport not_there\n"
    )
    done = cluster.run()
    assert "\n  [0-1,scheduler]\n  Traceback" in done.stdout, done.stdout


@pytest.mark.parametrize("command", [["train.py"], [sys.executable, "train.py"]])
def test_one_rank_in_the_debugger_has_its_scheduler_meanwhile(cluster: Cluster, command: list[str]) -> None:
    cluster.does("scheduler", 60)
    (cluster.folder / "train.py").write_text(
        PROGRAM.replace("for key", "while not os.path.exists(f'{sys.argv[1]}/scheduler-0'): pass\nfor key")
    )
    words = ["--devices", "0", *WORDS[2:], "--debug", "--", *command, cluster.folder]
    done = launch(cluster.folder, *words)
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout == "0 of attempt 0 begins\n"
    log = latest(cluster.folder) / "logs" / "scheduler.log"
    assert log.read_text() == "scheduler of attempt 0 begins\n"
    end = time.monotonic() + 30
    while Path(f"/proc/{cluster.pid('scheduler')}").exists():
        assert time.monotonic() < end
        time.sleep(0.02)
