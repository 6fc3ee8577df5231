"""The agent of a host: real processes, over pipes, for a head of a few lines."""

from __future__ import annotations

import os
import signal
import sys
import time
from pathlib import Path
from typing import Any, Iterator

import pytest

from launcher.diagnosis.failure import RankEnd, RankStatus
from launcher.diagnosis.verdict import judge
from launcher.plan.model import Plan
from launcher.typed_json import Value
from tests.launcher.hosts.scripted import ScriptedHead

SLEEP = ["sh", "-c", "echo up; exec sleep 60"]


@pytest.fixture
def head(tmp_path: Path) -> Iterator[ScriptedHead]:
    made = ScriptedHead(tmp_path)
    yield made
    made.process.kill()
    made.close()


def ends_of(body: dict[str, Any]) -> list[RankEnd]:
    return [RankEnd.from_json(Value(end, "end")) for end in body["ends"]]


def alive(pid: int) -> bool:
    try:
        with open(f"/proc/{pid}/stat") as stream:
            return stream.read().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def pids(head: ScriptedHead, count: int) -> list[int]:
    found: list[int] = []
    while len(found) < count:
        event = head.wait("event")
        found += [event["data"]["pid"]] if event["event"] == "started" else []
    return found


def test_it_runs_the_ranks_of_its_host_and_brings_their_output_and_ends(head: ScriptedHead) -> None:
    code = "import os, sys; print('rank', os.environ['RANK_ID'], flush=True); sys.stderr.write('e' * 99999)"
    job = head.start([sys.executable, "-c", code])
    body = head.wait("end")
    head.wait("sent")
    assert [end.code for end in ends_of(body)] == [0, 0] and body["teardown_ns"] is None
    assert head.log(1) == b"rank 1\n" + b"e" * 99999
    own = Path(job.run_dir) / "hosts" / "node0"
    assert (own / "logs" / "rank_1.log").read_bytes() == head.log(1)
    head.send("done")
    assert head.wait("bye") == {"code": 0}
    assert head.close() == 0 and not head.noise


def test_ready_says_what_it_will_run_before_any_rank_is_started(head: ScriptedHead) -> None:
    head.order(["sleep", "60"], devices="0-2")
    ready = head.wait("ready")
    plan = Plan.from_json(ready["plan"])
    assert [spec.env["DEVICE_ID"] for spec in plan.ranks] == ["0", "1", "2"]
    head.send("done")
    assert head.wait("bye") == {"code": 0}
    assert not list(head.folder.glob("runs/*/hosts/*")) and "event" not in head.kinds()


def test_a_rank_that_fails_is_told_at_once_and_its_host_is_torn_down(head: ScriptedHead) -> None:
    head.start(["sh", "-c", "if [ $RANK_ID = 1 ]; then echo boom; exit 7; fi; exec sleep 60"])
    failed = head.wait("failed")
    assert failed["end"]["rank"] == 1 and failed["end"]["code"] == 7 and not failed["victim"]
    body = head.wait("end")
    ends, culprit = judge(ends_of(body), {0: body["teardown_ns"], 1: body["teardown_ns"]})
    assert culprit is not None and culprit.rank == 1 and culprit.tail == b"boom\n"
    assert ends[0].status is RankStatus.TERMINATED


def test_the_head_ends_the_ranks(head: ScriptedHead) -> None:
    head.start(SLEEP)
    started = pids(head, 2)
    head.send("stop", {"why": "rank 9 on host node3 failed", "now": False})
    body = head.wait("end")
    assert [end.code for end in ends_of(body)] == [-15, -15] and not any(map(alive, started))


def test_at_once_means_without_grace(head: ScriptedHead) -> None:
    head.start(["sh", "-c", "trap '' TERM; echo up; while :; do sleep 1; done"], grace=60.0)
    while b"up" not in head.log(0) or b"up" not in head.log(1):
        assert head._receive(10)
    head.send("stop", {"why": "SIGINT", "now": True})
    assert [end.code for end in ends_of(head.wait("end"))] == [-9, -9]


@pytest.mark.parametrize("how", ["closed", "silent", "killed"])
def test_without_a_head_or_an_agent_nothing_goes_on(head: ScriptedHead, how: str) -> None:
    head.start(SLEEP, lease=1.0 if how == "silent" else 30.0)
    started = pids(head, 2)
    if how == "killed":
        head.process.kill()
    code = head.close() if how == "closed" else head.process.wait(15)
    end = time.monotonic() + 5
    while any(map(alive, started)) and time.monotonic() < end:
        time.sleep(0.05)
    assert not any(map(alive, started))
    assert code == (-signal.SIGKILL if how == "killed" else 143)


