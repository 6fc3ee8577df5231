"""The model's own gradients, its dropout, and layers that are computed a second time."""

from __future__ import annotations

import math
from functools import partial
from typing import Any

import numpy as np
import pytest
import tensorflow.compat.v1 as tf

from bert import backend as backends
from bert import fused
from bert.backend import cpu, host_memory
from bert.cluster import Cluster
from bert.dropout import Dropout
from bert.model import Model, Operations, create_variables, span_loss
from tests.bert.runs import MODEL, settings, step_batches, train


def _plain_gelu(x: Any) -> Any:
    return 0.5 * x * (1.0 + tf.math.erf(x / math.sqrt(2.0)))


def _plain_norm(x: Any, gamma: Any, beta: Any, epsilon: float) -> Any:
    mean, variance = tf.nn.moments(x, axes=[-1], keep_dims=True)
    return (x - mean) / tf.sqrt(variance + epsilon) * gamma + beta


def _value_and_gradients(function: Any, *inputs: np.ndarray) -> list[np.ndarray]:
    with tf.Graph().as_default(), tf.Session() as session:
        given = [tf.constant(value) for value in inputs]
        result = function(*given)
        weights = tf.constant(np.random.RandomState(9).randn(*result.shape.as_list()))
        gradients = tf.gradients(tf.reduce_sum(result * weights), given)
        return list(session.run([result, *gradients]))


def test_gelu_has_the_value_and_gradient_of_its_formula() -> None:
    x = np.concatenate([np.linspace(-12, 12, 401), [0.0, 1e-9, -40.0, 40.0]])
    for mine, expected in zip(
        _value_and_gradients(fused.exact_gelu, x), _value_and_gradients(_plain_gelu, x)
    ):
        np.testing.assert_allclose(mine, expected, rtol=1e-9, atol=1e-12)


def test_layer_norm_has_the_value_and_gradients_of_its_formula() -> None:
    random = np.random.RandomState(0)
    inputs = random.randn(7, 24) * 3 + 1, random.randn(24), random.randn(24)
    mine = _value_and_gradients(lambda *given: fused.layer_norm(*given, 1e-12), *inputs)
    expected = _value_and_gradients(lambda *given: _plain_norm(*given, 1e-12), *inputs)
    for one, other in zip(mine, expected):
        np.testing.assert_allclose(one, other, rtol=1e-8, atol=1e-9)


def _loss_and_gradients(checkpointed: bool, dropout: bool) -> tuple[Any, dict[str, np.ndarray]]:
    backend, batch = backends.create(Cluster(), "cpu"), next(step_batches(0))
    with tf.Graph().as_default():
        tf.set_random_seed(3)
        weights = create_variables(MODEL)
        drops = Dropout(backend, 5, tf.constant(7, tf.int64)) if dropout else None
        operations = Operations(partial(backend.gelu, form="exact"), dropout=drops, recompute=checkpointed)
        model = Model(MODEL, weights, operations)
        given = {key: tf.constant(value) for key, value in batch.items()}
        loss = span_loss(model.span_logits(given), given)
        gradients = tf.gradients(loss, list(weights.values()))
        with tf.Session() as session:
            random = np.random.RandomState(1)
            starts = [variable.assign(random.randn(*variable.shape) * 0.3) for variable in weights.values()]
            session.run(starts)
            dense = [tf.convert_to_tensor(gradient) for gradient in gradients]
            value, made = session.run([loss, dense])
    return value, dict(zip(weights, made))


@pytest.mark.parametrize("dropout", [False, True])
def test_recomputed_layers_give_the_same_loss_and_gradients(dropout: bool) -> None:
    (loss, gradients), (again, repeated) = (_loss_and_gradients(on, dropout) for on in (False, True))
    assert loss == pytest.approx(again, rel=1e-6)
    for name, gradient in gradients.items():
        np.testing.assert_allclose(repeated[name], gradient, rtol=1e-4, atol=1e-5, err_msg=name)


def test_recomputed_layers_are_not_merged_with_the_forward_pass() -> None:
    counts = {}
    for checkpointed in (False, True):
        with tf.Graph().as_default() as graph:
            weights = create_variables(MODEL)
            model = Model(MODEL, weights, Operations(recompute=checkpointed))
            given = {key: tf.constant(value) for key, value in next(step_batches(0)).items()}
            tf.gradients(span_loss(model.span_logits(given), given), list(weights.values()))
            counts[checkpointed] = sum(op.type == "Softmax" for op in graph.get_operations())
    assert counts[True] == counts[False] + MODEL.num_hidden_layers


