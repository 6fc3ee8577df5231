"""The logs on their way to the head: in turns, within the window, whatever stands in the files."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Iterator

import pytest

from launcher.hosts.log_stream import BODY, TOGETHER, LogStream
from launcher.logs.writer import LogWriter
from launcher.run_dir import RunDir

SECOND = 10**9
NOW = 1_700_000_000 * SECOND


@pytest.fixture
def run(tmp_path: Path) -> RunDir:
    made = RunDir(tmp_path)
    made.logs.mkdir()
    return made


@pytest.fixture
def stream(run: RunDir) -> Iterator[LogStream]:
    made = LogStream(run, [0, 1], 1 << 20)
    yield made
    made.close()


def write(run: RunDir, rank: int, *chunks: bytes, stream: str = "o", apart: int = 0) -> None:
    writer = LogWriter(str(run.log(rank)), str(run.index(rank)))
    for place, chunk in enumerate(chunks):
        writer.append(stream, memoryview(chunk), NOW + place * apart)
    writer.close()


def taken(stream: LogStream, most: int = 1 << 20) -> list[tuple[list[object], bytes]]:
    return list(stream.bodies(most))


def test_small_chunks_of_about_one_time_go_together_and_others_do_not(run: RunDir, stream: LogStream) -> None:
    write(run, 0, b"a\n", b"b\n")
    write(run, 0, b"c\n", stream="e")
    write(run, 1, b"d\n", b"e\n", apart=TOGETHER + 1)
    assert sorted(taken(stream)) == [
        ([0, "e", NOW, 4], b"c\n"),
        ([0, "o", NOW, 0], b"a\nb\n"),
        ([1, "o", NOW, 0], b"d\n"),
        ([1, "o", NOW + TOGETHER + 1, 2], b"e\n"),
    ]
    assert stream.is_read


def test_a_large_chunk_goes_in_parts_in_turn_with_other_ranks(run: RunDir, stream: LogStream) -> None:
    write(run, 0, b"x" * (2 * BODY + 1))
    write(run, 1, b"y" * BODY * 2)
    assert [(head[0], len(data)) for head, data in taken(stream)] == [
        (0, BODY), (1, BODY), (0, BODY), (1, BODY), (0, 1)
    ]  # fmt: skip


def test_no_more_than_the_window_is_on_its_way(run: RunDir) -> None:
    stream = LogStream(run, [0], BODY)
    write(run, 0, b"x" * 3 * BODY)
    assert len(taken(stream)) == 1 and stream.blocked and not stream.is_read
    assert not taken(stream) and stream.behind == 3 * BODY
    stream.acked(BODY)
    assert stream.behind == 2 * BODY and len(taken(stream)) == 1
    stream.acked(3 * BODY)
    assert len(taken(stream)) == 1 and not taken(stream) and stream.is_read
    stream.close()


def test_an_earlier_attempt_is_not_sent_again(run: RunDir) -> None:
    write(run, 0, b"earlier\n")
    stream = LogStream(run, [0], 1 << 20)
    write(run, 0, b"now\n")
    assert taken(stream) == [([0, "o", NOW, 0], b"now\n")]
    stream.close()


def test_a_log_whose_index_is_made_a_moment_later_comes_whole(run: RunDir, stream: LogStream) -> None:
    run.log(0).write_bytes(b"hello\n")
    assert not taken(stream)
    run.index(0).write_bytes(b"%d o 0" % NOW)
    assert not taken(stream)
    with open(run.index(0), "ab") as index:
        index.write(b" 6\n")
    assert taken(stream) == [([0, "o", NOW, 0], b"hello\n")]


@pytest.mark.parametrize(
    "index",
    [
        b"\xff\x00 rubbish\n" * 9000,
        b"%d o 0 999999999999999999\n" % NOW,
        b"%d o 999999999999999999 1\n" % NOW,
        b"%d o 0 -5\n" % NOW,
        b"%d x 0 2\n" % NOW,
        b"9" * 300000,
    ],
    ids=["rubbish", "too long", "beyond the end", "negative", "no stream", "endless"],
)
def test_a_damaged_index_costs_its_lines_only(run: RunDir, stream: LogStream, index: bytes) -> None:
    run.log(0).write_bytes(b"hello\nagain\n")
    run.index(0).write_bytes(index + b"\n%d o 6 6\n" % NOW)
    write(run, 1, b"other\n")
    assert sorted(taken(stream)) == [([0, "o", NOW, 6], b"again\n"), ([1, "o", NOW, 0], b"other\n")]
    assert stream.is_read


def test_what_was_cut_off_or_is_a_link_is_left_out(run: RunDir, stream: LogStream, tmp_path: Path) -> None:
    write(run, 0, b"x" * 10, b"y" * 10)
    os.truncate(run.log(0), 10)
    (tmp_path / "elsewhere").write_bytes(b"secret\n")
    run.log(1).symlink_to(tmp_path / "elsewhere")
    run.index(1).write_bytes(b"%d o 0 7\n" % NOW)
    assert taken(stream) == [([0, "o", NOW, 0], b"x" * 10)]
    stream.acked(10)
    assert stream.is_read and stream.behind == 0