COUNTING = """
import json, os, time
rank = int(os.environ["RANK_ID"])
beat = {"step": 9, "phase": "train", "time": 1.5e9, "total_steps": 50, "steps": 8,
    "own_s": 2.5, "wait_s": None}
if rank == 1:
    beat = {"step": 9}
path = os.path.join(os.environ["NPU_LAUNCH_RANK_DIR"], "heartbeat.json")
with open(path + ".tmp", "w") as stream:
    json.dump(beat, stream)
os.replace(path + ".tmp", path)
time.sleep(4)
"""


def test_what_a_rank_counts_is_told_once_until_it_changes(head: ScriptedHead) -> None:
    head.start([sys.executable, "-c", COUNTING])
    head.wait("end")
    rows = [row for frame in head.frames if frame.kind == "beats" for row in frame.body["ranks"]]
    told = [row[11:] for row in rows if row[0] == 0 and row[2] == 9]
    assert len(told) > 1 and told[0] == [50, [1.5e9, 8, 0, 0, 0, 2.5, None, 0]]
    assert not any(told[1:]) and not any(row[11:] for row in rows if row[0] == 1)


def test_signs_of_life_keep_it_going(head: ScriptedHead) -> None:
    head.start(["sh", "-c", "sleep 3.5"], lease=2.0)
    for _ in range(12):
        head.send("beat")
        time.sleep(0.3)
    assert [end.code for end in ends_of(head.wait("end"))] == [0, 0]


def test_ranks_that_write_faster_than_the_head_takes_are_not_held_up(head: ScriptedHead) -> None:
    head.acking = False
    script = "import sys\nfor _ in range(40): sys.stdout.write('x' * 99999 + '\\n')"
    head.start([sys.executable, "-c", script])
    body = head.wait("end")
    assert [end.code for end in ends_of(body)] == [0, 0]
    beats = head.wait("beats")
    while beats["behind"] < 2 << 20:
        beats = head.wait("beats")
    head.acking = True
    head.send("ack", {"0": sum(len(frame.body[1]) for frame in head.frames if frame.kind == "log")})
    head.wait("sent")
    assert len(head.log(0)) == len(head.log(1)) == 40 * 100000


def test_a_signal_to_the_agent_ends_its_ranks_and_is_told(head: ScriptedHead) -> None:
    head.start(SLEEP)
    pids(head, 2)
    os.kill(head.process.pid, signal.SIGTERM)
    assert head.wait("end")["interrupted"] == signal.SIGTERM
    head.wait("sent")
    head.send("done")
    assert head.wait("bye") == {"code": 143}


def test_what_cannot_be_run_here_is_refused_in_a_line(head: ScriptedHead) -> None:
    head.order(["no-such-program"])
    refused = head.wait("refused")
    assert refused == {"code": 127, "lines": ["no-such-program: no such program on PATH"]}
    assert head.wait("bye") == {"code": 127}


def test_without_a_shared_disk_it_makes_a_run_folder_of_its_own(head: ScriptedHead) -> None:
    job = head.start(["sh", "-c", "cat $RANK_TABLE_FILE"], devices="0", shared=False)
    head.wait("sent")
    assert (Path(job.run_dir) / "rank_table.json").read_bytes() == head.log(0)
    assert (Path(job.run_dir) / "hosts.json").exists()


def test_signals_of_the_head_reach_the_ranks_and_stacks_come_back(head: ScriptedHead) -> None:
    trap = "trap 'echo got; exit 0' USR1; echo up; while :; do sleep 0.05; done"
    head.start(["sh", "-c", trap], devices="0")
    while b"up" not in head.log(0):
        assert head._receive(10)
    head.send("stacks")
    assert head.wait("stacks") == {"texts": {}}  # no Python there
    head.send("signal", {"number": int(signal.SIGUSR1)})
    assert [end.code for end in ends_of(head.wait("end"))] == [0]


def test_a_signal_ends_the_wait_for_a_head_that_takes_no_logs(head: ScriptedHead) -> None:
    head.acking = False
    head.start([sys.executable, "-c", "print('x' * (2 << 20))"])
    assert [end.code for end in ends_of(head.wait("end"))] == [0, 0]
    os.kill(head.process.pid, signal.SIGTERM)
    assert "bytes of its ranks' logs stay in its own files" in head.wait("say")["text"]
    head.wait("sent")
    head.send("done")
    assert head.wait("bye") == {"code": 0}
