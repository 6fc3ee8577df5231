"""Jobs on several hosts: the whole launcher with real agents, behind an engine of plain pipes."""

from __future__ import annotations

import html
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any, Iterator

import pytest

from launcher import __version__
from launcher.page import run_page
from launcher.plan.model import Plan
from launcher.process import procfs, sweep
from launcher.process.itself import PROGRAM
from launcher.run_dir import RunDir
from launcher.runs import registry
from launcher.supervision.events import violations
from launcher.text import SCHEDULER
from tests.launching import ROOT, latest, launch

PIPES = ROOT / "tests" / "launcher" / "hosts" / "pipes.py"
PATIENCE = 30.0


class Hosts:
    """A folder in which jobs run on hosts node1 and node2."""

    def __init__(self, folder: Path) -> None:
        self.folder, self._pids = folder, folder / "pids"
        self._pids.mkdir()
        self._environ = dict(os.environ, PYTHONPATH=str(ROOT), PIPES_FOLDER=str(self._pids))
        self._started: list[subprocess.Popen[str]] = []

    def start(self, *words: str, hosts: str = "node1,node2") -> subprocess.Popen[str]:
        command = [sys.executable, str(PIPES), "run", hosts, "--devices", "0-1", "--backend", "cpu", *words]
        process = subprocess.Popen(
            command, cwd=str(self.folder), env=self._environ, stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        )  # fmt: skip
        self._started.append(process)
        return process

    def launch(self, *words: str) -> tuple[int, str, str]:
        process = self.start(*words)
        out, err = process.communicate(timeout=60)
        return process.returncode, out, err

    def agent(self, name: str) -> int:
        return int((self._pids / name).read_text())

    def run(self) -> RunDir:
        return RunDir(latest(self.folder))

    def result(self) -> dict[str, Any]:
        value: dict[str, Any] = json.loads(self.run().result.read_text())
        return value

    def wait_for(self, text: str) -> None:
        """Wait until every rank has written a text."""
        end = time.monotonic() + PATIENCE
        while time.monotonic() < end:
            logs = (
                [self.run().log(rank) for rank in range(4)] if (self.folder / "runs/latest").exists() else []
            )
            if logs and all(log.exists() and text in log.read_text() for log in logs):
                return
            time.sleep(0.05)
        raise AssertionError(f"{text!r} has not come")

    def close(self) -> None:
        for process in self._started:
            if process.poll() is None:
                process.terminate()
                process.wait(20)


@pytest.fixture
def hosts(tmp_path: Path) -> Iterator[Hosts]:
    found = Hosts(tmp_path)
    yield found
    found.close()


def gone(run: RunDir, seconds: float) -> bool:
    end = time.monotonic() + seconds
    while sweep.members(run.path.name):
        if time.monotonic() > end:
            return False
        time.sleep(0.05)
    return True


def test_a_job_on_two_hosts_with_a_failure_and_a_restart(hosts: Hosts) -> None:
    script = 'echo "rank $RANK_ID of $RANK_SIZE"; [ $RANK_ID$NPU_LAUNCH_ATTEMPT = 30 ] && exit 7; exit 0'
    code, out, err = hosts.launch("--max-restarts", "1", "--", "sh", "-c", script)
    assert (code, err) == (0, "")
    assert "rank 3 (host node2, device 1" in out and "exit code 7; restart 1 of 1" in out
    assert "finished     4 rank(s)" in out and "is shared by all 2 hosts" in out
    run, result = hosts.run(), hosts.result()
    assert (result["attempts"], result["ranks"], result["devices"]) == (2, 4, [0, 1, 0, 1])
    assert [end["host"] for end in result["ends"]] == ["node1", "node1", "node2", "node2"]
    assert run.log(3).read_text() == "rank 3 of 4\n" * 2
    hosts = json.loads((run.path / "hosts.json").read_text())
    assert [host["ranks"] for host in hosts] == ["0-1", "2-3"]
    assert {host["versions"]["launcher"] for host in hosts} == {__version__}
    page = html.unescape(run_page.page(run))
    again = launch(Path(registry.read_plan(run).run_dir).parents[1], "reproduce", "--json")
    assert again.returncode == 0 and "Traceback" not in again.stderr
    told = json.loads(again.stdout)
    assert told["command"].endswith("train.yaml devices=0-1") and "2 hosts" in told["not_known"][0]
    assert page.count("<dt>On ") == 1 and f"launcher {__version__}, python " in page  # equal: said once
    lines = [json.loads(line) for line in run.events.read_text().splitlines()]
    assert [line for line in lines if violations(line)] == []
    names = [line["event"] for line in lines]
    assert (names[0], names[-1], names.count("started"), names.count("run")) == ("run", "end", 8, 1)
    assert not sweep.members(run.path.name)


