"""The command of on_event: one process for each event, which never holds up the run nor outlives it."""

from __future__ import annotations

import json
import os
import stat
import time
from pathlib import Path
from typing import Any

import pytest

from launcher.errors import UsageError
from launcher.plan.model import Plan, Policy
from launcher.run_dir import RunDir
from launcher.supervision import hook as hooks
from launcher.supervision.hook import Hook
from tests.faults.helpers import alive, until
from tests.launching import latest, launch

KEEP = "cat >> got.jsonl"


class Run:
    """A run folder and the hook of a run."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.said = folder, ""
        self.dir = RunDir.create(folder / "run", [0])

    def hook(self, script: str, *only: str) -> Hook:
        words = ("/bin/sh", "-c", f"cd {self.folder}\n{script}")
        policy = Policy(on_event=words, on_event_only=only)
        plan = Plan("job", "job-1", str(self.dir.path), "h", "cpu", "{}", (), policy)
        return Hook(plan, self.dir, self.say)

    def say(self, text: str) -> None:
        self.said += text + "\n"

    def got(self) -> list[str]:
        path = self.folder / "got.jsonl"
        return [json.loads(line)["event"] for line in path.read_text().splitlines()] if path.exists() else []

    def pid(self, name: str = "pid") -> int:
        path = self.folder / name
        until(lambda: path.exists() and path.read_text().endswith("\n"))
        return int(path.read_text())


@pytest.fixture()
def run(tmp_path: Path) -> Run:
    return Run(tmp_path)


def event(name: str, **data: Any) -> dict[str, Any]:
    return {"time": 1.0, "event": name, "rank": None, "data": data}


def through(hook: Hook, *names: str) -> None:
    for name in names:
        hook.send(event(name))
    hook.finish()
    hook.close()


def test_each_event_comes_in_order_and_the_last_before_the_end(run: Run) -> None:
    through(run.hook(KEEP), "run", "alert", "end")
    assert (run.got(), run.said) == (["run", "alert", "end"], "")


def test_only_the_events_that_are_asked_for_come(run: Run) -> None:
    through(run.hook(KEEP, "alert", "end"), "run", "started", "alert", "end")
    assert run.got() == ["alert", "end"]


def test_an_event_longer_than_a_pipe_comes_whole(run: Run) -> None:
    hook = run.hook("sleep 0.1; " + KEEP)
    hook.send(event("teardown", ranks=list(range(20000))))
    through(hook)
    assert json.loads((run.folder / "got.jsonl").read_text())["data"]["ranks"][-1] == 19999


def test_a_command_gets_the_environment_of_the_user_and_the_run_folder(
    run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MAIL_TO", "me")
    monkeypatch.setenv("NPU_LAUNCH_RUN_ID", "of an outer run")
    through(run.hook('echo "$MAIL_TO $NPU_LAUNCH_RUN_DIR $NPU_LAUNCH_RUN_ID."; echo wrong >&2'), "end")
    log = run.dir.logs / "on_event.log"
    assert log.read_text().split("end\n")[1] == f"me {run.dir.path} .\nwrong\n"
    assert stat.S_IMODE(os.stat(str(log)).st_mode) == 0o600


def test_signals_are_those_of_a_fresh_process(run: Run) -> None:
    through(run.hook("grep -E 'Sig(Blk|Ign)' /proc/self/status"), "end")
    lines = (run.dir.logs / "on_event.log").read_text().splitlines()[1:]
    masks = [int(line.split()[1], 16) for line in lines]
    own = 1 << 31 | 1 << 32  # signals 32 and 33 are the C library's: nobody can set them, all inherit them
    assert [mask & ~own for mask in masks] == [0, 0]


def test_the_first_failure_is_told_and_the_number_of_all_at_the_end(run: Run) -> None:
    through(run.hook(KEEP + "; exit 3"), "run", "alert", "end")
    log = run.dir.logs / "on_event.log"
    assert run.got() == ["run", "alert", "end"] and log.read_text().count("exit code 3\n") == 3
    assert run.said.splitlines() == [
        f"warning: on_event: sh: exit code 3 (event run); see {log}",
        f"warning: on_event: 3 of 3 commands failed; see {log}",
    ]


def test_a_command_that_reads_nothing_and_one_that_cannot_run_cost_nothing_else(run: Run) -> None:
    through(run.hook("exit 0"), "run", "end")
    assert run.said == ""
    policy = Policy(on_event=(str(run.folder),))
    plan = Plan("job", "job-1", str(run.dir.path), "h", "cpu", "{}", (), policy)
    through(Hook(plan, run.dir, run.say), "end")
    assert "cannot be run: Permission denied (event end)" in run.said


def test_a_command_that_hangs_is_killed_with_its_group(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hooks, "TIMEOUT", 0.3)
    hook = run.hook("sleep 60 & echo $! > pid; wait")
    begin = time.monotonic()
    hook.send(event("alert"))
    assert time.monotonic() - begin < 0.2
    until(lambda: not alive(run.pid()))
    through(hook)
    assert "took too long and was killed (event alert)" in run.said


def test_a_slow_command_leaves_out_what_waits_but_not_the_last_event(
    run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(hooks, "CATCH_UP", 0.1)
    through(run.hook(KEEP + "; sleep 0.3"), *["alert"] * 9, "end")
    assert run.got()[-1] == "end" and len(run.got()) < 9
    assert f"{10 - len(run.got())} events were left out" in run.said


def test_of_too_many_events_some_are_left_out_and_counted(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hooks, "WAITING", 2)
    hook = run.hook("touch begun; while [ ! -e go ]; do sleep 0.02; done; " + KEEP)
    hook.send(event("alert"))
    until(lambda: (run.folder / "begun").exists())
    for name in (*["alert"] * 8, "end"):
        hook.send(event(name))
    time.sleep(0.2)
    (run.folder / "go").touch()
    through(hook)
    assert run.got() == ["alert", "alert", "alert", "end"] and "6 events were left out" in run.said


def test_a_stopped_helper_never_holds_up_the_run(run: Run) -> None:
    hook = run.hook(KEEP)
    os.kill(hook._pid, 19)
    begin = time.monotonic()
    for _ in range(2000):
        hook.send(event("alert", text="x" * 1000))
    assert time.monotonic() - begin < 2.0 and hook._dropped > 100
    hook.close()
    assert not alive(hook._pid)


def test_what_a_command_leaves_behind_may_end_but_not_outlive_the_run(
    run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    through(run.hook("(sleep 0.2; echo sent > mail) &"), "end")
    assert (run.folder / "mail").exists()
    monkeypatch.setattr(hooks, "LEAVE", 0.3)
    monkeypatch.setattr(hooks, "CATCH_UP", 0.0)
    through(run.hook("setsid sleep 60 & echo $! > pid"), "end")
    until(lambda: not alive(run.pid()))


def test_without_a_launcher_nothing_of_it_is_left(run: Run) -> None:
    hook = run.hook("setsid sleep 60 & echo $! > other; echo $$ > pid; wait")
    hook.send(event("run"))
    pids = [run.pid("other"), run.pid(), hook._pid]
    hook._socket.close()
    until(lambda: not any(map(alive, pids)))
    hook.close()


def test_output_without_end_is_cut_off(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hooks, "LOG", 1 << 20)
    through(run.hook("exec cat /dev/zero"), "end")
    assert "wrote more than 1 MiB and was killed" in run.said


def test_the_log_of_many_commands_keeps_what_the_last_ones_wrote(
    run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(hooks, "LOG", 1 << 16)
    through(run.hook("head -c 60000 /dev/zero"), *["alert"] * 6, "end")
    log = (run.dir.logs / "on_event.log").read_bytes()
    assert len(log) < 3 << 16 and log.rstrip(b"\0").endswith(b" end\n")


# As a user gives it.


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ("on_event=mail.sh", "on_event: mail.sh: no such program on PATH; write ./mail.sh"),
        ("on_event=./nothing.sh", "on_event: ./nothing.sh: no such program; give the path of a script"),
        ("on_event=./mail.sh", "on_event: ./mail.sh: not executable; chmod +x it"),
        ('on_event=mail "x', "on_event: No closing quotation; write it as a list"),
        ("on_event_only=[alarm]", "on_event_only: 'alarm': invalid value (expected some of run, started,"),
        ("fail_on_alert=[disks]", "fail_on_alert: 'disks': invalid value (expected some of nan, loss spike,"),
        ("alert_loss=-1", "alert_loss: -1.0: invalid value (expected 0 or more)"),
    ],
)
def test_a_job_that_cannot_be_done_is_refused_in_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, given: str, said: str
) -> None:
    from launcher.config.job import load
    from launcher.plan.planner import plan_job

    monkeypatch.chdir(str(tmp_path))
    (tmp_path / "mail.sh").write_text("#!/bin/sh\n")
    with pytest.raises(UsageError) as caught:
        plan_job(*load(None, [given, "backend=cpu"], {}), ["true"])
    assert str(caught.value).startswith("command line: " + said)


def test_a_run_gives_its_events_to_the_command_and_dry_runs_start_none(tmp_path: Path) -> None:
    script = tmp_path / "it's.sh"
    script.write_text("#!/bin/sh\ncat >> \"$1\"\nps -o ppid= -p $$ >/dev/null\n")
    script.chmod(0o755)
    words = ["--backend", "cpu", f'on_event="./it\'s.sh" {tmp_path}/got', "--", "sh", "-c", "exit 7"]
    shown = launch(tmp_path, "--dry-run", *words).stdout
    assert "on every event\n" in shown and not (tmp_path / "got").exists()
    done = launch(tmp_path, *words)
    assert done.returncode == 7 and "warning" not in done.stdout + done.stderr
    assert (tmp_path / "got").read_text() == (latest(tmp_path) / "events.jsonl").read_text()
    assert '"swept"' not in (tmp_path / "got").read_text()


def test_alerts_of_a_run_are_lines_events_and_the_exit_code_that_is_asked_for(tmp_path: Path) -> None:
    rows = "".join(f'{{"step": {step}, "loss": {"NaN" if step == 5 else 1}}}\\n' for step in range(1, 9))
    words = ["--backend", "cpu", "fail_on_alert=[nan]", "--", "sh", "-c"]
    done = launch(tmp_path, *words, f"printf '{rows}' > $NPU_LAUNCH_RANK_DIR/metrics.jsonl")
    run = latest(tmp_path)
    text = "the loss is nan at step 5"
    assert done.returncode == 1 and f"npu-launch: alert: {text}\n" in done.stdout
    assert "exit code 1, as fail_on_alert names nan" in (run / "report.txt").read_text()
    assert f"alert        {text}\n" in (run / "report.txt").read_text()
    result = json.loads((run / "result.json").read_text())
    assert result["alerts"] == [{"kind": "nan", "step": 5, "text": text}] and result["exit_code"] == 1
    names = [json.loads(line)["event"] for line in (run / "events.jsonl").read_text().splitlines()]
    assert names.count("alert") == 1 and names[-1] == "end"
