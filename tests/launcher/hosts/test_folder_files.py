"""Streams of lines over files that several hosts see: nothing is lost, doubled or torn."""

from __future__ import annotations

import errno
import os
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from launcher.hosts import folder_files
from launcher.hosts.folder_files import StreamReader, StreamWriter, read_word, write_word


def test_a_reader_gets_what_was_written_before_and_after_it_came(tmp_path: Path) -> None:
    reader = StreamReader(tmp_path, "up")
    assert reader.read() == b""
    writer = StreamWriter(tmp_path, "up")
    writer.put([b"one\n", b"two\n"])
    assert reader.read() == b""
    assert writer.flush()
    assert reader.read() == b"one\ntwo\n"
    writer.put([b"three\n"])
    writer.flush()
    assert (reader.read(), reader.read()) == (b"three\n", b"")


LINES = st.binary(max_size=40).map(lambda line: line.translate(None, b"\n\0\x1e") + b"\n")


@given(st.lists(st.lists(LINES)), st.data())
@settings(max_examples=60, deadline=None)
def test_lines_go_on_in_the_next_file(tmp_path_factory: Any, batches: list[list[bytes]], data: Any) -> None:
    folder = tmp_path_factory.mktemp("stream")
    writer, reader = StreamWriter(folder, "up", segment=64), StreamReader(folder, "up", alone=True)
    got = b""
    for batch in batches:
        writer.put(batch)
        assert writer.flush()
        if data.draw(st.booleans()):
            got += reader.read()
    for _ in range(len(batches) + 2):
        got += reader.read()
    assert got == b"".join(line for batch in batches for line in batch)
    assert len(os.listdir(str(folder))) <= 2  # what was read is removed


def test_a_line_that_is_half_written_or_not_there_yet_waits(tmp_path: Path) -> None:
    reader = StreamReader(tmp_path, "up")
    path = tmp_path / "up.0"
    path.write_bytes(b"whole\nhal")
    assert reader.read() == b"whole\n"
    path.write_bytes(b"whole\nhalf\n\0\0\0\0\0")  # NFS: the size is known, the bytes are not
    assert reader.read() == b"half\n"
    path.write_bytes(b"whole\nhalf\nlast\n")
    assert reader.read() == b"last\n"


def test_a_line_longer_than_one_read_comes_whole(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(folder_files, "CHUNK", 10)
    (tmp_path / "up.0").write_bytes(b"x" * 35 + b"\nrest\n")
    reader = StreamReader(tmp_path, "up")
    assert reader.read() == b"x" * 35 + b"\n"
    assert reader.read() == b"rest\n"


def test_what_a_full_disk_refuses_is_written_later_and_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    writer, reader = StreamWriter(tmp_path, "up"), StreamReader(tmp_path, "up")
    writer.put([b"one\n"])
    writer.flush()
    real, full = os.pwrite, [True]

    def half(descriptor: int, data: bytes, at: int) -> int:
        if not full[0]:
            return real(descriptor, data, at)
        real(descriptor, data[:2], at)
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "pwrite", half)
    writer.put([b"two\n", b"three\n"])
    assert not writer.flush()
    assert "No space left" in writer.last_error and "up.0" in writer.last_error
    assert reader.read() == b"one\n"
    full[0] = False
    assert writer.flush() and not writer.last_error
    assert reader.read() == b"two\nthree\n"


def test_a_folder_that_is_gone_is_an_error_not_an_exception(tmp_path: Path) -> None:
    reader = StreamReader(tmp_path / "none", "up")
    assert reader.read() == b"" and "up.0: No such file" in reader.last_error


def test_a_writer_keeps_as_many_full_files_as_readers_may_lag(tmp_path: Path) -> None:
    writer = StreamWriter(tmp_path, "down", segment=4, keep=2)
    for _ in range(6):
        writer.put([b"line\n"])
        writer.flush()
    assert sorted(os.listdir(str(tmp_path))) == ["down.4", "down.5", "down.6"]


def test_a_link_in_place_of_a_file_is_not_followed(tmp_path: Path) -> None:
    (tmp_path / "secret").write_text("line\n")
    (tmp_path / "up.0").symlink_to(tmp_path / "secret")
    reader, writer = StreamReader(tmp_path, "up"), StreamWriter(tmp_path, "up")
    writer.put([b"x\n"])
    assert reader.read() == b"" and not writer.flush()
    assert (tmp_path / "secret").read_text() == "line\n"


def test_a_word_is_read_once_it_is_whole(tmp_path: Path) -> None:
    path = tmp_path / "gone-1"
    assert read_word(path) == "" and read_word(tmp_path / "none" / "x") == ""
    path.write_text("13")
    assert read_word(path) == ""
    write_word(path, "137")
    assert read_word(path) == "137"
    write_word(path, "0")
    assert read_word(path) == "0"


def test_a_reader_that_skips_gets_what_comes_after_it(tmp_path: Path) -> None:
    writer = StreamWriter(tmp_path, "down", segment=8)
    for line in (b"earlier\n", b"life\n"):
        writer.put([line])
        writer.flush()
    reader = StreamReader(tmp_path, "down")
    reader.skip()
    writer.put([b"now\n"])
    writer.flush()
    assert reader.read() == b"now\n"
