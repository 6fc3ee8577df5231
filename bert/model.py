"""BERT with a span head as tf.compat.v1 graph functions, under google-research/bert's variable names.

Shapes: B rows, L columns, H hidden, N heads, K features per row. Everything between the embeddings and the
logits is two-dimensional, [B * L, H], except for the attention itself.
"""

from __future__ import annotations

import copy
import math
import zlib
from dataclasses import dataclass
from typing import TYPE_CHECKING, Callable, Mapping

import tensorflow.compat.v1 as tf

from bert import names
from bert.config import BertConfig
from bert.fused import exact_gelu, layer_norm, recomputed
from bert.interfaces import Tensor

if TYPE_CHECKING:
    from bert.dropout import Dropout

Tensors = Mapping[str, Tensor]
_LAYER = "bert/encoder/layer_{}/"
_FAR = -10000.0  # added to the scores of positions that must not be attended to, as in Google's BERT


def tanh_gelu(x: Tensor) -> Tensor:
    """Compute the tanh approximation of gelu, from the same paper; the original script uses it."""
    return 0.5 * x * (1.0 + tf.tanh(math.sqrt(2.0 / math.pi) * (x + 0.044715 * x * x * x)))


GELUS: Mapping[str, Callable[[Tensor], Tensor]] = {"exact": exact_gelu, "tanh": tanh_gelu}


def create_variables(config: BertConfig) -> dict[str, Tensor]:
    """Create every variable of the span model, by Google's names."""
    return {name: _variable(name, shape, config) for name, shape in names.shapes(config).items()}


def _variable(name: str, shape: names.Shape, config: BertConfig) -> Tensor:
    start: Tensor
    if name.endswith("gamma"):
        start = tf.ones_initializer()
    elif name.endswith(("beta", "bias")):
        start = tf.zeros_initializer()
    else:
        # A seed of its own: by the graph's alone a new weight depends on the number of operations before it.
        seed = zlib.crc32(name.encode()) & 0x7FFFFFFF
        start = tf.truncated_normal_initializer(stddev=config.initializer_range, seed=seed)
    return tf.get_variable(name, shape, tf.float32, start, use_resource=True)


@dataclass(frozen=True)
class Operations:
    """The operations of which a model is built; gelu, gather and dropout depend on the device."""

    gelu: Callable[[Tensor], Tensor] = exact_gelu
    gather: Callable[[Tensor, Tensor], Tensor] = tf.gather
    dropout: Dropout | None = None  # None: predict
    recompute: bool = False  # keep only the layers' inputs; the backward pass computes each layer again


EXACT = Operations()