def test_the_report_names_the_culprit_s_host_and_what_others_did(hosts: Hosts) -> None:
    script = "echo begun; [ $RANK_ID = 2 ] && { sleep 0.3; exit 9; }; sleep 600"
    code, out, _ = hosts.launch("--", "sh", "-c", script)
    assert code == 9 and hosts.result()["culprit"] == 2
    assert "npu-launch: rank 2 failed; ending ranks 0-1,3 (grace 30 s)" in out
    assert "rank 2 (host node2, device 0" in out and "ranks 0-1,3: ended by npu-launch" in out
    assert gone(hosts.run(), 2)


CLUSTER = ("framework=mindspore", "grace=1", "--", "sh", "-c")


def test_a_scheduler_runs_once_on_rank_0_s_host_as_long_as_any_host_has_ranks(hosts: Hosts) -> None:
    cases = "case $MS_ROLE$RANK_ID in MS_SCHED0) exec sleep 600;; MS_WORKER3) sleep 3;; esac"
    code, out, _ = hosts.launch(*CLUSTER, f"echo $MS_ROLE at $MS_SCHED_HOST:$MS_SCHED_PORT; {cases}")
    assert code == 0, out
    run, result = hosts.run(), hosts.result()
    assert (result["scheduler"]["host"], result["scheduler"]["state"]) == ("node1", "ended by npu-launch")
    assert len(result["ends"]) == 4 and result["culprit"] is None
    events = [json.loads(line) for line in run.events.read_text().splitlines()]
    ends = {line["rank"]: line["time"] for line in events if line["event"] == "ended"}
    assert min(ends, key=lambda rank: ends[rank]) in (0, 1, 2) and ends[SCHEDULER] > ends[3]
    starts = [line["host"] for line in events if (line["event"], line["rank"]) == ("started", SCHEDULER)]
    assert starts == ["node1"]
    places = {run.log(rank).read_text().split()[-1] for rank in (SCHEDULER, 0, 1, 2, 3)}
    assert len(places) == 1 and not places.pop().endswith(":0")
    assert run.log(SCHEDULER).read_text().startswith("MS_SCHED at ")
    plan = Plan.from_json(run.plan.read_text())
    assert plan.scheduler is not None and plan.scheduler.server_id == plan.ranks[0].server_id
    assert gone(run, 2)


def test_a_scheduler_that_fails_on_its_host_ends_the_ranks_of_all(hosts: Hosts) -> None:
    script = "[ $MS_ROLE = MS_SCHED ] && { sleep 1; kill -9 $$; }; exec sleep 600"
    code, out, _ = hosts.launch(*CLUSTER, script)
    assert code == 137 and hosts.result()["culprit"] == SCHEDULER
    assert "npu-launch: the scheduler failed; ending ranks 0-3 (grace 1 s)" in out
    assert "the scheduler (host node1, pid" in out and "ranks 0-3: ended by npu-launch" in out
    assert gone(hosts.run(), 2)


