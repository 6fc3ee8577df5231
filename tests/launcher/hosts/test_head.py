"""The head from start to verdict, with agents that follow a script."""

from __future__ import annotations

import json
import os
import signal
import threading
from pathlib import Path
from typing import Any, Callable, Iterator

import pytest

from launcher.diagnosis.failure import ErrorRecord, RankStatus
from launcher.diagnosis.verdict import exit_code_of
from launcher.heartbeat import Counters
from launcher.hosts import head as heads
from launcher.hosts import ranks
from launcher.hosts.clocks import Offset
from launcher.hosts.head import Head
from launcher.hosts.ranks import RemoteRank
from launcher.hosts.session import Session
from launcher.process.signals import Signals
from launcher.run_dir import RunDir
from launcher.runs import remote
from launcher.supervision.context import RunContext
from launcher.supervision.events import EventLog, violations
from launcher.supervision.progress import RunProgress
from launcher.supervision.result import Result
from launcher.ui.console import Console
from launcher.ui.report import report
from tests.launcher.hosts.fake_agents import SECOND, FakeAgents, ended, plan_of, ranks_of

Play = Callable[..., Result]


def started(agents: FakeAgents, host: int, body: Any) -> None:
    for rank in ranks_of(host):
        data = {"pid": 1000 + rank, "start": 1}
        agents.up(host, "event", {"time": 1.5, "event": "started", "rank": rank, "data": data})


def stopped(agents: FakeAgents, host: int, body: Any) -> None:
    agents.ends(host, *(ended(rank, -15, agents.now(host)) for rank in ranks_of(host)), teardown=True)


class Stage:
    """A run folder and what is played in it."""

    def __init__(self, folder: Path, signals: Signals) -> None:
        self.run, self._signals = RunDir.create(folder / "run", ()), signals
        self.head: Head
        self.session: Session

    def play(self, agents: FakeAgents, lease: float = 10.0, **policy: Any) -> Result:
        """Run an attempt to its end."""
        plan = plan_of(self.run.path, agents.hosts, **policy)
        console = Console(None, quiet=True)
        names = [spec.name for spec in plan.hosts]
        self.session = Session(agents, names, self._signals, console, lease)
        for host in self.session.fleet:
            host.ranks = tuple(ranks_of(host.index))
            host.offset = Offset(agents.ahead[host.index], agents.ahead[host.index], 0)
        self.events = EventLog(self.run, console)
        self.head = Head(self.session, RunContext(plan, self.run, console, self.events), lease, 0)
        return self.head.run()

    def lines(self) -> list[dict[str, Any]]:
        return [json.loads(line) for line in self.run.events.read_text().splitlines()]

    def said(self) -> str:
        return self.run.launcher_log.read_text()


@pytest.fixture
def stage(tmp_path: Path) -> Iterator[Stage]:
    with Signals() as signals:
        yield Stage(tmp_path, signals)


def test_ranks_of_all_hosts_end_well_and_their_logs_are_on_the_head_s_clock(stage: Stage) -> None:
    def start(agents: FakeAgents, host: int, body: Any) -> None:
        started(agents, host, body)
        rank = ranks_of(host)[0]
        agents.up(host, "log", ([rank, "o", 100 * SECOND + agents.ahead[host], 0], b"one\n"))
        agents.up(host, "log", ([rank, "e", 101 * SECOND + agents.ahead[host], 4], b"two\n"))

    def acknowledged(agents: FakeAgents, host: int, totals: Any) -> None:
        assert totals == {"0": 8, "1": 8}
        agents.ends(host)

    agents = FakeAgents(2, {"start": start, "ack": acknowledged}, ahead=[0, 7 * SECOND])
    result = stage.play(agents)
    assert result.culprit is None and [end.code for end in result.ends] == [0] * 4
    assert stage.run.log(2).read_bytes() == b"one\ntwo\n"
    assert stage.run.index(2).read_text() == f"{100 * SECOND} o 0 4\n{101 * SECOND} e 4 4\n"
    lines = stage.lines()
    assert [line["host"] for line in lines] == ["node1", "node1", "node2", "node2"]
    assert lines[2]["time"] == 1.5 - 7 and [violations(line) for line in lines] == [[]] * 4
    assert remote.read_ranks(stage.run)[3].host == "node2"


