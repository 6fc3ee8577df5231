"""From the start of the agents until all hosts are ready."""

from __future__ import annotations

import os
import signal
import sys
import time
from pathlib import Path
from typing import Any, Iterator

import pytest

from launcher import __version__
from launcher.errors import LauncherError, NotFoundError, PreflightError
from launcher.hosts import clocks, handshake
from launcher.hosts.clocks import Offset
from launcher.hosts.frames import Frame, encode
from launcher.hosts.probe import Probe
from launcher.hosts.session import Interrupted, Session
from launcher.hosts.transport import EngineEnd, EngineTransport
from launcher.plan.host_facts import HostFacts
from launcher.process.signals import Signals
from launcher.ui.console import Console
from tests.launcher.hosts.fake_agents import FakeAgents, plan_of

NAMES = ("node1", "node2", "node3")
READY = plan_of(Path("/nowhere"), 3).to_json()


@pytest.fixture
def signals() -> Iterator[Signals]:
    with Signals() as found:
        yield found


def hello(agents: FakeAgents, host: int, release: str = __version__) -> None:
    facts = HostFacts(host, f"the-kernel's-{host}", "here").to_json()
    agents.up(
        host, "hello", {"version": release, "python": "3.11", "index": host, "name": "", "facts": facts}
    )


def session_of(agents: Any, signals: Signals, names: Any = NAMES) -> Session:
    return Session(agents, names, signals, Console(None), 10.0)


def met(signals: Signals, *releases: str) -> Session:
    agents = FakeAgents(3, {})
    for host, release in enumerate(releases):
        if release:
            hello(agents, host, release)
    session = session_of(agents, signals)
    handshake.meet(session, 0.1)
    return session


def test_hosts_are_known_by_the_engine_s_names(signals: Signals) -> None:
    session = met(signals, __version__, __version__, __version__)
    assert [host.facts.name for host in session.fleet if host.facts] == list(NAMES)


@pytest.mark.parametrize(
    ("releases", "text"),
    [
        ((__version__, "", ""), "hosts node2, node3: no agent has come within 0.1 s (host_timeout)"),
        (
            (__version__, __version__, "0.0.9"),
            f"host node3: npu-launch 0.0.9 (expected {__version__}, as here)",
        ),
    ],
)
def test_hosts_that_are_missing_or_of_another_release_are_named(
    signals: Signals, releases: tuple[str, ...], text: str
) -> None:
    with pytest.raises(PreflightError) as error:
        met(signals, *releases)
    assert str(error.value).startswith(text)


def test_an_agent_that_could_not_begin_is_not_waited_for(signals: Signals) -> None:
    agents = FakeAgents(3, {})
    hello(agents, 0)
    hello(agents, 1)
    agents.left = ["node3"]
    agents.said = "No module named launcher\nsrun: error: node3: task 2: Exited with exit code 1\n"
    with pytest.raises(PreflightError) as error:
        handshake.meet(session_of(agents, signals), 60.0)
    assert error.value.lines == (
        "host node3: the agent has ended",
        "the engine says: No module named launcher",
        "the engine says: srun: error: node3: task 2: Exited with exit code 1",
    )


def test_an_engine_that_ends_says_why(signals: Signals) -> None:
    agents = FakeAgents(3, {})
    agents.code = 1
    with pytest.raises(
        PreflightError, match="hosts node1, node2, node3: no agent has come: the engine has cr"
    ):
        handshake.meet(session_of(agents, signals), 5.0)


def test_words_of_an_engine_that_nobody_explains_are_shown(signals: Signals) -> None:
    program = ["sh", "-c", "echo \"can't open file '/opt/launcher/__main__.py'\" >&2; exit 2"]
    transport = EngineTransport(program, os.environ, lambda pid: None, lambda code, words: EngineEnd(code))
    session = session_of(transport, signals, ["node1", "node2"])
    with pytest.raises(PreflightError) as error:
        handshake.meet(session, 20.0)
    assert error.value.lines == (
        "hosts node1, node2: no agent has come: the engine ended with exit code 2",
        "the engine says: can't open file '/opt/launcher/__main__.py'",
    )


def test_refusals_of_all_hosts_are_one_report_with_the_highest_code(signals: Signals) -> None:
    def order(agents: FakeAgents, host: int, body: Any) -> None:
        line = ["no such program"] if host else ["no such folder"]
        agents.up(host, "refused", {"code": 127 if host else 78, "lines": line})

    session = session_of(FakeAgents(3, {"order": order}), signals)
    with pytest.raises(LauncherError) as error:
        handshake.get_ready(session, {}, 5.0)
    assert error.value.exit_code == 127
    assert error.value.lines == ("node1: no such folder", "node2, node3: no such program")


@pytest.mark.parametrize("ready,who", [((1,), "node1, node3"), ((), "every host")])
def test_hosts_that_refuse_are_not_called_every_host_where_another_is_ready(
    signals: Signals, ready: tuple[int, ...], who: str
) -> None:
    def order(agents: FakeAgents, host: int, body: Any) -> None:
        if host in ready:
            agents.up(host, "ready", {"plan": READY, "findings": [], "notes": []})
        else:
            agents.up(host, "refused", {"code": 127, "lines": ["no such program"]})

    session = session_of(FakeAgents(3, {"order": order}), signals)
    with pytest.raises(LauncherError) as error:
        handshake.get_ready(session, {}, 5.0)
    assert error.value.lines == (f"{who}: no such program",)


