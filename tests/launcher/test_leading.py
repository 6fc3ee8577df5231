"""The leading rank: the first that writes a loss, the same for every reader of a run."""

from __future__ import annotations

import math
import os
from pathlib import Path
from typing import Any

import pytest

from launcher.compare.formats import read as read_curve
from launcher.metrics.leading import HEAD, Leader, leading_rank
from launcher.page import run_page
from launcher.page.source import read as read_source
from launcher.run_dir import RunDir
from launcher.view.looks import RunLooks
from tests.launcher.runs_made import finished, lines, rows


def made(folder: Path, *of_ranks: list[dict[str, Any]]) -> RunDir:
    run = RunDir.create(folder / "run", range(len(of_ranks)))
    for rank, items in enumerate(of_ranks):
        if items:
            run.metrics(rank).write_bytes(lines(items))
    return run


LOSS, RATE, EVALUATED = {"step": 5, "loss": 1.0}, {"step": 5, "own_s": 1.0}, {"step": 5, "eval_f1": 60.0}


@pytest.mark.parametrize(
    ("of_ranks", "leads"),
    [
        (([LOSS], [LOSS]), 0),
        (([], [LOSS]), 1),
        (([RATE], [RATE], [LOSS]), 2),
        (([RATE], [RATE, {"step": 6, "loss": None}]), 1),  # NaN: it has a loss
        (([], [RATE], [RATE]), 1),
        (([EVALUATED], [RATE]), 1),
        (([], []), None),
    ],
)
def test_the_first_rank_with_a_loss_leads_else_the_first_with_a_row(
    tmp_path: Path, of_ranks: Any, leads: int | None
) -> None:
    run = made(tmp_path, *of_ranks)
    assert leading_rank(run, range(len(of_ranks))) == leads


def test_a_loss_that_comes_later_is_found_and_ends_the_search(tmp_path: Path) -> None:
    run = made(tmp_path, [RATE], [RATE] * (HEAD // 20))
    leader = Leader(run, [0, 1])
    assert leader.look() and not leader.look() and leader.rank == 0
    with run.metrics(1).open("ab") as stream:
        stream.write(lines([LOSS]))
    assert any(leader.look() for _ in range(4))  # some looks read what was there before
    run.metrics(0).write_bytes(lines([LOSS]))
    assert not leader.look() and leader.rank == 1


def test_of_very_many_ranks_one_look_asks_some(tmp_path: Path) -> None:
    run = made(tmp_path, [], [], [], [LOSS])
    leader = Leader(run, range(4), most=2)
    assert not leader.look() and leader.look() and leader.rank == 3


def test_a_file_that_cannot_be_read_leads_nothing(tmp_path: Path) -> None:
    run = made(tmp_path, [], [LOSS])
    run.metrics(0).symlink_to(run.metrics(1))
    assert leading_rank(run, [0, 1]) == 1


def test_page_view_and_comparison_go_by_the_last_stage_of_a_pipeline(tmp_path: Path) -> None:
    run = finished(tmp_path, ranks=3)
    for rank in range(2):
        told = ("loss", "own_loss", "learning_rate")
        stripped = [{name: row[name] for name in row if name not in told} for row in rows(20, rank)]
        run.metrics(rank).write_bytes(lines(stripped))
    assert read_source(run).leading == 2 and "From metrics.jsonl of rank 2" in run_page.page(run)
    assert RunLooks(run).look().loss == 0.08
    losses = [point.loss for point in read_curve(run.path).points]
    assert losses[0] == 1.6 and not any(loss is None or math.isnan(loss) for loss in losses)


def test_rates_of_one_device_are_called_that(tmp_path: Path) -> None:
    run = finished(tmp_path)
    kept = [{name: row[name] for name in row if name != "examples_per_second"} for row in rows(20)]
    for rank in range(2):
        os.unlink(str(run.metrics(rank)))
        run.metrics(rank).write_bytes(lines(kept))
    assert "examples/s per device, median" in run_page.page(run)
    assert RunLooks(run).look().best_examples_per_second == 26.0  # 13 on each of two
    curve = read_curve(run.path)
    assert curve.rate_is == "per device" and curve.points[-1].rate == 10.0