def test_the_earliest_failure_is_the_first_on_one_clock(stage: Stage) -> None:
    when = 50 * SECOND

    def start(agents: FakeAgents, host: int, body: Any) -> None:
        started(agents, host, body)
        # On its own clock the rank of host 0 fails first, on the head's that of host 1, by a second.
        end = ended(ranks_of(host)[1], 7 + host, when + agents.ahead[host] - host * SECOND)
        agents.up(host, "failed", {"end": end.to_json(), "victim": False})
        agents.ends(host, end)

    result = stage.play(FakeAgents(2, {"start": start}, ahead=[0, 3 * SECOND]))
    assert result.culprit is not None
    assert (result.culprit.rank, result.culprit.host) == (3, "node2")
    assert exit_code_of(result.ends, result.culprit) == 8
    assert "rank 3 (host node2, device 1" in report(stage.run, result.ends, result.culprit)


def test_a_victim_leaves_another_host_time_to_tell_the_cause(stage: Stage) -> None:
    error = ErrorRecord(0, "RuntimeError", "HCCL error EI0006: Getting socket times out", "EI0006", "m", True)

    def start(agents: FakeAgents, host: int, body: Any) -> None:
        started(agents, host, body)
        if host == 0:
            end = ended(1, 1, agents.now(0), error._replace(monotonic_ns=agents.now(0)))
            agents.up(0, "failed", {"end": end.to_json(), "victim": True})
            agents.ends(0, end)
        else:
            end = ended(2, 9, agents.now(1) + SECOND)
            agents.up(1, "failed", {"end": end.to_json(), "victim": False})
            agents.ends(1, end)

    result = stage.play(FakeAgents(2, {"start": start}))
    assert result.culprit is not None and result.culprit.rank == 2
    assert result.ends[1].status is RankStatus.VICTIM


def test_a_silent_host_is_lost_and_the_others_are_ended(stage: Stage) -> None:
    def beat(agents: FakeAgents, host: int, body: Any) -> None:
        if host == 0:
            agents.up(0, "beats", {"behind": 0, "sampled_age": 0.0, "ranks": []})

    agents = FakeAgents(
        2, {"start": started, "beat": beat, "stop": lambda a, h, b: h == 0 and stopped(a, h, b)}
    )
    result = stage.play(agents, lease=0.5)
    assert result.culprit is not None and result.culprit.rank == 2
    assert exit_code_of(result.ends, result.culprit) == 69
    text = report(stage.run, result.ends, result.culprit)
    assert text.startswith("host node2 lost: no sign for ") and "its ranks 2-3" in text
    assert "ranks 0-1: ended by npu-launch" in text and "rank 3: lost with host node2" in text
    assert [host.name for host in stage.head.lost] == ["node2"]
    assert {"host_lost", "teardown"} <= {line["event"] for line in stage.lines()}
    assert all(not violations(line) for line in stage.lines())


