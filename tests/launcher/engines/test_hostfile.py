"""Files of hosts as Open MPI, DeepSpeed, PBS and MPICH write them, and what is wrong with them."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from launcher.engines import hostfile
from launcher.errors import UsageError


def read(folder: Path, text: str) -> list[tuple[str, int]]:
    path = folder / "hosts"
    path.write_bytes(text.encode())
    return [(item.host, item.slots) for item in hostfile.read_file(path)]


@pytest.mark.parametrize(
    "text, expected",
    [
        ("node1 slots=8\nnode2 slots=8\n", [("node1", 8), ("node2", 8)]),
        (
            "# all\r\n\r\nnode1 slots = 4 max_slots=8 # two\r\nnode2 max-slots=9 slots=4",
            [("node1", 4), ("node2", 4)],
        ),
        ("\ufeffworker-0 slots=2\n", [("worker-0", 2)]),
        ("node1\nnode2\n", [("node1", 0), ("node2", 0)]),
        ("node1\nnode1\nnode2\nnode2\n", [("node1", 2), ("node2", 2)]),
        ("10.0.0.1:8\n10.0.0.2:8\n", [("10.0.0.1", 8), ("10.0.0.2", 8)]),
        ("fe80::1%eth0 slots=8\n[fe80::2]:8", [("fe80::1%eth0", 8), ("[fe80::2]", 8)]),
        ("node1 count=3", [("node1", 3)]),
    ],
)
def test_hosts_and_slots(tmp_path: Path, text: str, expected: list[tuple[str, int]]) -> None:
    assert read(tmp_path, text) == expected


@pytest.mark.parametrize(
    "text, line, words",
    [
        ("node1 slots=8\nnode2 slots=eight\n", 2, "'slots=eight': no number of slots"),
        ("node1 slots=0\n", 1, "no number of slots"),
        ("node1\n\n-oProxyCommand=x\n", 3, "no name of a host"),
        ("root@node1 slots=8\n", 1, "~/.ssh/config"),
        ("node1 port=2222\n", 1, "'port=2222': not known"),
        ("node1 slots=8\nnode1 slots=8\n", 2, "node1 is already in"),
        ("node1\nno;de\n", 2, "no name of a host"),
        ("rank 0=node1 slot=0\n", 1, "not known"),
    ],
)
def test_a_wrong_line_is_named_by_file_and_number(tmp_path: Path, text: str, line: int, words: str) -> None:
    with pytest.raises(UsageError, match="expected") as error:
        read(tmp_path, text)
    assert str(error.value).startswith(f"{tmp_path}/hosts:{line}: ") and words in str(error.value)
    assert "\n" not in str(error.value)


def test_files_that_hold_no_hosts(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="no host in it"):
        read(tmp_path, "# nothing\n")
    with pytest.raises(UsageError, match=r"hostfile: .*absent"):
        hostfile.read_file(tmp_path / "absent")
    os.mkfifo(str(tmp_path / "fifo"))
    with pytest.raises(UsageError, match="a FIFO"):
        hostfile.read_file(tmp_path / "fifo")
    (tmp_path / "image").write_bytes(b"\xff\xd8\xff")
    with pytest.raises(UsageError, match="no text"):
        hostfile.read_file(tmp_path / "image")


def test_words() -> None:
    found = hostfile.read_words(["a:8,b:8", " c:8"])
    assert [(item.host, item.slots) for item in found] == [("a", 8), ("b", 8), ("c", 8)]
    assert hostfile.devices(found) == ("0-7", "0-7", "0-7")
    assert hostfile.devices(hostfile.read_words(["a:1", "b"])) == ()
    for words, problem in (
        (["a", "a"], "named twice"),
        ([","], "no host"),
        (["a:x"], "no number"),
        (["-x"], "no name"),
    ):
        with pytest.raises(UsageError, match=f"^hosts: .*{problem}"):
            hostfile.read_words(words)