class Model:
    """The graph of one batch over given variables."""

    def __init__(
        self, config: BertConfig, variables: Mapping[str, Tensor], operations: Operations = EXACT
    ) -> None:
        self.config, self.variables, self._operations = config, variables, operations
        self._place = 0  # of the next dropout in the graph

    def span_logits(self, batch: Tensors) -> Tensor:
        """Compute start and end logits [2, B, L] of a batch (bert.interfaces.Batch)."""
        hidden = self.encode(batch)
        shape = tf.shape(batch["input_ids"])
        weights, bias = (self.variables[name] for name in names.HEAD)
        logits = tf.matmul(weights, hidden, transpose_b=True) + bias[:, None]
        return tf.reshape(logits, [2, shape[0], shape[1]])

    def encode(self, batch: Tensors) -> Tensor:
        """Compute the last layer's output [B * L, H]."""
        hidden = self._embed(batch)
        bias = self._attention_bias(batch)
        shape = tf.shape(batch["input_ids"])
        run = self._recomputed_layer if self._operations.recompute else self._layer
        for layer in range(self.config.num_hidden_layers):
            hidden = run(layer, hidden, bias, shape)
        return hidden

    def _embed(self, batch: Tensors) -> Tensor:
        table = self.variables["bert/embeddings/word_embeddings"]
        words = self._operations.gather(table, tf.reshape(batch["input_ids"], [-1]))
        types = self.variables["bert/embeddings/token_type_embeddings"]
        # With two rows, a product with a one-hot matrix is cheaper than a gather and its scattered gradient.
        kinds = tf.one_hot(tf.reshape(batch["segment_ids"], [-1]), self.config.type_vocab_size)
        summed = words + tf.matmul(kinds, types) + self._positions(batch)
        return self._drop(self._norm("bert/embeddings/", summed), self.config.hidden_dropout_prob)

    def _positions(self, batch: Tensors) -> Tensor:
        table = self.variables["bert/embeddings/position_embeddings"]
        shape = tf.shape(batch["input_ids"])
        if "position_ids" in batch:
            return tf.gather(table, tf.reshape(batch["position_ids"], [-1]))
        return tf.reshape(
            tf.broadcast_to(table[: shape[1]], [shape[0], shape[1], self.config.hidden_size]),
            [-1, self.config.hidden_size],
        )

    def _attention_bias(self, batch: Tensors) -> Tensor:
        """Compute 0 where a token may attend, else _FAR: [B, 1, 1, L], for packed rows [B, 1, L, L]."""
        if "feature_ids" in batch:
            owner = batch["feature_ids"]
            seen = tf.equal(owner[:, :, None], owner[:, None, :])
            return (1.0 - tf.cast(seen, tf.float32))[:, None] * _FAR
        return (1.0 - tf.cast(batch["input_mask"], tf.float32))[:, None, None, :] * _FAR

    def _recomputed_layer(self, layer: int, hidden: Tensor, bias: Tensor, shape: Tensor) -> Tensor:
        prefix = _LAYER.format(layer)
        own = [name for name in self.variables if name.startswith(prefix)]

        def run(x: Tensor, *values: Tensor) -> Tensor:
            model = copy.copy(self)
            model.variables = dict(zip(own, values))
            return model._layer(layer, x, bias, shape)

        return recomputed(run, hidden, *[tf.convert_to_tensor(self.variables[name]) for name in own])

    def _layer(self, layer: int, hidden: Tensor, bias: Tensor, shape: Tensor) -> Tensor:
        prefix, self._place = _LAYER.format(layer), 1 + 3 * layer  # the embeddings have place 0
        attended = self._attend(prefix + "attention/self/", hidden, bias, shape)
        out = self._dense(prefix + "attention/output/dense/", attended)
        out = self._drop(out, self.config.hidden_dropout_prob)
        hidden = self._norm(prefix + "attention/output/", hidden + out)
        inner = self._operations.gelu(self._dense(prefix + "intermediate/dense/", hidden))
        out = self._drop(self._dense(prefix + "output/dense/", inner), self.config.hidden_dropout_prob)
        return self._norm(prefix + "output/", hidden + out)

    def _attend(self, prefix: str, hidden: Tensor, bias: Tensor, shape: Tensor) -> Tensor:
        heads = self.config.num_attention_heads
        width = self.config.hidden_size // heads

        def split(name: str) -> Tensor:
            projected = self._dense(prefix + name + "/", hidden)
            return tf.transpose(tf.reshape(projected, [shape[0], shape[1], heads, width]), [0, 2, 1, 3])

        query = split("query")
        scores = tf.matmul(query, split("key"), transpose_b=True) * (1.0 / math.sqrt(width)) + bias
        context = self._mix(tf.nn.softmax(scores), split("value"))
        context = tf.transpose(context, [0, 2, 1, 3])
        return tf.reshape(context, [-1, self.config.hidden_size])

    def _mix(self, shares: Tensor, values: Tensor) -> Tensor:
        place, rate = self._next_place(), self.config.attention_probs_dropout_prob
        if self._operations.dropout is None or rate == 0:
            return tf.matmul(shares, values)
        return self._operations.dropout.product(shares, values, rate, place)

    def _dense(self, prefix: str, x: Tensor) -> Tensor:
        return tf.nn.bias_add(
            tf.matmul(x, self.variables[prefix + "kernel"]), self.variables[prefix + "bias"]
        )

    def _norm(self, prefix: str, x: Tensor) -> Tensor:
        gamma, beta = (self.variables[prefix + "LayerNorm/" + leaf] for leaf in ("gamma", "beta"))
        return layer_norm(x, gamma, beta, self.config.layer_norm_eps)

    def _drop(self, x: Tensor, rate: float) -> Tensor:
        place, dropout = self._next_place(), self._operations.dropout
        return x if dropout is None or rate == 0 else dropout(x, rate, place)

    def _next_place(self) -> int:
        self._place += 1
        return self._place - 1


def span_loss(logits: Tensor, batch: Tensors, softmax_over: str = "row") -> Tensor:
    """Compute the weighted sum of the features' losses: each the mean of start and end cross-entropy.

    logits [2, B, L]; positions and weights [B, K]. softmax_over="row": the softmax runs over all L positions,
    as in Google's BERT; "tokens": over the feature's own tokens.
    """
    losses = []
    for side, key in enumerate(("start_positions", "end_positions")):
        scores = logits[side][:, None, :] + _outside(batch, softmax_over)
        chosen = tf.one_hot(batch[key], tf.shape(scores)[-1])
        losses.append(-tf.reduce_sum(chosen * tf.nn.log_softmax(scores), axis=-1))
    return tf.reduce_sum((losses[0] + losses[1]) / 2.0 * batch["example_weights"])


def _outside(batch: Tensors, softmax_over: str) -> Tensor:
    """Compute what excludes other features' positions from a softmax: broadcastable to [B, K, L]."""
    if softmax_over == "row":
        return 0.0
    slots = tf.range(1, tf.shape(batch["example_weights"])[1] + 1)
    owner = batch["feature_ids"] if "feature_ids" in batch else batch["input_mask"]
    return (1.0 - tf.cast(tf.equal(owner[:, None, :], slots[None, :, None]), tf.float32)) * -1e9
