"""What reaches a person: whole lines, equal ones once, nothing that steers the terminal."""

from __future__ import annotations

import io
import os
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from launcher.logs.records import LONGEST_LINE
from launcher.text import label, printable
from launcher.ui import console as consoles
from launcher.ui.console import Console, StreamLines
from rank_table.ranges import spell


def shown(console: Console, out: io.StringIO) -> list[str]:
    """Give the lines without their times."""
    console.finish()
    return [line.split(" ", 1)[1] for line in out.getvalue().splitlines()]


def make(ranks: int, **options: Any) -> Any:
    out = io.StringIO()
    console = Console(out, **options)
    console.expect(range(ranks))
    return console, out


def test_equal_lines_of_several_ranks_become_one() -> None:
    console, out = make(4)
    for rank in (0, 1, 3):
        console.line(rank, 0.0, b"loss 1.0")
    console.line(2, 0.0, b"loss 2.0")
    assert shown(console, out) == ["[0-1,3]| loss 1.0", "2| loss 2.0"]


def test_a_line_that_all_living_ranks_wrote_waits_for_nobody() -> None:
    console, out = make(2)
    console.line(0, 0.0, b"same")
    console.turn()
    assert out.getvalue() == ""
    console.line(1, 0.0, b"same")
    console.turn()
    assert "[0-1]| same" in out.getvalue()


def test_the_lines_of_each_rank_keep_their_order() -> None:
    console, out = make(2)
    for rank, text in ((0, b"a"), (0, b"b"), (1, b"b"), (1, b"a")):
        console.line(rank, 0.0, text)
    assert shown(console, out) == ["0| a", "[0-1]| b", "1| a"]


@given(st.lists(st.tuples(st.integers(0, 3), st.sampled_from([b"a", b"b", b"c"])), max_size=60))
def test_whatever_is_collapsed_every_rank_has_all_its_lines_in_order(lines: Any) -> None:
    console, out = make(4)
    for rank, text in lines:
        console.line(rank, 0.0, text)
    found: Any = {rank: [] for rank in range(4)}
    for line in shown(console, out):
        who, _, text = line.partition("| ")
        members = [int(part) for part in who.strip("[]").replace("0-3", "0,1,2,3").replace("0-2", "0,1,2")
                   .replace("1-3", "1,2,3").replace("0-1", "0,1").replace("1-2", "1,2").replace("2-3", "2,3")
                   .split(",")]  # fmt: skip
        for rank in members:
            found[rank].append(text.encode())
    assert found == {rank: [text for who, text in lines if who == rank] for rank in range(4)}


def test_show_and_quiet_choose() -> None:
    console, out = make(3, show=(1,))
    for rank in range(3):
        console.line(rank, 0.0, b"x")
    assert shown(console, out) == ["1| x"]
    console, out = make(1, quiet=True)
    console.line(0, 0.0, b"x")
    console.say("npu-launch: still said")
    assert out.getvalue() == "npu-launch: still said\n"


def test_a_flood_is_cut_and_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(consoles, "BURST", 10)
    console, out = make(1)
    for _ in range(10):
        assert not console.flooded
        console.line(0, 0.0, b"x")
    assert console.flooded
    console.drop(1000)
    console.finish()
    assert "1000 lines left out" in out.getvalue()


def test_a_pipe_that_nobody_reads_takes_no_time_and_bounded_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(consoles, "BACKLOG", 1 << 16)
    reading, writing = os.pipe()
    console = Console(os.fdopen(writing, "w"))
    console.expect([0, 1])
    for number in range(10000):
        console.line(0, 0.0, b"%05d " % number + b"x" * 50)
    console.finish(patience=0.0)
    assert console.descriptor is not None and os.get_blocking(writing)
    text = b""
    while b"left out" not in text:
        text += os.read(reading, 1 << 16)
        console.finish(patience=0.0)
    os.close(reading)


def test_a_closed_console_is_no_error() -> None:
    reading, writing = os.pipe()
    os.close(reading)
    console = Console(os.fdopen(writing, "w"))
    console.say("to nobody")
    console.line(0, 0.0, b"x")
    console.finish()
    assert not console.shows(0)
    Console(None).say("no stream at all")


@given(st.text())
def test_nothing_printable_steers_a_terminal(text: str) -> None:
    for letter in printable(text):
        assert letter == "\t" or ord(letter) >= 0x20
        assert not 0x7F <= ord(letter) < 0xA0


def test_ranks_are_written_short() -> None:
    assert spell([0, 1, 2, 5, 7, 8]) == "0-2,5,7-8"
    assert (label({3}), label({0, 1})) == ("3", "[0-1]")


@given(st.lists(st.binary(max_size=200), max_size=20))
def test_chunks_give_the_same_lines_however_they_are_cut(chunks: list[bytes]) -> None:
    lines, whole = StreamLines(), StreamLines()
    found = [line for chunk in chunks for line in lines.feed(chunk)]
    wanted = whole.feed(b"".join(chunks))
    assert [*found, *lines.finish()] == [*wanted, *whole.finish()]


def test_a_line_without_end_is_shown_in_parts() -> None:
    lines = StreamLines()
    found = [line for _ in range(10) for line in lines.feed(b"x" * LONGEST_LINE)]
    assert all(line.endswith(b"...(split)") for line in found) and len(found) >= 9


def test_of_a_progress_bar_the_last_state_is_shown() -> None:
    assert StreamLines().feed(b"10%\r20%\r30%\r\nnext\r\n") == [b"30%", b"next"]