def test_an_agent_that_the_engine_says_has_ended_is_lost_before_the_lease_is_over(
    stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(heads, "LATE", 0.1)

    def start(agents: FakeAgents, host: int, body: Any) -> None:
        started(agents, host, body)
        agents.left = ["node1", "node2"]  # its last frames come after what the engine says
        if host == 0:
            agents.ends(0)

    result = stage.play(FakeAgents(2, {"start": start}), lease=60.0)
    assert result.culprit is not None and result.culprit.rank == 2
    assert [end.code for end in result.ends] == [0, 0, None, None]


@pytest.mark.parametrize("of_agent", [True, False])
def test_an_agent_or_engine_that_ends_is_lost_with_its_reason(stage: Stage, of_agent: bool) -> None:
    def start(agents: FakeAgents, host: int, body: Any) -> None:
        started(agents, host, body)
        if host and of_agent:
            agents.up(host, "bye", {"code": 143})
        elif not of_agent:
            agents.code = 137
            if host == 0:
                agents.ends(0)

    result = stage.play(FakeAgents(2, {"start": start, "stop": lambda a, h, b: h or stopped(a, h, b)}))
    why = "its agent ended with exit code 143" if of_agent else "the engine has crashed"
    assert result.culprit is not None and result.culprit.detail == f"host node2 lost: {why}; its ranks 2-3"
    assert [end.code for end in result.ends[:2]] == ([-15, -15] if of_agent else [0, 0])


def test_what_ranks_count_is_known_until_it_changes(stage: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[RemoteRank] = []

    class Watched(RunProgress):
        def __init__(self, policy: Any, ranks: Any, events: Any) -> None:
            super().__init__(policy, ranks, events)
            seen.extend(ranks)

    def start(agents: FakeAgents, host: int, body: Any) -> None:
        started(agents, host, body)
        row = [2 * host, True, 9, 9, "train", True, 0.1, 0.1, 0.1, 20.0, None]
        for counted in ([50, [1.5e9, 8, 64, 768, 0.5, 2.5, None, 0.25]], [], [60, None] if host else []):
            agents.up(host, "beats", {"behind": 0, "sampled_age": 0.0, "ranks": [[*row, *counted]]})
        agents.ends(host)

    monkeypatch.setattr(ranks, "RunProgress", Watched)
    stage.play(FakeAgents(2, {"start": start}))
    told = [(rank.heartbeat.total_steps, rank.heartbeat.counters) for rank in seen]
    counters = Counters(1.5e9, 8, 64, 768, 0.5, 2.5, None, 0.25)
    assert told == [(50, counters), (0, None), (60, None), (0, None)]


def test_a_hang_is_judged_over_all_hosts_by_the_stacks_of_all(stage: Stage) -> None:
    def beat(agents: FakeAgents, host: int, body: Any) -> None:
        for rank in ranks_of(host):
            step, age = (3, 9.0) if rank == 2 else (4, 9.0)
            row = [rank, True, step, step, "train", True, age, age, age, 20.0, None]
            agents.up(host, "beats", {"behind": 0, "sampled_age": 0.0, "ranks": [row]})

    def stacks(agents: FakeAgents, host: int, body: Any) -> None:
        where = {rank: "input.py" if rank == 2 else "wait.py" for rank in ranks_of(host)}
        dump = 'Current thread 0x1 (most recent call first):\n  File "/{}", line 1 in f\n'
        agents.up(host, "stacks", {"texts": {str(rank): dump.format(file) for rank, file in where.items()}})

    agents = FakeAgents(2, {"start": started, "beat": beat, "stacks": stacks, "stop": stopped})
    result = stage.play(agents, lease=1.0, hang_timeout=0.05)
    assert result.culprit is not None and result.culprit.rank == 2
    assert result.culprit.status is RankStatus.HUNG and "in step 3" in result.culprit.detail
    assert result.snapshot is not None and result.snapshot.outlier == 2
    assert agents.kinds().index("stacks") < agents.kinds().index("stop")


def test_signals_reach_all_hosts(stage: Stage) -> None:
    def start(agents: FakeAgents, host: int, body: Any) -> None:
        started(agents, host, body)
        if host == 1:
            os.kill(os.getpid(), signal.SIGUSR1)
            os.kill(os.getpid(), signal.SIGTERM)

    agents = FakeAgents(2, {"start": start, "stop": stopped})
    result = stage.play(agents, grace=3.0)
    assert result.interrupted == signal.SIGTERM and result.culprit is None
    assert agents.kinds() == ["start", "signal", "stop"]
    assert [frame.body for frame in agents.sent if frame.kind == "stop"] == [{"why": "SIGTERM", "now": False}]


def test_a_second_ctrl_c_waits_for_no_grace_and_a_third_for_nothing(stage: Stage) -> None:
    def again(agents: FakeAgents, host: int, body: Any) -> None:
        if host == 0:
            threading.Timer(0.05, os.kill, (os.getpid(), signal.SIGINT)).start()

    agents = FakeAgents(2, {"start": again, "stop": again})
    result = stage.play(agents)
    stops = [frame.body["now"] for frame in agents.sent if frame.kind == "stop"]
    assert stops == [False, True] and agents.asked == ["kill"] and result.interrupted == signal.SIGINT


def test_ctrl_c_ends_the_wait_for_the_rest_of_the_logs(stage: Stage) -> None:
    def start(agents: FakeAgents, host: int, body: Any) -> None:
        started(agents, host, body)
        agents.ends(host)
        if host:
            agents.coming.pop()  # no word that all is sent
            threading.Timer(0.1, os.kill, (os.getpid(), signal.SIGINT)).start()

    result = stage.play(FakeAgents(2, {"start": start}))
    assert result.interrupted == signal.SIGINT and "logs of node2 have not come whole" in stage.said()


def test_agents_that_do_not_end_are_ended_through_the_engine(
    stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(heads, "MARGIN", 0.1)

    def start(agents: FakeAgents, host: int, body: Any) -> None:
        started(agents, host, body)
        if host == 0:
            end = ended(0, 4, agents.now(0))
            agents.up(0, "failed", {"end": end.to_json(), "victim": False})

    agents = FakeAgents(2, {"start": start})
    result = stage.play(agents, grace=0.0)
    assert agents.asked == ["stop", "kill"]
    assert result.culprit is not None and result.culprit.rank == 0 and result.culprit.code == 4


def test_other_commands_ask_the_head_through_the_run_folder(stage: Stage) -> None:
    def start(agents: FakeAgents, host: int, body: Any) -> None:
        started(agents, host, body)
        if host == 1:
            (stage.run.path / remote.ASK).write_text("token1")

    def stacks(agents: FakeAgents, host: int, body: Any) -> None:
        agents.up(host, "stacks", {"texts": {str(ranks_of(host)[0]): "text"}})
        if host == 1:
            threading.Timer(0.5, remote.ask_to_stop, (stage.run, True)).start()

    agents = FakeAgents(2, {"start": start, "stacks": stacks, "stop": stopped})
    result = stage.play(agents)
    answer = json.loads(remote.answer_path(stage.run.path, "token1").read_text())
    assert answer == {"0": "text", "2": "text"} and result.interrupted == signal.SIGTERM
    assert not (stage.run.path / remote.ASK).exists() and not (stage.run.path / remote.ASK_STOP).exists()


@pytest.mark.parametrize(
    ("kind", "body"),
    [
        ("log", ([0, "x", 1, 0], b"data")),
        ("log", ([0], b"data")),
        ("log", ([3, "o", 1, 0], b"a rank of another host")),
        ("event", {}),
        ("beats", {"ranks": [[1, 2]]}),
        ("beats", {"ranks": [["x"] * 11]}),
        ("failed", {"end": {}}),
        ("end", {"ends": [5]}),
        ("stacks", {"texts": [1]}),
        ("nonsense", None),
    ],
)
def test_what_an_agent_garbles_costs_that_frame_alone(stage: Stage, kind: str, body: Any) -> None:
    def start(agents: FakeAgents, host: int, body_: Any) -> None:
        started(agents, host, body_)
        agents.up(0, kind, body) if host == 0 else None
        agents.ends(host)

    agents = FakeAgents(2, {"start": start})
    agents.up(99, "log", None)  # of no host
    result = stage.play(agents)
    assert result.culprit is None and not stage.run.log(3).exists()


def test_bytes_that_did_not_come_are_told_of(stage: Stage) -> None:
    def start(agents: FakeAgents, host: int, body: Any) -> None:
        started(agents, host, body)
        agents.up(host, "log", ([host * 2, "o", 1, 0], b"abc"))
        agents.up(host, "log", ([host * 2, "o", 1, 10], b"def"))
        agents.ends(host)

    stage.play(FakeAgents(1, {"start": start}))
    assert "rank 0: 7 bytes of its output have not come from its host" in stage.said()