@pytest.mark.parametrize(
    ("words", "code", "text"),
    [
        (["--", "no-such-program"], 127, "every host: no-such-program: no such program on PATH"),
        (["stdin_rank=0", "--", "true"], 2, "stdin_rank: not possible on several hosts"),
        (["--debug", "--", "true"], 2, "--debug: one process on this host"),
    ],
)
def test_what_no_host_can_run_is_refused_and_leaves_nothing(
    hosts: Hosts, words: list[str], code: int, text: str
) -> None:
    found, out, err = hosts.launch(*words)
    assert (found, out) == (code, "") and text in err and err.count("\n") == 1
    assert not list(hosts.folder.glob("runs/*"))


def test_a_dry_run_shows_the_plan_of_all_hosts_and_makes_nothing(hosts: Hosts) -> None:
    code, out, err = hosts.launch("--dry-run", "--json", "--", "true")
    plan = json.loads(out)
    assert (code, err) == (0, "") and [host["name"] for host in plan["hosts"]] == ["node1", "node2"]
    assert len(plan["ranks"]) == 4 and plan["engine"][-3:] == [*PROGRAM, "agent"]
    assert not (hosts.folder / "runs").exists()


def test_a_module_of_the_users_folder_breaks_no_agent(hosts: Hosts) -> None:
    for name in ("launcher", "rank_table", "tokenize"):
        (hosts.folder / name).mkdir()
        (hosts.folder / name / "__init__.py").write_text("raise SystemExit(9)\n")
    code, _, err = hosts.launch("--", "true")
    assert code == 0, err


def test_commands_know_a_run_in_the_background(hosts: Hosts) -> None:
    program = hosts.folder / "waits.py"
    program.write_text("import time\nprint('begun', flush=True)\ntime.sleep(600)\n")
    code, out, err = hosts.launch("--detach", f"program={program}")
    assert (code, err) == (0, "") and "attach: npu-launch logs --follow" in out
    hosts.wait_for("begun")
    rows = json.loads(launch(hosts.folder, "ps", "latest", "--json").stdout)
    assert [(row["rank"], row["host"]) for row in rows if row["rank"] is not None] == [
        (0, "node1"), (1, "node1"), (2, "node2"), (3, "node2"),
    ]  # fmt: skip
    stacks = launch(hosts.folder, "stacks")
    assert stacks.stdout.startswith("0-3 in <module> ("), stacks
    assert launch(hosts.folder, "stop", "latest").stdout.endswith("stopped\n")
    assert hosts.result()["exit_code"] == 143 and gone(hosts.run(), 2)
    assert "ended by SIGTERM" in (hosts.run().logs / "console.log").read_text()


def test_a_head_that_is_killed_leaves_nothing(hosts: Hosts) -> None:
    process = hosts.start("lease=1", "--", "sh", "-c", "echo begun; exec sleep 600")
    hosts.wait_for("begun")
    agents = [hosts.agent("node1"), hosts.agent("node2")]
    process.kill()
    assert gone(hosts.run(), 3)
    end = time.monotonic() + 3
    while any(procfs.read(pid) for pid in agents) and time.monotonic() < end:
        time.sleep(0.05)
    assert not any(procfs.read(pid) for pid in agents)


def test_an_agent_that_stands_still_is_a_lost_host(hosts: Hosts) -> None:
    process = hosts.start("lease=1", "--", "sh", "-c", "echo begun; exec sleep 600")
    hosts.wait_for("begun")
    pid = hosts.agent("node2")
    os.kill(pid, signal.SIGSTOP)
    out, _ = process.communicate(timeout=30)
    os.kill(pid, signal.SIGKILL) if procfs.read(pid) else None
    assert process.returncode == 69 and "host node2 lost: no sign for 1 s; its ranks 2-3" in out
    assert gone(hosts.run(), 3)


def test_everything_that_ranks_write_at_once_arrives(hosts: Hosts) -> None:
    script = (
        'i=0; while [ $i -lt 20 ]; do head -c 200000 /dev/zero | tr "\\0" "$RANK_ID"; echo; i=$((i+1)); done'
    )
    code, _, err = hosts.launch("--quiet", "--", "sh", "-c", script)
    assert (code, err) == (0, "")
    for rank in range(4):
        assert hosts.run().log(rank).read_bytes() == (str(rank) * 200000 + "\n").encode() * 20