def test_hosts_that_do_not_get_ready_are_named(signals: Signals) -> None:
    def order(agents: FakeAgents, host: int, body: Any) -> None:
        if host != 1:
            agents.up(
                host, "ready", {"plan": READY, "findings": [["warning", "disk", "full"]], "notes": ["n"]}
            )

    session = session_of(FakeAgents(3, {"order": order}), signals)
    with pytest.raises(PreflightError, match=r"host node2: not ready within 0\.1 s"):
        handshake.get_ready(session, {}, 0.1)
    assert session.fleet.hosts[2].findings == [("warning", "disk", "full")]


@pytest.mark.parametrize("body", [None, {}, {"version": 1}, {"version": "1", "facts": {"index": 0}}])
def test_a_hello_that_cannot_be_read_is_a_refusal(signals: Signals, body: Any) -> None:
    agents = FakeAgents(1, {})
    agents.up(0, "hello", body)
    with pytest.raises(LauncherError, match="node1: its agent's hello cannot be read"):
        handshake.meet(session_of(agents, signals, ["node1"]), 1.0)


def test_a_signal_before_the_start_ends_it(signals: Signals) -> None:
    os.kill(os.getpid(), signal.SIGTERM)
    with pytest.raises(Interrupted) as caught:
        handshake.meet(session_of(FakeAgents(3, {}), signals), 5.0)
    assert caught.value.number == signal.SIGTERM


def test_clocks_and_disks_of_hosts(signals: Signals, tmp_path: Path) -> None:
    def ping(agents: FakeAgents, host: int, body: Any) -> None:
        wall = time.time_ns() - host * 5 * 10**9
        agents.up(host, "pong", {"n": body["n"], "mono": agents.now(host), "wall": wall})

    def probe(agents: FakeAgents, host: int, body: Any) -> None:
        agents.up(host, "probed", {"seen": host < 2 and Path(body["path"]).read_text() == body["token"]})

    agents = FakeAgents(3, {"ping": ping, "probe": probe}, ahead=[0, 10**12, -(10**12)])
    session = session_of(agents, signals)
    handshake.measure_clocks(session)
    for host, ahead in zip(session.fleet, agents.ahead):
        assert abs(host.offset.monotonic - ahead) <= host.offset.error < 10**9
        assert abs(host.offset.wall + host.index * 5 * 10**9) < 10**9
    with Probe(tmp_path) as token:
        assert handshake.ask_for_disk(session, token) == {"node1": True, "node2": True, "node3": False}


def test_an_agent_that_is_slow_to_answer_first_is_asked_on(signals: Signals) -> None:
    rounds: list[int] = []

    def ping(agents: FakeAgents, host: int, body: Any) -> None:
        rounds.append(body["n"])
        time.sleep(0.0 if body["n"] else handshake.PINGING * 1.5)
        agents.up(host, "pong", {"n": body["n"], "mono": agents.now(host), "wall": time.time_ns()})

    session = session_of(FakeAgents(1, {"ping": ping}, ahead=[10**12]), signals, ["node1"])
    handshake.measure_clocks(session)
    [host] = session.fleet
    assert len(rounds) > 1 and host.offset.error < handshake.PINGING * 0.75e9


def test_a_host_that_leaves_while_clocks_are_measured_is_not_waited_for(signals: Signals) -> None:
    def ping(agents: FakeAgents, host: int, body: Any) -> None:
        agents.up(host, "refused", {"code": 78, "lines": ["the disk is full"]})

    with pytest.raises(handshake.RefusedError, match="node1: the disk is full"):
        handshake.measure_clocks(session_of(FakeAgents(1, {"ping": ping}), signals, ["node1"]))


def test_the_shortest_round_trip_counts() -> None:
    slow = clocks.measured((1000, 5000), (1800, 5800), (9000, 70))
    quick = clocks.measured((2000, 6000), (2020, 6020), (9010, 75))
    assert quick == Offset(9010 - 2010, 75 - 6010, 10)
    assert clocks.better(clocks.better(Offset(), slow), quick) == quick == clocks.better(quick, slow)


ENGINE = """
import os, sys
sys.stderr.write("engine: hello\\n"); sys.stderr.flush()
os.write(1, b"a profile's words\\n")
data = sys.stdin.buffer.read()
os.write(1, data)
sys.exit(3)
"""


def test_an_engine_s_program_carries_frames_and_its_words_are_kept() -> None:
    def explain(code: int, words: str) -> EngineEnd:
        return EngineEnd(code, words)

    transport = EngineTransport([sys.executable, "-c", ENGINE], os.environ, lambda pid: None, explain)
    frames = [Frame(-1, "order", {"text": "x" * 3000, "n": n}) for n in range(400)]
    for frame in frames:
        transport.send(frame)
    end = time.monotonic() + 20
    while transport.turn() < 1 and time.monotonic() < end:
        time.sleep(0.005)
    transport._close_input()
    came: list[Frame] = []
    while not transport.ended() and time.monotonic() < end:
        came += transport.receive()
    assert came == frames and transport.descriptors is not None
    found = transport.end()
    assert found.code == 3 and set(found.text.split("\n")) == {"engine: hello", "a profile's words", ""}
    assert transport.end() is found


def test_a_program_of_an_engine_that_is_not_there() -> None:
    with pytest.raises(NotFoundError, match="/nonexistent: not found"):
        EngineTransport(["/nonexistent"], {}, lambda pid: None, lambda code, words: EngineEnd(code))


def test_killed_engines_leave_no_process(signals: Signals) -> None:
    explain = lambda code, words: EngineEnd(code)  # noqa: E731
    transport = EngineTransport(["sleep", "600"], os.environ, lambda pid: None, explain)
    transport.kill()
    assert transport.end().code == -signal.SIGKILL and transport.ended() and encode(Frame(-1, "beat")) != []
