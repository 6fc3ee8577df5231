"""The one reader of files that others may have written: nothing in them hangs or ends the launcher."""

from __future__ import annotations

import json
import os
import re
import socket
import tempfile
from pathlib import Path
from typing import Callable

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from launcher import foreign
from launcher.errors import MissingFileError, ReadError


def a_socket(path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(str(path))


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda path: os.mkfifo(str(path)), "a FIFO"),
        (lambda path: path.mkdir(), "a folder"),
        (lambda path: path.symlink_to("/etc/passwd"), "a link"),
        (lambda path: path.symlink_to(path), "a link"),
        (a_socket, "a socket"),
    ],
)
def test_only_regular_files_are_opened(tmp_path: Path, make: Callable[[Path], None], words: str) -> None:
    path = tmp_path / "error.json"
    make(path)
    with pytest.raises(ReadError, match=re.escape(f"{path}: {words} (expected a regular file)")):
        foreign.read_bytes(path)


def test_a_link_is_followed_to_a_regular_file_only_where_it_is_meant(tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to(tmp_path / "file")
    with pytest.raises(MissingFileError):
        foreign.read_bytes(tmp_path / "link", follow=True)
    (tmp_path / "file").write_text("text")
    assert foreign.read_bytes(tmp_path / "link", follow=True) == b"text"
    (tmp_path / "device").symlink_to("/dev/zero")
    with pytest.raises(ReadError, match="a device"):
        foreign.read_bytes(tmp_path / "device", follow=True)
    with pytest.raises(ReadError, match=r"a link"):
        (tmp_path / "loop").symlink_to(tmp_path / "loop")
        foreign.read_bytes(tmp_path / "loop", follow=True)


def test_a_missing_file_is_told_from_an_unreadable_one(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    for path in (tmp_path / "none", tmp_path / "file" / "below"):
        with pytest.raises(MissingFileError, match="no such file"):
            foreign.read_bytes(path)
    with pytest.raises(ReadError, match="null byte"):
        foreign.read_bytes(Path("a\0b"))


def test_a_file_is_read_up_to_its_bound(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"x" * 2048)
    assert len(foreign.read_bytes(path, 2048)) == 2048
    path.write_bytes(b"x" * 2049)
    with pytest.raises(ReadError, match="more than 2 KiB"):
        foreign.read_bytes(path, 2048)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (b"[" * 100000, "nested too deeply"),
        (b'{"step": Infinity}', "a number out of range"),
        (b"9" * 100000, "a number out of range"),
        (b'{"step": 1', "line 1"),
        (b"\xff", "not UTF-8"),
        (b"", "empty"),
    ],
)
def test_what_is_no_document_is_one_error(text: bytes, words: str) -> None:
    with pytest.raises(ReadError, match=f"heartbeat.json: .*{words}"):
        foreign.parse_json(text, "heartbeat.json")


documents = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.sampled_from(["step", "phase"]) | st.text(), inner),
)


@settings(deadline=None)
@given(st.binary() | documents.map(lambda value: json.dumps(value).encode()), st.integers(0, 60))
def test_whatever_a_file_holds_is_read_or_one_line(data: bytes, cut: int) -> None:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "heartbeat.json")
        path.write_bytes(data[cut:] if cut % 2 else data)
        try:
            beat = foreign.read_json(path)
            assert isinstance(beat.get("step", 0).whole(), int)
            assert isinstance(beat.get("phase", "").text(), str)
        except ReadError as error:
            assert "\n" not in str(error) and str(error).startswith(str(path))
