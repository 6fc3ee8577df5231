"""npu-launch logs on log files of other programs: train_*.log, plog trees, several nodes."""

from __future__ import annotations

import os
import time
from pathlib import Path

import pytest

from launcher.logs.discovery import discover
from launcher.logs.file_reader import FileReader
from launcher.logs.records import split_lines
from launcher.logs.timestamps import TimestampReader
from launcher.logs.view import LogSource, Query, find_sources, show
from tests.launching import launch

LATEST = 1772363000 * 10**9  # 2026-03-01 11:03:20 UTC
PLOG = "[%s] HCCL(%d,python3.7):2026-03-01-10:21:%s [comm.cc:77] [88]%s\n"


@pytest.fixture(autouse=True)
def utc(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TZ", "UTC")
    time.tzset()


def write(path: Path, text: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    return path


def lines(sources: list[LogSource], query: Query | None = None) -> list[str]:
    records = split_lines([record for batch in show(sources, query or Query(), False) for record in batch])
    return [f"{label.decode()} {text.decode()}" for _, label, _, text in records]


@pytest.mark.parametrize(
    "line,seconds",
    [
        (b"[ERROR] HCCL(77,python):2026-03-01-10:21:35.118.204 [x.cc:1] [88]text", 35.118204),
        (b"2026-03-01 10:21:35,118 INFO root: text", 35.118),
        (b"INFO:root:2026-03-01 10:21:35 text", 35.0),
        (b"2026-03-01T10:21:35.118204Z text", 35.118204),
        (b"2026-03-01T12:21:35.5+02:00 text", 35.5),
        (b"[2026/03/01 10:21:35] text", 35.0),
        (b"2026-03-01 10:21:35.118204: I tensorflow/core/x.cc:1] text", 35.118204),
        (b"I0301 10:21:35.118204 140 x.py:7] text", 35.118204),
        (b"Mar  1 10:21:35 node7 kernel: text", 35.0),
    ],
)
def test_the_times_of_common_layouts_are_read(line: bytes, seconds: float) -> None:
    base = 1772360460  # 2026-03-01 10:21:00 UTC
    assert TimestampReader(LATEST).read(line) == base * 10**9 + round(seconds * 10**6) * 1000


@pytest.mark.parametrize(
    "line", [b"", b"loss 2.5", b"x" * 90 + b" 2026-03-01 10:21:35", b"2026-99-99", b"\xff\x00"]
)
def test_a_line_without_a_time_of_its_own_gives_none(line: bytes) -> None:
    assert TimestampReader(LATEST).read(line) == 0


def test_the_quick_way_through_a_block_reads_what_the_careful_one_reads() -> None:
    first = b"2026-03-01 10:21:35.118 a"
    rest = [b"2026-03-01 10:21:36.000 b", b"2026-03-01 23:59:59.999 c", b"2026-03-02 00:00:00.001 d"]
    quick, careful = TimestampReader(LATEST), TimestampReader(LATEST)
    quick.read(first)
    assert quick.read_all(rest) == [careful.read(line) for line in rest]
    for odd in (b"continued", b"2026-03-01 10:21:35 no fraction", b" 2026-03-01 10:21:35.118 moved", b""):
        assert quick.read_all([*rest, odd]) is None


def test_train_logs_are_merged_by_their_times_and_tracebacks_stay_whole(tmp_path: Path) -> None:
    write(
        tmp_path / "train_0.log",
        "2026-03-01 10:21:35,100 step 1\nTraceback (most recent call last):\n  File x\nValueError: bad\n"
        "2026-03-01 10:21:35,300 step 2\n",
    )
    write(tmp_path / "train_1.log", "starting\n2026-03-01 10:21:35,050 one\n2026-03-01 10:21:35,200 two\n")
    assert lines([LogSource(tmp_path)]) == [
        "1 starting",
        "1 2026-03-01 10:21:35,050 one",
        "0 2026-03-01 10:21:35,100 step 1",
        "0 Traceback (most recent call last):",
        "0   File x",
        "0 ValueError: bad",
        "1 2026-03-01 10:21:35,200 two",
        "0 2026-03-01 10:21:35,300 step 2",
    ]
    assert lines([LogSource(tmp_path)], Query(ranks=(1,)))[0] == "1 starting"
    assert lines([LogSource(tmp_path)], Query(level=40))[0] == "0 Traceback (most recent call last):"


def test_a_clock_that_goes_back_does_not_change_the_order_of_a_file(tmp_path: Path) -> None:
    write(
        tmp_path / "train_0.log",
        "2026-03-01 10:21:35.5 a\n2026-03-01 10:21:34.5 b\n2026-03-01 10:21:36.5 c\n",
    )
    write(tmp_path / "train_1.log", "2026-03-01 10:21:35.0 x\n2026-03-01 10:21:36.0 y\n")
    assert [line[-1] for line in lines([LogSource(tmp_path)])] == ["x", "a", "b", "y", "c"]


def test_a_plog_tree_is_labelled_by_process_device_or_rank(tmp_path: Path) -> None:
    write(
        tmp_path / "debug/plog/plog-77_20260301102135.log", PLOG % ("ERROR", 77, "35.118.204", "EI0006 late")
    )
    write(
        tmp_path / "debug/device-3/device-77_20260301102136.log",
        PLOG % ("INFO", 77, "35.118.100", "on device"),
    )
    write(tmp_path / "rank_5/plog/plog-78_20260301102135.log", PLOG % ("INFO", 78, "35.200.000", "fine"))
    shown = [line.split(" ")[0] for line in lines([LogSource(tmp_path)])]
    assert shown == ["device-3", "plog-77", "5/plog"]
    assert len(lines([LogSource(tmp_path)], Query(level=40))) == 1
    assert len(lines([LogSource(tmp_path)], Query(ranks=(5,)))) == 1


def test_several_nodes_are_told_apart_inside_one_folder_or_as_several(tmp_path: Path) -> None:
    for node, second in (("node-a", "35"), ("node-b", "36")):
        write(tmp_path / node / "train_0.log", f"2026-03-01 10:21:{second}.0 x\n2026-03-01 10:21:40.0 end\n")
    shown = [line.split(" ")[0] for line in lines([LogSource(tmp_path)])]
    assert shown == ["node-a/0", "node-b/0", "node-a/0", "node-b/0"]
    words = [str(tmp_path / "node-a"), str(tmp_path / "node-b")]
    assert [line.split(" ")[0] for line in lines(find_sources(words, "runs"))] == shown


@pytest.mark.parametrize(
    "name,label",
    [
        ("train_3.log", "3"),
        ("rank-3.txt", "3"),
        ("worker-3.log", "3"),
        ("workerlog.3", "3"),
        ("job-proc-rank-3-device-5.txt", "3"),
        ("3.log", "3"),
        ("main.log", "main"),
        ("ranks/7/stdout.log", "7"),
        ("train_rank3.txt", "3"),
        ("worker_0.log", "0"),
        ("20260301_rank5.log", "5"),
        ("rank_0_20260301.log", "0"),
        ("rank_3.log.1", "3"),
        ("none_x/attempt_0/3/stderr.log", "3"),
        ("123_3_log.err", "3"),
        ("slurm-123_4.out", "slurm-123_4"),
        ("nohup.out", "nohup"),
        ("train.log.1", "train"),
        ("app.log.2.gz", "app"),
        ("app.log-20260301", "app"),
        ("train_20260301.log", "train_20260301"),
        ("train-2026-03-01.log", "train-2026-03-01"),
    ],
)
def test_names_tell_ranks(tmp_path: Path, name: str, label: str) -> None:
    write(tmp_path / name, "x\n")
    assert [found.label for found in discover(tmp_path)] == [label]


def test_every_label_is_its_own(tmp_path: Path) -> None:
    names = ["a/0/train_0.log", "b/0/train_0.log", "rank_1/plog/plog-7_1.log", "rank_1/plog/plog-8_1.log"]
    names += [
        "x/debug/plog/plog-9_1.log",
        "x/run/plog/plog-9_1.log",
        "d/device-0/device-7_1.log",
        "d/device-0/device-8_1.log",
    ]
    for name in names:
        write(tmp_path / name, "x\n")
    labels = [found.label for found in discover(tmp_path)]
    assert len(set(labels)) == len(names)


def test_the_files_of_one_log_have_one_label_and_the_oldest_stands_first(tmp_path: Path) -> None:
    names = ["rank_3.log", "rank_3.log.1", "rank_3.log.2.gz", "slurm-5.out", "slurm-5.err"]
    for name in (*names, "x/attempt_0/3/stderr.log", "x/attempt_1/3/stdout.log"):
        write(tmp_path / "n1" / name, "x\n")
    found = discover(tmp_path / "n1")
    assert [item.path.name for item in found if item.path.name in names[:3]] == names[2::-1]
    assert {item.label for item in found} == {"3", "slurm-5"}
    for number in (0, 1):
        write(tmp_path / "n2" / f"x/attempt_{number}/3/stderr.log", "x\n")
    assert {item.label for item in discover(tmp_path)} == {"n1/3", "slurm-5", "n2/3"}


def test_of_glog_s_files_of_a_process_the_one_that_has_all_lines_is_read(tmp_path: Path) -> None:
    logs = tmp_path / "rank_2" / "logs"  # GLOG_log_dir of MindSpore 2.10
    head = "Log file created at: 2026/03/01 10:00:00\n"
    warning = "[WARNING] ME(7,7f,python):2026-03-01-10:00:02.000.000 [a.cc:1] Run] two\n"
    first = "[INFO] ME(7,7f,python):2026-03-01-10:00:01.000.000 [a.cc:1] Run] one\n"
    write(logs / "mindspore.n1.root.log.INFO.20260301-100000.2884", head + first + warning)
    write(logs / "mindspore.n1.root.log.WARNING.20260301-100002.2884", head + warning)
    write(logs / "mindspore.n1.root.log.WARNING.20260301-100003.2901", head + warning.replace("two", "other"))
    write(logs / "mindspore.log.2884", first.replace("one", "of Python"))
    shown = [line.split(" Run] ") for line in lines([LogSource(tmp_path)]) if "Run]" in line]
    assert sorted(text for _, text in shown) == ["of Python", "one", "other", "two"]
    assert {label.split(" ")[0] for label, _ in shown} == {"2"}
    assert len(lines([LogSource(tmp_path)], Query(level=30))) == 2


def test_files_that_are_no_logs_are_left_alone(tmp_path: Path) -> None:
    for name in ("train.py", "requirements.txt", "model.ckpt-1.index", "vocab.txt", "data.json"):
        write(tmp_path / name, "x\n")
    assert discover(tmp_path) == []


def test_a_file_with_no_time_at_all_has_that_of_its_last_change(tmp_path: Path) -> None:
    path = write(tmp_path / "train_0.log", "a\nb")
    os.utime(str(path), (1772360495, 1772360495))
    reader = FileReader(discover(tmp_path)[0])
    assert list(reader.batches()) == [[]] or not any(reader.batches())
    assert [(when, text) for when, _, _, text in reader.finish()] == [
        (1772360495 * 10**9, b"a"),
        (1772360495 * 10**9, b"b"),
    ]


def test_the_command_line_reads_a_folder_of_others(tmp_path: Path) -> None:
    write(tmp_path / "logs" / "train_0.log", "2026-03-01 10:21:35,100 zero\n")
    write(tmp_path / "logs" / "train_11.log", "2026-03-01 10:21:35,050 eleven\n")
    done = launch(tmp_path, "logs", "logs", env={"TZ": "UTC"})
    assert done.stdout.splitlines() == [
        "10:21:35.050 11| 2026-03-01 10:21:35,050 eleven",
        "10:21:35.100  0| 2026-03-01 10:21:35,100 zero",
    ]
    assert launch(tmp_path, "logs", "logs/train_0.log").stdout.endswith("0| 2026-03-01 10:21:35,100 zero\n")
