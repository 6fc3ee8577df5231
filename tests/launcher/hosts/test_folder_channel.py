"""A head and its agents over files: frames both ways, ends, and how often files are looked at."""

from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path
from typing import Any, Callable, Iterator

import pytest

from launcher.hosts import folder_channel
from launcher.hosts.folder_channel import FolderAgentChannel, FolderTransport, Pace
from launcher.hosts.folder_files import write_word
from launcher.hosts.frames import ALL, Frame


@pytest.fixture
def own() -> Iterator[Any]:
    """Give a process that plays the head's own agent."""
    child = subprocess.Popen([sys.executable, "-c", "import sys; sys.stdin.read()"], stdin=subprocess.PIPE)
    yield child
    child.kill()
    child.communicate()


def until(receive: Callable[[], list[Frame]], turn: Callable[[], float]) -> list[Frame]:
    """Receive until something comes."""
    end = time.monotonic() + 10
    while time.monotonic() < end:
        found = receive()
        if found:
            return found
        time.sleep(turn())
    raise AssertionError("nothing came")


def test_frames_go_up_and_those_for_a_host_or_all_go_down(tmp_path: Path, own: Any) -> None:
    transport = FolderTransport(tmp_path, 2, own)
    agents = [FolderAgentChannel(tmp_path, index) for index in (0, 1)]
    agents[1].send("hello", {"name": "b"})
    agents[1].turn()
    assert until(transport.receive, transport.turn) == [Frame(1, "hello", {"name": "b"})]
    transport.send(Frame(0, "ping", {"n": 1}))
    transport.send(Frame(ALL, "beat", {}))
    transport.turn()
    assert until(agents[1].receive, agents[1].turn) == [Frame(ALL, "beat", {})]
    assert until(agents[0].receive, agents[0].turn) == [Frame(0, "ping", {"n": 1}), Frame(ALL, "beat", {})]


def test_bytes_of_logs_come_as_they_were(tmp_path: Path, own: Any) -> None:
    data = bytes(range(256)) * 700
    agent, transport = FolderAgentChannel(tmp_path, 0), FolderTransport(tmp_path, 1, own)
    agent.send("log", ([0, "o", 1, 0], data))
    agent.turn()
    assert until(transport.receive, transport.turn) == [Frame(0, "log", ([0, "o", 1, 0], data))]


def test_a_host_cannot_speak_for_another(tmp_path: Path, own: Any) -> None:
    transport = FolderTransport(tmp_path, 2, own)
    agent = FolderAgentChannel(tmp_path, 1)
    agent.index = 0  # what it says, in the file of host 1
    agent.send("bye", {"code": 0})
    agent.index = 1
    agent.send("hello", {})
    agent.turn()
    assert until(transport.receive, transport.turn) == [Frame(1, "hello", {})]


def test_an_agent_that_ended_without_a_word_is_told_of(
    tmp_path: Path, own: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(folder_channel, "GONE", 0.0)
    transport = FolderTransport(tmp_path, 2, own)
    assert not transport.ended()
    write_word(tmp_path / "gone-1", "137")
    assert until(transport.receive, transport.turn) == [Frame(1, "bye", {"code": 137})]
    own.kill()
    own.wait()
    assert until(transport.receive, transport.turn) == [Frame(0, "bye", {"code": -9})]
    agent = FolderAgentChannel(tmp_path, 1)
    assert transport.ended() and transport.end().code == -9
    assert agent.receive() == [] and agent.closed


def test_what_an_earlier_life_left_is_not_heard(tmp_path: Path, own: Any) -> None:
    earlier = FolderTransport(tmp_path, 1, own)
    earlier.send(Frame(ALL, "start", {"attempt": 0}))
    earlier.turn()
    agent = FolderAgentChannel(tmp_path, 0)
    earlier.send(Frame(ALL, "beat", {}))
    earlier.turn()
    assert until(agent.receive, agent.turn) == [Frame(ALL, "beat", {})]


def test_files_are_looked_at_often_after_traffic_and_seldom_on_a_slow_disk() -> None:
    pace = Pace()
    assert pace.due()
    pace.looked(0.0, True)
    busy = pace.left()
    for _ in range(30):
        pace.looked(0.0, False)
    idle = pace.left()
    pace.looked(1.0, True)
    assert busy < idle < pace.left()
