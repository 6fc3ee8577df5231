"""The optimizers against their formulas in numpy; clipping, the schedule, accumulation."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any, Dict

import numpy as np
import pytest
import tensorflow.compat.v1 as tf

from bert import optimizer
from bert.checkpoints import reader
from bert.optimizer import Optimizer, OptimizerConfig
from bert.train_config import TrainConfig
from tests.bert.runs import losses, records, settings, step_batches, train

Weights = Dict[str, np.ndarray]
NAMES = ("dense/kernel", "dense/bias", "LayerNorm/gamma")


def _start(random: np.random.RandomState) -> tuple[Weights, list[Weights]]:
    weights = {name: random.randn(3, 2) for name in NAMES}
    return weights, [{name: random.randn(3, 2) * 0.1 for name in NAMES} for _ in range(4)]


def _run(kind: str, start: Weights, gradients: list[Weights], fused: bool = False) -> Weights:
    """Apply the graph's updates; return the weights after them."""
    with tf.Graph().as_default(), tf.Session() as session:
        variables = [
            tf.get_variable(n, initializer=v.astype(np.float32), use_resource=True) for n, v in start.items()
        ]
        given = [tf.placeholder(tf.float32, [3, 2]) for _ in variables]
        count, config = tf.placeholder(tf.float32, []), OptimizerConfig(kind, 0.1, 1e-6, fused)
        update = Optimizer(config, variables).apply(given, 0.01, count)
        session.run(tf.global_variables_initializer())
        for number, step in enumerate(gradients, 1):
            feed: dict[Any, Any] = dict(zip(given, step.values()))
            feed[count] = number
            session.run(update, feed)
        return dict(zip(start, session.run(variables)))


def _expected(kind: str, start: Weights, gradients: list[Weights]) -> Weights:
    after = {}
    for name, weight in start.items():
        m, v = np.zeros_like(weight), np.zeros_like(weight)
        for number, step in enumerate(gradients, 1):
            m, v = 0.9 * m + 0.1 * step[name], 0.999 * v + 0.001 * step[name] ** 2
            first, second = (m / (1 - 0.9**number), v / (1 - 0.999**number)) if kind != "adam" else (m, v)
            update = first / (np.sqrt(second) + 1e-6) + (0.1 * weight if name == "dense/kernel" else 0.0)
            ratio = np.linalg.norm(weight) / np.linalg.norm(update) if kind == "lamb" else 1.0
            weight = weight - 0.01 * ratio * update
        after[name] = weight
    return after


@pytest.mark.parametrize(
    "kind, fused", [("adam", False), ("adam", True), ("adamw", False), ("adamw", True), ("lamb", False)]
)
def test_updates_are_those_of_the_formulas(kind: str, fused: bool) -> None:
    start, gradients = _start(np.random.RandomState(1))
    mine, expected = _run(kind, start, gradients, fused), _expected(kind, start, gradients)
    for name in NAMES:
        np.testing.assert_allclose(mine[name], expected[name], rtol=1e-5, atol=1e-7)


def test_lamb_leaves_alone_what_has_no_norm_to_scale_to() -> None:
    zeros = {"dense/kernel": np.zeros((3, 2))}
    after = _run("lamb", zeros, [{"dense/kernel": np.ones((3, 2))}])
    np.testing.assert_allclose(after["dense/kernel"], -0.01, rtol=1e-5)


def test_an_unknown_optimizer_is_refused() -> None:
    with pytest.raises(ValueError, match="optimizer_type 'sgd' is none of adam, adamw, lamb"):
        Optimizer(OptimizerConfig("sgd"), [])


def test_the_rate_rises_then_falls_to_zero() -> None:
    with tf.Graph().as_default(), tf.Session() as session:
        step = tf.placeholder(tf.int64, [])
        line, root, cold = (
            optimizer.learning_rate(step, 2.0, 10, warmup, power)
            for warmup, power in ((4, 1.0), (4, 0.5), (0, 1.0))
        )
        rates = [session.run([line, root, cold], {step: number}) for number in range(11)]
    np.testing.assert_allclose(
        [r[0] for r in rates], [0, 0.5, 1, 1.5, 1.2, 1, 0.8, 0.6, 0.4, 0.2, 0], atol=1e-6
    )
    np.testing.assert_allclose(rates[9][1], 2 * np.sqrt(0.1), rtol=1e-6)
    np.testing.assert_allclose([rates[0][2], rates[9][2]], [2.0, 0.2], rtol=1e-5)


