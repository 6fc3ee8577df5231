"""Scaled losses change nothing but what overflows; overflow and nan are told apart, and on all ranks."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any, Iterator

import numpy as np
import pytest
import tensorflow.compat.v1 as tf

from bert import backend as backends
from bert import loss_scale
from bert.checkpoints import reader
from bert.cluster import Cluster
from bert.errors import NotFinite, PersistentOverflow
from tests.bert.runs import ROWS, Batch, Job, losses, records, settings, step_batches, train


def _manage(
    dynamic: bool, first: float, finite: list[bool], every: tuple[int, int] = loss_scale.EVERY
) -> list[float]:
    """Give the scale before each step and after the last."""
    with tf.Graph().as_default(), tf.Session() as session:
        manager = loss_scale.LossScale(0.0 if dynamic else first, first, every)
        given = tf.placeholder(tf.bool, [])
        scale, update = manager.get_loss_scale(), manager.update_loss_scale(given)
        session.run(tf.global_variables_initializer())
        scales = [float(session.run(scale))]
        for value in finite:
            session.run(update, {given: value})
            scales.append(float(session.run(scale)))
        return scales


def test_a_dynamic_scale_halves_after_two_overflows_and_never_falls_below_one() -> None:
    assert _manage(True, 4.0, [False] * 6) == [4, 4, 2, 2, 1, 1, 1]


def test_it_changes_as_often_as_is_said() -> None:
    """The original script's successor halves it after the first overflow."""
    assert _manage(True, 8.0, [False, True, True, True, False], (3, 1)) == [8, 4, 4, 4, 8, 4]


def test_overflows_add_up_over_good_steps_until_the_scale_changes() -> None:
    assert _manage(True, 65536.0, [False, True, False]) == [65536, 65536, 65536, 32768]
    assert _manage(True, 8.0, [False, True, False, False, True, False]) == [8, 8, 8, 4, 4, 4, 2]


def test_a_dynamic_scale_stops_below_the_largest_float() -> None:
    assert _manage(True, 2.0**126, [True] * 2000)[1000::1000] == [2.0**127, 2.0**127]


@pytest.mark.parametrize("first", [2.0, 2.0**16, 2.0**125])
def test_the_scale_is_that_of_contribs_manager_step_by_step(first: float) -> None:
    """npu_bridge's manager is made of it."""
    contrib = pytest.importorskip(
        "tensorflow.contrib.mixed_precision", reason="contrib is part of TensorFlow 1.15 alone"
    )
    finite = [bool(value) for value in np.random.RandomState(7).uniform(size=300) < 0.7]
    with tf.Graph().as_default(), tf.Session() as session:
        manager = contrib.ExponentialUpdateLossScaleManager(first, 5, 2, 2, 0.5)
        given = tf.placeholder(tf.bool, [])
        scale, update = manager.get_loss_scale(), manager.update_loss_scale(given)
        session.run(tf.global_variables_initializer())
        theirs = [first]
        for value in finite:
            session.run(update, {given: value})
            theirs.append(float(session.run(scale)))
    assert _manage(True, first, finite, (5, 2)) == theirs


def test_a_dynamic_scale_doubles_after_a_thousand_good_steps() -> None:
    scales = _manage(True, 4.0, [True] * 2000)
    assert (scales[999], scales[1000], scales[1999], scales[2000]) == (4, 8, 8, 16)


def test_a_static_scale_stays() -> None:
    assert _manage(False, 512.0, [False, True, False, False]) == [512] * 5


NAN, INF = float("nan"), float("inf")


@pytest.mark.parametrize(
    "scale, first", [(0.5, 1.0), (0.0, 0.5), (NAN, 1.0), (INF, 1.0), (1e39, 1.0), (0.0, NAN), (0.0, INF)]
)
def test_what_is_no_scale_is_refused(scale: float, first: float) -> None:
    with pytest.raises(ValueError, match=r"give -1 .off., 0 .dynamic., or 1 to 3.4e\+38"):
        loss_scale.make(scale, first, backends.create(Cluster(), "cpu"))


@pytest.mark.parametrize("scale", [0.0, 1024.0], ids=["dynamic", "static"])
def test_a_scale_changes_no_result(tmp_path: Path, scale: float) -> None:
    train(tmp_path / "plain", settings())
    train(tmp_path / "scaled", settings(npu_bert_loss_scale=scale, init_loss_scale_value=2.0**16))
    np.testing.assert_allclose(losses(tmp_path / "scaled"), losses(tmp_path / "plain"), rtol=1e-5)
    norms = [[r["gradient_norm"] for r in records(tmp_path / n).values()] for n in ("plain", "scaled")]
    np.testing.assert_allclose(norms[1], norms[0], rtol=1e-4)


