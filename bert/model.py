"""BERT with a span head as tf.compat.v1 graph functions, under google-research/bert's variable names.

Shapes: B rows, L columns, H hidden, N heads, K features a row. Everything between the embeddings and the
logits is two-dimensional, [B * L, H], but for the attention itself.
"""

from __future__ import annotations

import copy
import math
import zlib
from typing import Any, Mapping

import tensorflow.compat.v1 as tf

from bert import names
from bert.config import BertConfig
from bert.fused import exact_gelu, layer_norm, recomputed

Tensors = Mapping[str, Any]
_LAYER = "bert/encoder/layer_%d/"
_FAR = -10000.0  # added to the scores of positions that may not be attended, as Google's


def tanh_gelu(x: Any) -> Any:
    """The tanh approximation of gelu, from the same paper; the seed's."""
    return 0.5 * x * (1.0 + tf.tanh(math.sqrt(2.0 / math.pi) * (x + 0.044715 * x * x * x)))


def create_variables(config: BertConfig) -> dict[str, Any]:
    """Make every variable of the span model, by Google's names."""
    return {name: _variable(name, shape, config) for name, shape in names.shapes(config).items()}


def _variable(name: str, shape: Any, config: BertConfig) -> Any:
    if name.endswith("gamma"):
        start: Any = tf.ones_initializer()
    elif name.endswith(("beta", "bias")):
        start = tf.zeros_initializer()
    else:
        # A seed of its own, beside the graph's: else a new weight depends on how many operations came before.
        seed = zlib.crc32(name.encode()) & 0x7FFFFFFF
        start = tf.truncated_normal_initializer(stddev=config.initializer_range, seed=seed)
    return tf.get_variable(name, shape, tf.float32, start, use_resource=True)


