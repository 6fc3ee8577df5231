"""What happens to logs before they are read, and the runs of npu-launch itself: docs/compare.md."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any, Dict, Sequence

import pytest

from launcher.compare.formats import read
from launcher.errors import LauncherError
from tests.launcher.compare.reading import Reader, estimator, losses, rates, told

# What happens to logs.


def test_of_a_restart_the_last_counts(log: Reader) -> None:
    curve = log(*estimator((1, 6.0), (101, 5.0), (201, 4.0), (101, 5.5), (201, 4.5), (301, 3.0)))
    assert losses(curve) == [(1, 6.0), (101, 5.5), (201, 4.5), (301, 3.0)]
    assert "2 line(s) were repeated after a restart" in told(curve)


def test_ranks_without_prefixes_are_averaged(log: Reader) -> None:
    rows = [(step, loss + rank) for step, loss in ((1, 6.0), (101, 5.0), (201, 4.0)) for rank in range(4)]
    curve = log(*estimator(*rows))
    assert losses(curve) == [(1, 7.5), (101, 6.5), (201, 5.5)]
    assert curve.ranks == 4 and "comes 4 times" in told(curve)


@pytest.mark.parametrize("head", ["[1,{}]<stdout>:", "[rank {}] ", "[rank{}]: ", "{}: ", "10:00:00.123 {}| "])
def test_ranks_with_prefixes_are_averaged(log: Reader, head: str) -> None:
    rows = [(step, rank) for step in (1, 101, 201, 301) for rank in range(2)]
    curve = log(*(head.format(rank) + estimator((step, 4 + rank))[0] for step, rank in rows))
    assert losses(curve) == [(1, 4.5), (101, 4.5), (201, 4.5), (301, 4.5)]
    assert "ranks 0 to 1" in told(curve)


def test_several_formats_in_one_log(log: Reader) -> None:
    curve = log("Step = 1 Throughput = 1.0 Loss = 1.0 LR = 1.0", *estimator((1, 6.0), (2, 5.0)))
    assert curve.kind == "TF Estimator"
    assert "also holds losses in the form of Ascend BERT" in told(curve)


def test_doubled_and_odd_lines(log: Reader) -> None:
    lines = estimator((1, 6.0), (101, 5.0), (9, 4.0), (201, "nan"), (301, 3.0))
    curve = log(*(line for line in lines for _ in range(2)))
    assert [step for step, _ in losses(curve)] == [1, 101, 201, 301] or "comes 2 times" in told(curve)
    once = log(*lines)
    assert [step for step, _ in losses(once)] == [1, 101, 201, 301] and "out of order" in told(once)


@pytest.mark.parametrize(
    ("last", "count"),
    [
        ("INFO:tensorflow:loss = 3.0, step = 301", 4),  # the step that was to come
        ("INFO:tensorflow:loss = 3.0, step = 30", 3),
        ("INFO:tensorflow:loss = 3.0, step = 301 (1.5 sec)", 4),
        ("INFO:tensorflow:loss = 3.0, st", 3),
    ],
)
def test_a_last_line_that_is_cut_off(log: Reader, last: str, count: int) -> None:
    curve = log(*estimator((1, 6.0), (101, 5.0), (201, 4.0)), last, end="")
    assert len(losses(curve)) == count
    assert ("cut off" in told(curve)) is (count == 3)


def test_carriage_returns_marks_and_utf_16(tmp_path: Path) -> None:
    text = "\r\n".join(estimator((1, 6.0), (101, 5.0))) + "\r\n"
    for name, data in (("a", text.encode()), ("b", text.encode("utf-8-sig")), ("c", text.encode("utf-16"))):
        (tmp_path / name).write_bytes(data)
        assert losses(read(tmp_path / name)) == [(1, 6.0), (101, 5.0)]


def test_of_a_very_long_log_some_lines_are_kept(log: Reader, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("launcher.compare.formats.stream.MOST", 16)
    curve = log(*estimator(*((step, 1.0 + step) for step in range(1, 101))))
    assert losses(curve)[:2] == [(8, 9.0), (16, 17.0)] and len(losses(curve)) == 12
    assert "one line in 8" in told(curve)


def test_lines_longer_than_a_chunk(tmp_path: Path) -> None:
    long = b"loss = " + b"x" * (3 << 20)
    lines = [line.encode() for line in estimator((1, 6.0), (101, 5.0))]
    (tmp_path / "a").write_bytes(b"\n".join([lines[0], long, lines[1], b""]))
    curve = read(tmp_path / "a")
    assert losses(curve) == [(1, 6.0), (101, 5.0)] and "1 MiB" in told(curve)


@pytest.mark.parametrize(
    "text", [b"", b"\n\n", b"hello\n", b"\0\xff" * 500, b"{", b'{"log_history": 1', b"DLLL {"]
)
def test_what_holds_nothing_says_so(tmp_path: Path, text: bytes) -> None:
    (tmp_path / "a").write_bytes(text)
    curve = read(tmp_path / "a")
    assert not curve.points and "holds no loss" in told(curve)


def test_what_cannot_be_read(tmp_path: Path) -> None:
    (tmp_path / "a.gz").write_bytes(b"\x1f\x8bxxxx")
    for path in (tmp_path / "a.gz", tmp_path / "none", tmp_path):
        with pytest.raises(LauncherError):
            read(path)


# Runs of ours.


Row = Dict[str, Any]


def make_run(folder: Path, ranks: int, rows: Sequence[Row], metrics: Row | None) -> Path:
    for rank in range(ranks):
        (folder / "ranks" / str(rank)).mkdir(parents=True)
        lines = "".join(json.dumps(row) + "\n" for row in rows)
        (folder / "ranks" / str(rank) / "metrics.jsonl").write_text(lines)
    (folder / "logs").mkdir()
    if metrics is not None:
        (folder / "result.json").write_text(json.dumps({"metrics": metrics}))
    return folder


def row(step: int, loss: float | None, **more: float) -> Row:
    return {"step": step, "loss": loss, "learning_rate": 1e-5, "examples_per_second": 40.0,
            "examples_per_second_per_device": 20.0, "time": 1e9 + step, **more}  # fmt: skip


def test_a_run_of_ours(tmp_path: Path) -> None:
    rows = [row(10, 2.0), row(20, 9.0), row(20, 1.0), row(30, None)]
    curve = read(make_run(tmp_path / "run", 2, rows, {"exact": 70.5, "f1": 75.5, "total": 1}), global_batch=8)
    assert losses(curve)[:2] == [(10, 2.0), (20, 1.0)] and math.isnan(losses(curve)[2][1])
    assert (curve.ranks, curve.points[1].examples, curve.rate_is) == (2, 160, "global")
    assert curve.scores == {"exact": 70.5, "f1": 75.5}


def test_examples_of_a_run_are_those_that_its_ranks_wrote(tmp_path: Path) -> None:
    first = row(10, 2.0, interval_steps=9, interval_examples=36)  # its first step is counted nowhere
    rows = [first, row(20, 1.0, interval_steps=10, interval_examples=50)]
    curve = read(make_run(tmp_path / "run", 2, rows, None))
    assert [point.examples for point in curve.points] == [80, 180]


def test_a_first_row_of_no_step_is_as_the_next_one(tmp_path: Path) -> None:
    rows = [row(at, 2.0, interval_steps=min(1, at - 1), interval_examples=(at > 1) * 4) for at in (1, 2, 3)]
    curve = read(make_run(tmp_path / "run", 2, rows, None))
    assert [point.examples for point in curve.points] == [8, 16, 24]


def test_scores_of_a_run_that_was_killed(tmp_path: Path) -> None:
    run = make_run(tmp_path / "run", 1, [], None)
    records = '{"kind": "metrics", "values": {"exact": 70.5}}\n{"kin'
    (run / "ranks" / "0" / "artifacts.jsonl").write_text(records)
    curve = read(run)
    assert curve.scores == {"exact": 70.5} and "holds no loss" in told(curve)


def test_metrics_alone(log: Reader) -> None:
    rows = [row(10, 2.0, interval_steps=9, interval_examples=36), row(20, None)]
    curve = log(*map(json.dumps, rows), name="metrics.jsonl")
    assert [point.examples for point in curve.points] == [80, 160]
    assert losses(curve)[0] == (10, 2.0) and math.isnan(losses(curve)[1][1])
    assert (curve.ranks, rates(curve)) == (2, [40.0, 40.0])