def test_a_raised_peak_lets_the_fall_begin_where_the_rise_ends() -> None:
    with tf.Graph().as_default(), tf.Session() as session:
        step = tf.placeholder(tf.int64, [])
        rate = optimizer.learning_rate(step, 5e-5, 8144, 814, raised=True)
        rates = [session.run(rate, {step: number}) for number in (0, 407, 813, 814, 4072, 8144, 8199)]
    raised = 5e-5 / (1 - 814 / 8144)
    expected = [0, 2.5e-5, 5e-5 * 813 / 814, 5e-5, raised / 2, 0, 0]
    np.testing.assert_allclose(rates, expected, rtol=1e-5, atol=1e-12)


def test_the_peak_grows_with_the_ranks_only_when_asked() -> None:
    peaks = [TrainConfig(1, 0.1, lr_scaling=mode).peak_rate(4) for mode in ("none", "linear", "sqrt")]
    assert peaks == pytest.approx([0.1, 0.4, 0.2])
    with pytest.raises(ValueError, match="lr_scaling 'cubic' is none of none, linear, sqrt"):
        TrainConfig(1, 0.1, lr_scaling="cubic").peak_rate(4)


@pytest.mark.parametrize(
    "mode, norms", [("global", (0.6, 0.8)), ("per_tensor", (1.0, 1.0)), ("none", (3.0, 4.0))]
)
def test_clipping_limits_the_norm(mode: str, norms: tuple[float, float]) -> None:
    with tf.Graph().as_default(), tf.Session() as session:
        gradients = [tf.constant([3.0, 0.0]), tf.constant([0.0, 4.0])]
        clipped = session.run(optimizer.clip(gradients, tf.constant(5.0), mode, 1.0))
    np.testing.assert_allclose([np.linalg.norm(part) for part in clipped], norms, rtol=1e-6)


def test_small_gradients_are_not_clipped_and_an_unknown_mode_is_refused() -> None:
    with tf.Graph().as_default(), tf.Session() as session:
        clipped = session.run(optimizer.clip([tf.constant([0.3])], tf.constant(0.3), "global", 1.0))
    np.testing.assert_allclose(clipped, [[0.3]])
    with pytest.raises(ValueError, match="clip 'value' is none of"):
        optimizer.clip([], None, "value", 1.0)


@pytest.mark.parametrize("scale", [-1.0, 1024.0])
def test_accumulated_batches_equal_one_large_one(tmp_path: Path, scale: float) -> None:
    # Some gradients are zero but for rounding; an epsilon of 1e-6 would make steps of that.
    config = settings(npu_bert_loss_scale=scale, adam_epsilon=1e-4)
    whole = train(tmp_path / "whole", config)
    parts = train(tmp_path / "parts", dataclasses.replace(config, num_accumulation_steps=4))
    np.testing.assert_allclose(losses(tmp_path / "parts"), losses(tmp_path / "whole"), rtol=1e-5)
    expected = dict(reader.read(whole.checkpoint))
    for name, value in reader.read(parts.checkpoint):
        np.testing.assert_allclose(value, expected[name], atol=1e-5, err_msg=name)


def test_lamb_trains(tmp_path: Path) -> None:
    def batches(start: int) -> Any:
        batch = next(step_batches(0))
        while True:
            yield batch

    config = settings(num_train_steps=20, optimizer_type="lamb", decay_power=0.5)
    train(tmp_path, config, batches=batches)
    assert losses(tmp_path)[-1] < losses(tmp_path)[0]
    assert all(np.isfinite(record["gradient_norm"]) for record in records(tmp_path).values())


@pytest.mark.parametrize("kind", ["word", "token"])
def test_the_norm_counts_a_words_gradient_once_as_pytorch_or_once_per_token_as_google(
    tmp_path: Path, kind: str
) -> None:
    """After one step a first moment is a tenth of the gradient, summed over the tokens of a word."""
    done = train(tmp_path, settings(num_train_steps=1, clip="none", embedding_norm=kind))
    moments = [value for name, value in reader.read(done.checkpoint) if name.endswith("/adam_m")]
    summed = np.sqrt(sum(np.square(moment / 0.1).sum() for moment in moments))
    same = bool(abs(records(tmp_path)[1]["gradient_norm"] - summed) < 1e-4)
    assert same is (kind == "word")
