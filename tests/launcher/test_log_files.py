"""A rank's log on disk: every byte, or the first and the last of them."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from launcher.logs.writer import CappedLogWriter, LogWriter, open_log

CHUNKS = st.lists(st.tuples(st.sampled_from("oe"), st.binary(min_size=1, max_size=300)), max_size=30)


def write(folder: Path, chunks: list[tuple[str, bytes]], limit: int) -> Any:
    files = open_log(str(folder / "a.log"), str(folder / "a.index"), limit)
    for number, (stream, data) in enumerate(chunks):
        files.append(stream, memoryview(data), number)
    files.close()
    return files


def by_index(folder: Path) -> list[tuple[str, bytes]]:
    log = (folder / "a.log").read_bytes()
    parts = [line.split() for line in (folder / "a.index").read_text().splitlines()]
    return [(part[1], log[int(part[2]) : int(part[2]) + int(part[3])]) for part in parts]


@settings(deadline=None)
@given(CHUNKS)
def test_without_a_limit_log_and_index_hold_every_chunk(tmp_path_factory: Any, chunks: Any) -> None:
    folder = tmp_path_factory.mktemp("log")
    write(folder, chunks, 0)
    assert by_index(folder) == chunks


@settings(deadline=None)
@given(CHUNKS, st.integers(8, 3000))
def test_a_limit_keeps_the_first_half_and_the_last_quarter(
    tmp_path_factory: Any, chunks: Any, limit: int
) -> None:
    folder = tmp_path_factory.mktemp("log")
    files = write(folder, chunks, limit)
    whole = b"".join(data for _, data in chunks)
    kept = (folder / "a.log").read_bytes()
    assert b"".join(data for _, data in by_index(folder)) == kept
    assert not list(folder.glob("*.part*"))
    times = [int(line.split()[0]) for line in (folder / "a.index").read_text().splitlines()]
    assert times == sorted(times) and all(time < len(chunks) for time in times)
    if not files.left_out:
        assert kept == whole
        return
    head, _, tail = kept.partition(b"\n... %d bytes left out here (max_log_bytes)\n" % files.left_out)
    assert whole.startswith(head) and limit // 2 - 3 <= len(head) <= limit // 2 and whole.endswith(tail)
    assert len(tail) >= limit // 4 and len(head) + len(tail) + files.left_out == len(whole)
    assert len(head) + len(tail) <= limit + 6  # no character is cut in two


def test_a_second_attempt_appends(tmp_path: Path) -> None:
    write(tmp_path, [("o", b"first\n")], 0)
    write(tmp_path, [("e", b"second\n")], 0)
    assert by_index(tmp_path) == [("o", b"first\n"), ("e", b"second\n")]


def test_a_folder_that_is_gone_costs_bytes_and_says_so(tmp_path: Path) -> None:
    for files in (
        LogWriter(str(tmp_path / "no" / "a.log"), str(tmp_path / "no" / "a.index")),
        CappedLogWriter(str(tmp_path / "no" / "a.log"), str(tmp_path / "no" / "a.index"), 100),
    ):
        files.append("o", memoryview(b"12345"), 1)
        assert files.bytes_lost == 5 and "No such file" in files.last_error
        files.close()


@pytest.mark.parametrize("limit", [0, 100])
def test_a_log_that_was_taken_away_is_known(tmp_path: Path, limit: int) -> None:
    log = tmp_path / "a.log"
    files = open_log(str(log), str(tmp_path / "a.index"), limit)
    log.rename(tmp_path / "b.log")
    assert files.in_place()  # nothing is missing yet
    files.append("o", memoryview(b"text"), 1)
    assert not files.in_place()
    (tmp_path / "b.log").rename(log)
    assert files.in_place()
    files.close()


@pytest.mark.parametrize("limit", [0, 8])
def test_a_fifo_in_the_place_of_a_log_waits_for_nobody(tmp_path: Path, limit: int) -> None:
    for name in ("a.log", "a.log.part0", "a.log.part1"):
        os.mkfifo(str(tmp_path / name))
    files = write(tmp_path, [("o", b"0123456789" * 3)], limit)
    assert files.bytes_lost and files.last_error