def test_a_step_that_overflows_changes_no_weight_and_no_slot(
    tmp_path: Path, capfd: pytest.CaptureFixture
) -> None:
    """Magnified so, the gradients are infinite at the largest scale."""
    first = train(tmp_path / "a", settings(num_train_steps=1, learning_rate=0.0)).checkpoint
    config = settings(num_train_steps=3, num_warmup_steps=0, npu_bert_loss_scale=2.0**127)
    result = train(tmp_path / "b", config, init_checkpoint=first, magnify=2.0**20)
    before, after = (dict(reader.read(path)) for path in (first, result.checkpoint))
    for name, value in after.items():
        if name.endswith(("/adam_m", "/adam_v")):
            assert not value.any(), name
        elif name != "global_step":
            np.testing.assert_array_equal(value, before[name], err_msg=name)
    assert [r["skipped_steps"] for r in records(tmp_path / "b").values()] == [1, 2, 3]
    assert "step 2: 1 step skipped, the gradients overflow; loss scale" in capfd.readouterr().out


@pytest.mark.parametrize("kind", ["adamw", "lamb"])
def test_more_skipped_steps_than_the_run_has_left_do_not_break_the_bias_correction(
    tmp_path: Path, kind: str
) -> None:
    """Resumed with more rows a step, the run is at a lower step; the skipped ones were of the old count."""
    config = settings(num_train_steps=4, npu_bert_loss_scale=2.0**127, optimizer_type=kind)
    train(tmp_path, config, magnify=2.0**20)
    wider = settings(num_train_steps=3, rows_per_step=4 * ROWS, steps_per_epoch=3)
    train(tmp_path, dataclasses.replace(wider, npu_bert_loss_scale=1.0, optimizer_type=kind))
    found = records(tmp_path)
    assert found[3]["skipped_steps"] == 4 and np.isfinite(losses(tmp_path)).all()


def test_overflow_is_skipped_on_all_ranks_and_training_goes_on(tmp_path: Path) -> None:
    config = settings(num_train_steps=24, npu_bert_loss_scale=0, init_loss_scale_value=2.0**126)
    job = Job(tmp_path, config, ranks=2, magnify=2.0**8)
    assert job.wait() == [0, 0], job.output()
    held = [
        [(r["loss_scale"], r["skipped_steps"], r["loss"]) for r in records(tmp_path, n).values()]
        for n in (0, 1)
    ]
    assert held[0] == held[1]
    scale, skipped, loss = held[0][-1]
    assert 0 < skipped < 24 and scale < 2.0**126 and loss < held[0][0][2]
    assert "the gradients overflow" in job.output(0) and "overflow" not in job.output(1)


def test_endless_overflow_ends_the_run(tmp_path: Path) -> None:
    config = settings(num_train_steps=200, npu_bert_loss_scale=2.0**127, display_loss_steps=50)
    with pytest.raises(PersistentOverflow, match="overflowed in 100 steps in a row, up to step 100"):
        train(tmp_path, config, magnify=2.0**20)
    assert not list((tmp_path / "out").glob("*.index"))


def _poisoned(step: int) -> Any:
    """Make batches whose weights are nan from a step on."""

    def batches(start: int) -> Iterator[Batch]:
        for number, batch in enumerate(step_batches(start), start + 1):
            if number >= step:
                batch["example_weights"] = batch["example_weights"] * np.float32("nan")
            yield batch

    return batches


@pytest.mark.parametrize("scale", [-1.0, 0.0])
def test_a_nan_loss_ends_the_run_before_anything_of_it_is_saved(tmp_path: Path, scale: float) -> None:
    config = settings(save_checkpoints_steps=1, npu_bert_loss_scale=scale, init_loss_scale_value=8.0)
    with pytest.raises(NotFinite, match="loss is nan at step 3 on rank 0"):
        train(tmp_path, config, batches=_poisoned(3))
    names = sorted(path.name for path in (tmp_path / "out").glob("*.index"))
    assert names == ["model.ckpt-1.index", "model.ckpt-2.index"]


def _poison_rank_1(rank: int) -> None:
    from tests.bert import runs

    plain = runs.step_batches

    def batches(*arguments: Any) -> Iterator[dict[str, np.ndarray]]:
        for number, batch in enumerate(plain(*arguments), 1):
            if rank == 1 and number == 4:
                batch["example_weights"] = batch["example_weights"] * np.float32("inf")
            yield batch

    runs.step_batches = batches


def test_the_rank_whose_loss_is_no_number_is_named(tmp_path: Path) -> None:
    job = Job(tmp_path, settings(), ranks=2, sabotage=_poison_rank_1)
    assert job.wait() == [1, 1]
    for rank in (0, 1):
        assert "NotFinite: loss is inf at step 4 on rank 1;" in job.output(rank)
