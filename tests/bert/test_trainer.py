"""The loop itself: several steps a call, ranks that equal one, the order of saving and showing."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tensorflow.compat.v1 as tf

from bert import step
from bert.backend.base import Backend
from bert.checkpoints import reader
from bert.errors import CheckpointError, StepsDiffer
from tests.bert.runs import Job, losses, records, settings, train


def test_several_steps_a_call_make_the_same_steps(tmp_path: Path, capfd: pytest.CaptureFixture) -> None:
    """As a device with iterations_per_loop does: calls end at a checkpoint and at the end, never beyond."""
    config = settings(num_train_steps=10, save_checkpoints_steps=6, display_loss_steps=1, keep_checkpoints=9)
    one = train(tmp_path / "one", config)
    capfd.readouterr()
    four = train(tmp_path / "four", config, steps_per_call=4)
    assert sorted(records(tmp_path / "four")) == [4, 6, 10]
    assert "trained to step 10: 80 examples in" in capfd.readouterr().out
    names = sorted(path.name for path in (tmp_path / "four" / "out").glob("*.index"))
    assert names == ["model.ckpt-10.index", "model.ckpt-6.index"]
    assert four.loss == pytest.approx(one.loss, rel=1e-6)
    shown = [records(tmp_path / "one")[step]["loss"] for step in (4, 6, 10)]
    assert losses(tmp_path / "four") == pytest.approx(shown, rel=1e-6)


def test_a_device_that_makes_fewer_steps_than_it_is_asked_for_ends_the_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Backend, "run_steps", lambda self, session, fetches, count: session.run(fetches))
    config = settings(num_train_steps=8, save_checkpoints_steps=4)
    with pytest.raises(StepsDiffer, match=r"device reports step 1, the loop counts 4 .* \(cpu\)"):
        train(tmp_path, config, steps_per_call=4)
    assert not list((tmp_path / "out").glob("*.index"))


def test_libraries_find_the_count_of_steps(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """npu_bridge asks for it before it makes its loop; by its name alone it would be a variable's handle."""
    found = []
    build = step.build

    def look(*arguments: Any) -> Any:
        graph = build(*arguments)
        found.append((tf.train.get_global_step(), graph.step))
        return graph

    monkeypatch.setattr(step, "build", look)
    train(tmp_path, settings(num_train_steps=1))
    [(theirs, ours)] = found
    assert theirs is ours and theirs.dtype.base_dtype == tf.int64


@pytest.mark.parametrize("ranks", [2, 4])
def test_ranks_learn_what_one_rank_learns(tmp_path: Path, ranks: int) -> None:
    # Some gradients are zero but for rounding; an epsilon of 1e-6 would make steps of that.
    config = settings(num_train_steps=5, adam_epsilon=1e-4)
    job = Job(tmp_path / "many", config, ranks)
    alone = train(tmp_path / "one", config)
    assert job.wait() == [0] * ranks, job.output()
    for rank in range(ranks):
        np.testing.assert_allclose(losses(tmp_path / "many", rank), losses(tmp_path / "one"), rtol=1e-5)
    prefix = str(tmp_path / "many" / "out" / "model.ckpt-5")
    expected = dict(reader.read(alone.checkpoint))
    for name, value in reader.read(prefix):
        np.testing.assert_allclose(value, expected[name], atol=1e-5, err_msg=name)


def test_runs_of_one_seed_are_equal_and_of_another_are_not(tmp_path: Path) -> None:
    for name, seed in (("a", 1), ("b", 1), ("c", 2)):
        train(tmp_path / name, settings(num_train_steps=3, dropout=True, seed=seed))
    assert losses(tmp_path / "a") == losses(tmp_path / "b")
    assert losses(tmp_path / "a")[0] != losses(tmp_path / "c")[0]


def test_dropout_differs_from_step_to_step_and_from_rank_to_rank(tmp_path: Path) -> None:
    """At rate 0 of learning, and with the same rows in every step, only dropout changes the loss."""
    from tests.bert.runs import step_batches

    def batches(start: int) -> object:
        batch = next(step_batches(0))
        while True:
            yield batch

    config = settings(num_train_steps=3, learning_rate=0.0, dropout=True)
    train(tmp_path, config, batches=batches)
    assert len(set(losses(tmp_path))) == 3


@pytest.mark.parametrize("ranks", [1, 2])
def test_frozen_embeddings_stay_as_they_were_and_have_no_slots(tmp_path: Path, ranks: int) -> None:
    began = train(tmp_path / "began", settings(num_train_steps=1)).checkpoint
    job = Job(tmp_path / "more", settings(freeze_embeddings=True), ranks, init_checkpoint=began)
    assert job.wait() == [0] * ranks, job.output()
    ended = str(tmp_path / "more" / "out" / "model.ckpt-6")
    before, after = (dict(reader.read(path)) for path in (began, ended))
    names = [name for name in before if not name.endswith(("adam_m", "adam_v"))]
    moved = [name for name in names if not np.array_equal(before[name], after[name])]
    assert moved and not [name for name in moved if name.startswith("bert/embeddings/")]
    assert "bert/embeddings/word_embeddings" in after
    assert not [name for name in after if name.startswith("bert/embeddings/") and "adam" in name]


def test_a_run_cannot_freeze_or_thaw_its_embeddings_midway(tmp_path: Path) -> None:
    train(tmp_path, settings(num_train_steps=1, freeze_embeddings=True))
    with pytest.raises(CheckpointError, match="contains a run with freeze_embeddings True; give the same"):
        train(tmp_path, settings())