def test_training_with_recomputed_layers_goes_the_same_way(tmp_path: Any) -> None:
    plain = train(tmp_path / "plain", settings(dropout=True))
    again = train(tmp_path / "again", settings(dropout=True, gradient_checkpointing=True))
    assert again.loss == pytest.approx(plain.loss, rel=1e-4)


def _dropped(rate: float, seed: int, shape: tuple[int, ...] = (501, 333)) -> tuple[np.ndarray, np.ndarray]:
    backend = backends.create(Cluster(), "cpu")
    with tf.Graph().as_default(), tf.Session() as session:
        x = tf.ones(shape)
        y = backend.dropout(x, rate, tf.constant([seed, 2], tf.int64))
        return session.run((y, tf.gradients(y, x)[0]))


def test_dropout_scales_what_it_keeps_and_its_gradient_takes_the_same_elements() -> None:
    value, gradient = _dropped(0.1, 1)
    np.testing.assert_array_equal(value, gradient)
    np.testing.assert_allclose(np.unique(value), [0.0, 1.0 / 0.9], rtol=1e-6)


@pytest.mark.parametrize("rate", [0.1, 0.25, 0.5])
def test_dropout_drops_the_share_it_was_told_to(rate: float) -> None:
    shares = [float(np.mean(_dropped(rate, seed)[0] == 0)) for seed in range(24)]
    # A threshold of a byte is right in the mean: each draw is off by up to 1/256.
    assert all(abs(share - rate) < 1 / 200 for share in shares)
    assert abs(np.mean(shares) - rate) < 0.0015


def test_dropout_depends_on_its_seed_alone() -> None:
    first, same, other = (_dropped(0.5, seed)[0] for seed in (4, 4, 5))
    np.testing.assert_array_equal(first, same)
    assert 0.4 < np.mean(first != other) < 0.6


def test_a_dropped_product_is_that_of_dropout_and_so_are_its_gradients() -> None:
    backend = backends.create(Cluster(), "cpu")
    random = np.random.RandomState(2)
    left, right = (random.randn(2, 3, 8, 8).astype(np.float32), random.randn(2, 3, 8, 5).astype(np.float32))
    with tf.Graph().as_default(), tf.Session() as session:
        x, y, seed = tf.constant(left), tf.constant(right), tf.constant([3, 4], tf.int64)
        made = []
        for product in (
            backend.dropped_product(x, y, 0.3, seed),
            tf.matmul(backend.dropout(x, 0.3, seed), y),
        ):
            made.append(session.run([product, *tf.gradients(tf.reduce_sum(tf.sin(product)), [x, y])]))
    for mine, plain in zip(*made):
        np.testing.assert_allclose(mine, plain, rtol=1e-5, atol=1e-6)


def test_dropout_takes_any_number_of_elements() -> None:
    for shape in ((1,), (3,), (5, 1), (2, 3, 3)):
        assert _dropped(0.5, 0, shape)[0].shape == shape


def test_neighbours_are_dropped_independently() -> None:
    kept = _dropped(0.5, 8)[0].reshape(-1) > 0
    for distance in (1, 2, 3, 4, 333):
        assert abs(np.mean(kept[distance:] == kept[:-distance]) - 0.5) < 0.01


def test_amp_that_has_no_effect_is_said_plainly(monkeypatch: Any, capfd: Any) -> None:
    monkeypatch.setattr(cpu, "_cpu_flags", lambda: ("avx2",))
    backend = cpu.CpuBackend(Cluster(), amp=True)
    assert "--amp has no effect: " in capfd.readouterr().err
    assert "mixed" not in str(backend.session_config())


@pytest.mark.skipif(tf.__version__.startswith("1."), reason="TensorFlow 1 has no bfloat16 on CPUs")
def test_amp_turns_onednns_rewriter_on_where_the_processor_has_bfloat16(monkeypatch: Any) -> None:
    monkeypatch.setenv("TF_ENABLE_ONEDNN_OPTS", "1")
    monkeypatch.setattr(cpu, "_cpu_flags", lambda: ("avx512f", "avx512_bf16"))
    assert "auto_mixed_precision" in str(cpu.CpuBackend(Cluster(), amp=True).session_config())
    assert "auto_mixed_precision" not in str(cpu.CpuBackend(Cluster()).session_config())


def test_the_c_library_is_told_to_keep_memory_where_it_can() -> None:
    assert host_memory.keep_freed() or not hasattr(__import__("ctypes").CDLL(None), "mallopt")
