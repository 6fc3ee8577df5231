"""The times in the lines of other programs' logs, their encodings, and what cannot be read of them."""

from __future__ import annotations

import errno
import gzip
import os
import time
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from launcher.errors import UsageError
from launcher.logs import open_files
from launcher.logs.encodings import Decoder, boundary
from launcher.logs.records import LONGEST_LINE, LineSplitter, last_lines, split_lines
from launcher.logs.timespec import parse_timespec
from launcher.logs.timestamps import TimestampReader
from launcher.logs.view import Follower, LogSource, Query, show

LATEST = 1772363000 * 10**9  # 2026-03-01 11:03:20 UTC


@pytest.fixture(autouse=True)
def utc(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TZ", "UTC")
    time.tzset()


def clock(when: int) -> str:
    second, below = divmod(when, 10**9)
    return time.strftime("%Y-%m-%d %H:%M:%S", time.gmtime(second)) + f".{below:09d}".rstrip("0").rstrip(".")


def write(path: Path, text: str | bytes, changed: str = "") -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    if changed:
        when = time.mktime(time.strptime(changed, "%Y-%m-%d %H:%M:%S"))
        os.utime(str(path), (when, when))
    return path


def shown(source: LogSource, query: Query | None = None) -> list[str]:
    """Return time, label and text of each line."""
    found = split_lines([record for batch in show([source], query or Query(), False) for record in batch])
    return [f"{clock(when)} {label.decode()}| {text.decode()}" for when, label, _, text in found]


@pytest.mark.parametrize(
    "line,expected",
    [
        ("E0000 00:00:1732773181.123456   12 x.cc:5] XLA", "2024-11-28 05:53:01.123456"),
        ("I0301 10:00:00.123456 12 x.py:5] absl", "2026-03-01 10:00:00.123456"),
        ("I20260301 10:00:00.5 12 x.cc:5] glog", "2026-03-01 10:00:00.5"),
        ("[E301 10:00:00.123456789 ProcessGroupNCCL.cpp:5] torch", "2026-03-01 10:00:00.123456789"),
        ("[rank3]:[W301 10:00:00.5 x.cpp:5] torch", "2026-03-01 10:00:00.5"),
        ("[1,3]<stdout>:W0301 10:00:00.5 x.py:5] mpirun", "2026-03-01 10:00:00.5"),
        ("03/01/2026 10:00:05 - INFO - main - Hugging Face", "2026-03-01 10:00:05"),
        ("31/03/2026 10:00:05 the day first", "2026-03-31 10:00:05"),
        ("2026-03-01T10:00:05+08:00 x", "2026-03-01 02:00:05"),
        ("2026-03-01T10:00:05.5-0500 x", "2026-03-01 15:00:05.5"),
        ("2026-03-01 10:00:05 UTC x", "2026-03-01 10:00:05"),
        ("2026-03-01-10:00:20.444.436 plog", "2026-03-01 10:00:20.444436"),
        ("[WARNING] ME(1:2,MainProcess):2026-03-01-10:00:00.123.456 [x.py:1]", "2026-03-01 10:00:00.123456"),
        ("[591] [2026-03-01 10:00:00:937] torch_npu", "2026-03-01 10:00:00.937"),
        ("2026-03-01 10:00:00.1234567891 x", "2026-03-01 10:00:00.123456789"),
        ('1.2.3.4 - - [01/Mar/2026:10:00:05 +0800] "GET /"', "2026-03-01 02:00:05"),
        ("2026/03/01 10:00:05 [error] 1#0: nginx", "2026-03-01 10:00:05"),
        ("[Sun Mar  1 10:00:05.5 2025] apache", "2025-03-01 10:00:05.5"),
        ("Mar 01, 2026 10:00:05 PM java", "2026-03-01 22:00:05"),
        ("26/03/01 10:00:05 INFO Spark", "2026-03-01 10:00:05"),
        ("(Worker pid=7) ERROR 03-01 10:00:50 [core.py:7] vLLM", "2026-03-01 10:00:50"),
        ("03/01 10:00:05 - mmengine - INFO", "2026-03-01 10:00:05"),
        ("[ERROR] [1772359205.5]: ROS", "2026-03-01 10:00:05.5"),
        ('{"level":"error","ts":1772359205.12}', "2026-03-01 10:00:05.12"),
        ('{"level":30,"time":1772359205123}', "2026-03-01 10:00:05.123"),
        ('{"@timestamp":"2026-03-01T10:00:05,5+0800"}', "2026-03-01 02:00:05.5"),
        ('{"log":"2025-01-01 1:00 x\\n","time":"2026-03-01T10:00:05.5Z"}', "2026-03-01 10:00:05.5"),
        ("ts=1772359205.5 level=error", "2026-03-01 10:00:05.5"),
        ("time=2026-03-01T10:00:05Z level=error", "2026-03-01 10:00:05"),
        ("2026-03-01T10:00:00.123456789Z stderr F CRI", "2026-03-01 10:00:00.123456789"),
        ("[pod/%s/main] 2026-03-01T10:00:05.5Z x" % ("n" * 90), "2026-03-01 10:00:05.5"),
        ("\x1b[32m2026-03-01 10:00:05\x1b[0m | INFO", "2026-03-01 10:00:05"),
        ("\x1b[32m10:00:05.5\x1b[0m INFO", "2026-03-01 10:00:05.5"),
        ("[10:00:05] INFO the time of day alone", "2026-03-01 10:00:05"),
        ("2026-03-01 24:00:00 x", "2026-03-02 00:00:00"),
        ("2026-02-28 23:59:60 a leap second", "2026-03-01 00:00:00"),
        ("2026-02-31T10:00:00Z x", ""),
        ("2026-03-01 25:00:00 x", ""),
        ("2026-03-01 24:00:01 x", ""),
        ("0931 10:00:00 x", ""),
        ("E0000 00:00:1.5 x", ""),
        ("step 00:12<00:30 3/60", ""),
        ("1:00:12<2:00:30, 1.2it/s", ""),
        ("Elapsed: 00:01:02", ""),
        ('{"loss": 0.5, "time": 12.5}', ""),
    ],
)
def test_times_of_many_programs(tmp_path: Path, line: str, expected: str) -> None:
    path = write(tmp_path / "a.log", line + "\n", "2026-03-01 11:03:20")
    source = LogSource(tmp_path)
    (found,) = shown(source)
    assert found.startswith(expected + " ") if expected else source.new_problems()[0].startswith(str(path))


@pytest.mark.parametrize("form", ["I%s.5 7 x.py:5] %s", "%s %s"])
def test_over_new_year_a_year_comes_from_the_file_and_the_lines_before(tmp_path: Path, form: str) -> None:
    days = ("1231 23:59:59", "0101 00:00:01") if form[0] == "I" else ("Dec 31 23:59:59", "Jan  1 00:00:01")
    write(tmp_path / "a.log", "".join(form % (day, "x") + "\n" for day in days), "2026-01-01 00:00:05")
    assert [line[:16] for line in shown(LogSource(tmp_path))] == ["2025-12-31 23:59", "2026-01-01 00:00"]


def test_a_copied_file_takes_its_year_and_day_from_those_beside_it(tmp_path: Path) -> None:
    write(tmp_path / "rank_0.log", "2024-03-01 10:00:02 b\n2024-03-01 10:00:05 e\n")
    write(tmp_path / "rank_1.log", "I0301 10:00:01.0 7 x.py:5] a\n")
    write(tmp_path / "rank_2.log", "10:00:03 c\n10:00:04 d\n")
    assert [line[-1] for line in shown(LogSource(tmp_path))] == list("abcde")


def test_times_of_day_go_on_over_midnight_and_end_on_the_day_of_the_last_change(tmp_path: Path) -> None:
    write(
        tmp_path / "a.log", "22:00:00,5 a\nb\n23:59:59,5 c\n00:00:01,5 d\n01:00:00 e\n", "2026-03-02 01:00:01"
    )
    assert [line[:10] + line[-1] for line in shown(LogSource(tmp_path))] == [
        "2026-03-01a",
        "2026-03-01b",
        "2026-03-01c",
        "2026-03-02d",
        "2026-03-02e",
    ]


def test_where_lines_have_dates_a_time_of_day_is_text(tmp_path: Path) -> None:
    write(tmp_path / "a.log", "00:00:05 elapsed\n2026-03-01 10:00:00 a\n00:00:07 elapsed\n")
    assert {line[:19] for line in shown(LogSource(tmp_path))} == {"2026-03-01 10:00:00"}


def test_a_file_without_times_is_named_once(tmp_path: Path) -> None:
    path = write(tmp_path / "rank_0.log", "a\nb\n", "2026-03-01 11:03:20")
    write(tmp_path / "rank_1.log", "")
    source = LogSource(tmp_path)
    assert [line[:19] for line in shown(source)] == ["2026-03-01 11:03:20"] * 2
    (problem,) = source.new_problems()
    assert problem.startswith(f"{path}: no line has a time") and "2026-03-01 11:03:20" in problem
    assert not source.new_problems()


def test_a_prefix_gives_its_line_to_the_rank(tmp_path: Path) -> None:
    write(tmp_path / "train.log", "2026-03-01 10:00:00 a\n[rank3]: b\n[rank0]: c\n[rank3]: d\n")
    labels = [line.split(" ", 2)[2] for line in shown(LogSource(tmp_path))]
    assert labels == ["train| 2026-03-01 10:00:00 a", "3| [rank3]: b", "0| [rank0]: c", "3| [rank3]: d"]
    assert len(shown(LogSource(tmp_path), Query(ranks=(3,)))) == 2


def test_what_cannot_be_read_is_named_and_the_others_are_shown(tmp_path: Path) -> None:
    write(tmp_path / "rank_0.log", "2026-03-01 10:00:00 here\n")
    os.mkfifo(str(tmp_path / "rank_1.log"))
    write(tmp_path / "rank_2.log.gz", gzip.compress(b"2026-03-01 10:00:01 packed\n"))
    write(tmp_path / "rank_3.log.gz", gzip.compress(b"2026-03-01 10:00:01 torn\n" * 9)[:30])
    write(tmp_path / "rank_4.log.zst", "x")
    (tmp_path / "rank_5.log").symlink_to("/dev/zero")
    write(tmp_path / "rank_6.log.xz", "not packed by xz")
    source = LogSource(tmp_path)
    assert [line[-6:] for line in shown(source)] == ["0 here", "packed"]
    problems = sorted(problem[len(str(tmp_path)) + 1 :] for problem in source.new_problems())
    assert [problem[:11] for problem in problems] == [
        "rank_1.log:",
        "rank_3.log.",
        "rank_4.log.",
        "rank_5.log:",
        "rank_6.log.",
    ]
    assert "a FIFO" in problems[0] and "a device" in problems[3]


def test_more_files_than_descriptors(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(open_files.FILES, "_most", 4)
    for rank in range(12):
        text = "".join(f"2026-03-01 10:00:{second:02d}.{rank:03d} {'x' * 200}\n" for second in range(60)) * 12
        write(tmp_path / f"rank_{rank}.log", text)
    found = shown(LogSource(tmp_path))
    assert len(found) == 12 * 720 and len(open_files.FILES._open) <= 4


@pytest.mark.parametrize("number", [errno.EMFILE, errno.ENFILE])
def test_a_file_is_closed_where_the_system_opens_no_more(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    files, refusals = open_files.OpenFiles(), [OSError(number, os.strerror(number))]
    for name in "ab":
        write(tmp_path / name, name)
    files.get("first", tmp_path / "a")
    really = os.open

    def refuse_once(*args: Any) -> int:
        if refusals:
            raise refusals.pop()
        return really(*args)

    monkeypatch.setattr(os, "open", refuse_once)
    assert files.get("second", tmp_path / "b").read() == b"b" and list(files._open) == ["second"]
    files.close("second")


@pytest.mark.parametrize("encoding", ["gbk", "gb18030", "utf-16", "utf-8-sig", "utf-8"])
def test_chinese_logs_are_read_in_their_encoding(tmp_path: Path, encoding: str) -> None:
    text = "2026-03-01 10:00:00 训练开始\r\n2026-03-01 10:00:01 错误:显存不足\r\n"
    write(tmp_path / "rank_0.log", text.encode(encoding))
    found = [line.split("| ")[1].rstrip("\r") for line in shown(LogSource(tmp_path))]
    assert found == text.split("\r\n")[:2]


def test_other_bytes_are_left_as_they_are() -> None:
    latin = "été à la page, café".encode("latin-1")
    assert Decoder().feed(latin) == latin


@given(st.text(max_size=30), st.integers(0, 90))
def test_no_character_is_cut(text: str, at: int) -> None:
    data = text.encode()
    cut = boundary(data, at)
    assert min(at, len(data)) - 3 <= cut <= len(data) and data[:cut].decode() + data[cut:].decode() == text


def test_a_line_that_is_too_long_is_cut_between_characters() -> None:
    lines = LineSplitter()
    text = b"x" + "中".encode() * 50000
    parts = (lines.feed(text[:70001]) + lines.feed(text[70001:]) + lines.finish()).decode().split("\n")
    assert max(map(len, parts)) < LONGEST_LINE and "".join(parts).count("中") == 50000
    assert last_lines("中".encode()[1:] + "文\n".encode(), 5) == ["文"]


def followed(follower: Follower) -> list[str]:
    return [
        line[3].decode()[-3:] for line in split_lines([r for batch in follower.existing() for r in batch])
    ]


@pytest.mark.parametrize("how", ["renamed", "renamed oddly", "packed", "cut", "cut and longer"])
def test_a_log_that_is_rotated_goes_on_and_nothing_comes_twice(tmp_path: Path, how: str) -> None:
    path = write(tmp_path / "rank_0.log", "2026-03-01 10:00:00 old\n")
    follower = Follower([LogSource(tmp_path)], Query())
    assert followed(follower) == ["old"]
    with path.open("a") as stream:
        stream.write("2026-03-01 10:00:01 las\n")
    if how.startswith("renamed"):
        path.rename(tmp_path / ("rank_0.log.1" if how == "renamed" else "rank_0-before.log"))
    elif how == "packed":
        assert followed(follower) == ["las"]
        write(tmp_path / "rank_0.log.1.gz", gzip.compress(path.read_bytes()))
        path.unlink()
    else:
        assert followed(follower) == ["las"]
    write(path, "2026-03-01 10:00:02 new\n" * (1 if how != "cut and longer" else 4))
    found = []
    for _ in range(2):
        follower._open()
        found += followed(follower)
    before = [] if how in ("packed", "cut", "cut and longer") else ["las"]
    assert found == before + ["new"] * (1 if how != "cut and longer" else 4)


@pytest.mark.parametrize(
    "text", ["2026-02-31", "24:00:01", "2026-03-01T10:00:00+99:00", "9" * 400 + "d", "0001-01-01", "x", ""]
)
def test_a_time_on_the_command_line_that_is_none_is_refused(text: str) -> None:
    with pytest.raises(UsageError, match=r"--since: .*invalid time"):
        parse_timespec(text, "--since", lambda: (LATEST, LATEST))


PARTS = (
    "2026-03-01|10:00:05| |T|Z|+08:00|.123|,5|E0301 |0000 00:00:|1772359205|99|Feb 30 |31/12/2026|[|]|}"
    '|(pid=1) |{"time":"|"ts":|\x1b[31m|24:00:00|PM|9999999999|0000-00-00'
).split("|")


@settings(deadline=None, max_examples=200)
@given(
    st.lists(st.one_of(st.sampled_from(PARTS).map(str.encode), st.binary(max_size=6)), max_size=12).map(
        b"".join
    )
)
def test_no_line_breaks_the_reading_of_times(line: bytes) -> None:
    reader = TimestampReader(LATEST)
    first = reader.read(line)
    assert 0 <= first < 1 << 63
    assert reader.read(line) >= 0 and TimestampReader(0).whole(line) >= 0
    reader.read_all([line, line[::-1]])