class Model:
    """Build the graph of one batch over given variables.

    `gelu` and `dropout` (bert/dropout.py) come from the backend; rate 0 is no dropout. With `checkpointed`
    only the layers' inputs are kept for the backward pass, which computes each layer a second time.
    """

    def __init__(
        self,
        config: BertConfig,
        variables: Mapping[str, Any],
        gelu: Any = exact_gelu,
        dropout: Any = None,
        training: bool = False,
        gather: Any = tf.gather,
        checkpointed: bool = False,
    ) -> None:
        self.config, self.variables, self.gelu, self._gather = config, variables, gelu, gather
        self._dropout = dropout if training else None
        self._checkpointed = checkpointed and training
        self._place = 0  # of the next dropout in the graph

    def span_logits(self, batch: Tensors) -> Any:
        """Give start and end logits [2, B, L] of a batch (bert/README: the batch's keys)."""
        hidden = self.encode(batch)
        shape = tf.shape(batch["input_ids"])
        weights, bias = (self.variables[name] for name in names.HEAD)
        logits = tf.matmul(weights, hidden, transpose_b=True) + bias[:, None]
        return tf.reshape(logits, [2, shape[0], shape[1]])

    def encode(self, batch: Tensors) -> Any:
        """Give the last layer's output [B * L, H]."""
        hidden = self._embed(batch)
        bias = self._attention_bias(batch)
        shape = tf.shape(batch["input_ids"])
        run = self._recomputed_layer if self._checkpointed else self._layer
        for layer in range(self.config.num_hidden_layers):
            hidden = run(layer, hidden, bias, shape)
        return hidden

    def _embed(self, batch: Tensors) -> Any:
        table = self.variables["bert/embeddings/word_embeddings"]
        words = self._gather(table, tf.reshape(batch["input_ids"], [-1]))
        types = self.variables["bert/embeddings/token_type_embeddings"]
        # Two rows: a product with a one-hot matrix is cheaper than a gather and its scattered gradient.
        kinds = tf.one_hot(tf.reshape(batch["segment_ids"], [-1]), self.config.type_vocab_size)
        summed = words + tf.matmul(kinds, types) + self._positions(batch)
        return self._drop(self._norm("bert/embeddings/", summed), self.config.hidden_dropout_prob)

    def _positions(self, batch: Tensors) -> Any:
        table = self.variables["bert/embeddings/position_embeddings"]
        shape = tf.shape(batch["input_ids"])
        if "position_ids" in batch:
            return tf.gather(table, tf.reshape(batch["position_ids"], [-1]))
        return tf.reshape(
            tf.broadcast_to(table[: shape[1]], [shape[0], shape[1], self.config.hidden_size]),
            [-1, self.config.hidden_size],
        )

    def _attention_bias(self, batch: Tensors) -> Any:
        """Give 0 where a token may look and _FAR where not: [B, 1, 1, L], packed [B, 1, L, L]."""
        if "feature_ids" in batch:
            owner = batch["feature_ids"]
            seen = tf.equal(owner[:, :, None], owner[:, None, :])
            return (1.0 - tf.cast(seen, tf.float32))[:, None] * _FAR
        return (1.0 - tf.cast(batch["input_mask"], tf.float32))[:, None, None, :] * _FAR

    def _recomputed_layer(self, layer: int, hidden: Any, bias: Any, shape: Any) -> Any:
        prefix = _LAYER % layer
        own = [name for name in self.variables if name.startswith(prefix)]

        def run(x: Any, *values: Any) -> Any:
            model = copy.copy(self)
            model.variables = dict(zip(own, values))
            return model._layer(layer, x, bias, shape)

        return recomputed(run, hidden, *[tf.convert_to_tensor(self.variables[name]) for name in own])

    def _layer(self, layer: int, hidden: Any, bias: Any, shape: Any) -> Any:
        prefix, self._place = _LAYER % layer, 1 + 3 * layer  # the embeddings have place 0
        attended = self._attend(prefix + "attention/self/", hidden, bias, shape)
        out = self._dense(prefix + "attention/output/dense/", attended)
        out = self._drop(out, self.config.hidden_dropout_prob)
        hidden = self._norm(prefix + "attention/output/", hidden + out)
        inner = self.gelu(self._dense(prefix + "intermediate/dense/", hidden))
        out = self._drop(self._dense(prefix + "output/dense/", inner), self.config.hidden_dropout_prob)
        return self._norm(prefix + "output/", hidden + out)

    def _attend(self, prefix: str, hidden: Any, bias: Any, shape: Any) -> Any:
        heads = self.config.num_attention_heads
        width = self.config.hidden_size // heads

        def split(name: str) -> Any:
            projected = self._dense(prefix + name + "/", hidden)
            return tf.transpose(tf.reshape(projected, [shape[0], shape[1], heads, width]), [0, 2, 1, 3])

        query = split("query")
        scores = tf.matmul(query, split("key"), transpose_b=True) * (1.0 / math.sqrt(width)) + bias
        context = self._mix(tf.nn.softmax(scores), split("value"))
        context = tf.transpose(context, [0, 2, 1, 3])
        return tf.reshape(context, [-1, self.config.hidden_size])

    def _mix(self, shares: Any, values: Any) -> Any:
        place, rate = self._next_place(), self.config.attention_probs_dropout_prob
        if self._dropout is None or rate == 0:
            return tf.matmul(shares, values)
        return self._dropout.product(shares, values, rate, place)

    def _dense(self, prefix: str, x: Any) -> Any:
        return tf.nn.bias_add(
            tf.matmul(x, self.variables[prefix + "kernel"]), self.variables[prefix + "bias"]
        )

    def _norm(self, prefix: str, x: Any) -> Any:
        gamma, beta = (self.variables[prefix + "LayerNorm/" + leaf] for leaf in ("gamma", "beta"))
        return layer_norm(x, gamma, beta, self.config.layer_norm_eps)

    def _drop(self, x: Any, rate: float) -> Any:
        place = self._next_place()
        return x if self._dropout is None or rate == 0 else self._dropout(x, rate, place)

    def _next_place(self) -> int:
        self._place += 1
        return self._place - 1


def span_loss(logits: Any, batch: Tensors, over: str = "row") -> Any:
    """Give the weighted sum of the features' losses: mean of start and end cross-entropy each.

    logits [2, B, L]; positions and weights [B, K]. over="row": the softmax runs over all L positions, as
    Google's; over="tokens": over the feature's own tokens.
    """
    losses = []
    for side, key in enumerate(("start_positions", "end_positions")):
        scores = logits[side][:, None, :] + _outside(batch, over)
        chosen = tf.one_hot(batch[key], tf.shape(scores)[-1])
        losses.append(-tf.reduce_sum(chosen * tf.nn.log_softmax(scores), axis=-1))
    return tf.reduce_sum((losses[0] + losses[1]) / 2.0 * batch["example_weights"])


def _outside(batch: Tensors, over: str) -> Any:
    """Give what keeps foreign positions out of a softmax: broadcastable to [B, K, L]."""
    if over == "row":
        return 0.0
    slots = tf.range(1, tf.shape(batch["example_weights"])[1] + 1)
    owner: Any | None = batch.get("feature_ids")
    owner = batch["input_mask"] if owner is None else owner
    return (1.0 - tf.cast(tf.equal(owner[:, None, :], slots[None, :, None]), tf.float32)) * -1e9
