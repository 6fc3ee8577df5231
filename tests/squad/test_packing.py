"""Packed and bucketed rows teach the model exactly what padded rows do: real BERT, real gradients."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from bert.config import BertConfig
from squad.data.batching import make_order, train_batches
from squad.data.features import Features

L, COUNT = 32, 10
CONFIG = BertConfig(
    vocab_size=50, hidden_size=16, num_hidden_layers=1, num_attention_heads=2, intermediate_size=32,
    max_position_embeddings=L, type_vocab_size=2, initializer_range=0.3,
)  # fmt: skip


def features() -> Features:
    random = np.random.RandomState(3)
    lengths = random.randint(5, L // 2, COUNT).astype(np.int32)
    mask = (np.arange(L) < lengths[:, None]).astype(np.int8)
    starts = random.randint(0, lengths).astype(np.int32)
    return Features(
        unique_ids=np.arange(COUNT, dtype=np.int32),
        example_index=np.arange(COUNT, dtype=np.int32),
        doc_span_index=np.zeros(COUNT, np.int32),
        lengths=lengths,
        input_ids=(random.randint(1, 50, (COUNT, L)) * mask).astype(np.int32),
        input_mask=mask,
        segment_ids=((np.arange(L) >= 3) * mask).astype(np.int8),
        start_positions=starts,
        end_positions=np.minimum(starts + 2, lengths - 1).astype(np.int32),
        is_impossible=starts == 0,
    )


def learn(mode: str, accumulate: int = 1, ranks: int = 1) -> tuple[float, dict[str, np.ndarray]]:
    """Give the loss and the gradients of one step over all features, summed as the ranks would."""
    import tensorflow.compat.v1 as tf

    from bert.model import Model, create_variables, span_loss

    data = features()
    order = make_order(data, COUNT, 1, False, mode)
    parts: list[Any] = []
    for rank in range(ranks):
        parts += train_batches(data, order, rank, ranks, 0, 1, accumulate)
    with tf.Graph().as_default(), tf.Session() as session:
        tf.set_random_seed(7)
        variables = create_variables(CONFIG)
        feeds = {key: tf.placeholder(tf.as_dtype(value.dtype), [None] * value.ndim)
                 for key, value in parts[0].items()}  # fmt: skip
        logits = Model(CONFIG, variables).span_logits(feeds)
        loss = span_loss(logits, feeds, "tokens") / feeds["global_weight"]
        gradients = [tf.convert_to_tensor(g) for g in tf.gradients(loss, list(variables.values()))]
        session.run(tf.global_variables_initializer())
        runs = [session.run([loss, gradients], {feeds[key]: part[key] for key in feeds}) for part in parts]
    summed = [sum(values) for values in zip(*(run[1] for run in runs))]
    return sum(run[0] for run in runs), dict(zip(variables, summed))


@pytest.fixture(scope="module")
def padded() -> tuple[float, dict[str, np.ndarray]]:
    return learn("pad")


@pytest.mark.tensorflow
@pytest.mark.parametrize(
    ("mode", "accumulate", "ranks"),
    [("pack", 1, 1), ("pack", 2, 2), ("pad", 3, 1), ("bucket", 2, 3)],
)
def test_loss_and_gradients_equal_those_of_padded_rows(
    padded: Any, mode: str, accumulate: int, ranks: int
) -> None:
    loss, gradients = learn(mode, accumulate, ranks)
    assert loss == pytest.approx(padded[0], rel=1e-5)
    for name, expected in padded[1].items():
        np.testing.assert_allclose(gradients[name], expected, rtol=1e-5, atol=1e-6, err_msg=name)


def test_packing_these_features_saves_rows() -> None:
    assert make_order(features(), COUNT, 1, False, "pack").num_rows < COUNT
