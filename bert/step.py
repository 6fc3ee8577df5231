"""The graph of a training step: loss, gradients, their sum over the ranks, clipping, update."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Mapping, Sequence

import tensorflow.compat.v1 as tf

from bert import loss_scale, names, optimizer
from bert.backend.base import Backend
from bert.config import BertConfig
from bert.dropout import Dropout
from bert.errors import TrainerError
from bert.loss_scale import counter
from bert.model import Model, Operations, Tensors, create_variables, span_loss
from bert.optimizer import Optimizer, OptimizerConfig
from bert.train_config import TrainConfig

if TYPE_CHECKING:
    from bert.interfaces import LossScaleManager, Tensor


@dataclass(frozen=True)
class StepGraph:
    """What the loop runs, saves and loads."""

    weights: dict[str, Tensor]  # the model's variables by Google's names
    step: Tensor
    saved: dict[str, Tensor]  # what a checkpoint contains: weights, slots, pooler, global_step
    scalars: dict[str, Tensor]  # what its JSON contains: loss scale and counters, equal on all ranks
    accumulate: Tensor | None  # operation for each batch of a step except the last; None: there is one batch
    fetches: dict[str, Tensor]  # operation for the last batch, and the step's figures
    stop: Tensor  # a rank sets it to 1 to ask all ranks to stop
    broadcast: Tensor


@dataclass(frozen=True)
class Totals:
    """Sums over a step's batches, on one rank or over all."""

    gradients: list[Tensor]
    loss: Tensor
    per_token: Tensor  # of Google's norm: see _gradients


def build(model_config: BertConfig, config: TrainConfig, batch: Tensors, backend: Backend) -> StepGraph:
    """Build the graph of a step. `batch` maps the keys of bert.interfaces.Batch to the tensors of a batch."""
    weights = create_variables(model_config)
    frozen = "bert/embeddings/" if config.freeze_embeddings else "-"
    trained = {name: weight for name, weight in weights.items() if not name.startswith(frozen)}
    step = _step_counter()
    part = counter("accumulated")
    scale = loss_scale.make(
        config.npu_bert_loss_scale, config.init_loss_scale_value, backend,
        (config.loss_scale_good_steps, config.loss_scale_bad_steps),
    )  # fmt: skip
    loss = _loss(model_config, config, batch, backend, weights, _batch_number(config, step, part))
    keep_rows = backend.supports_sparse_gradients and config.num_accumulation_steps == 1
    sums, sparse = _gradients(loss, list(trained.values()), scale, keep_rows)
    accumulate, sums, clear = _accumulate(sums, part, config.num_accumulation_steps)
    stop = counter("stop_requested")
    total, stops = _over_ranks(backend, sums, stop)
    # Adam changes every row, so from here on all gradients are dense.
    gradients = [_unscale(tf.convert_to_tensor(gradient), scale) for gradient in total.gradients]
    by_token = config.embedding_norm == "token"
    norm = _norm(gradients, total.per_token, sparse) if by_token else tf.global_norm(gradients)
    update = _Update(config, backend, trained, step, scale)
    operations, figures = update.make(gradients, norm, batch["global_weight"])
    with tf.control_dependencies(operations):
        train = tf.group(*clear)
    figures.update(loss=total.loss, own_loss=sums.loss, norm=norm, stop=stops)
    saved = {**weights, **_pooler(model_config), **update.optimizer.slots, "global_step": step}
    shared = [variable for name, variable in saved.items() if name != "global_step"]
    return StepGraph(
        weights, step, saved, update.scalars, accumulate,
        {"train": backend.train_op(train), **figures}, stop, backend.broadcast(shared),
    )  # fmt: skip


def _step_counter() -> Tensor:
    """Create the count of steps, in the collection in which get_global_step() looks.

    Found by its name alone it is refused: the tensor of that name is the variable's handle, not an integer.
    """
    collections = [tf.GraphKeys.GLOBAL_VARIABLES, tf.GraphKeys.GLOBAL_STEP]
    return tf.get_variable(
        "global_step", [], tf.int64, tf.zeros_initializer(), trainable=False, use_resource=True,
        collections=collections,
    )  # fmt: skip


def _batch_number(config: TrainConfig, step: Tensor, part: Tensor) -> Tensor:
    return step * config.num_accumulation_steps + tf.cast(part, tf.int64)


def _loss(
    model_config: BertConfig,
    config: TrainConfig,
    batch: Tensors,
    backend: Backend,
    weights: Mapping[str, Tensor],
    number: Tensor,
) -> Tensor:
    if config.gradient_checkpointing and config.dropout and not backend.repeats_dropout:
        raise TrainerError(
            f"gradient_checkpointing: {backend.name} cannot repeat a layer's dropout; leave the flag out"
        )
    operations = Operations(
        gelu=partial(backend.gelu, form=config.gelu),
        gather=backend.gather,
        dropout=Dropout(backend, config.seed, number) if config.dropout else None,
        recompute=config.gradient_checkpointing,
    )
    model = Model(model_config, weights, operations)
    # Divided by the whole step's weight, so that the sum over ranks and batches is the step's mean.
    return span_loss(model.span_logits(batch), batch, config.softmax_over) / batch["global_weight"]


def _gradients(
    loss: Tensor, variables: list[Tensor], scale: LossScaleManager | None, keep_rows: bool
) -> tuple[Totals, list[bool]]:
    """Compute the gradients of the scaled loss, and tell which of them are rows of a table."""
    scaled = loss if scale is None else loss * scale.get_loss_scale()
    raw = tf.gradients(scaled, variables)
    sparse = [isinstance(gradient, tf.IndexedSlices) for gradient in raw]
    # Google's norm counts a word's gradient once per token, before the gradients of equal words are added;
    # PyTorch's (embedding_norm word) once per word, after.
    # Unscaled before they are squared: the squares of scaled gradients overflow long before these do.
    rows = [_unscale(gradient.values, scale) for gradient in raw if isinstance(gradient, tf.IndexedSlices)]
    per_token = tf.add_n([tf.reduce_sum(tf.square(values)) for values in rows]) if rows else tf.zeros([])
    kept = raw if keep_rows else [tf.convert_to_tensor(gradient) for gradient in raw]
    return Totals(kept, loss, per_token), sparse


def _accumulate(sums: Totals, part: Tensor, batches: int) -> tuple[Tensor | None, Totals, list[Tensor]]:
    """Add up a step's batches: (operation of each batch but the last, sums at the last, clearing)."""
    if batches == 1:
        return None, sums, []
    values = [*sums.gradients, sums.loss, sums.per_token]
    held = [_accumulator(index, value) for index, value in enumerate(values)]
    add = tf.group(part.assign_add(1.0), *[total.assign_add(value) for total, value in zip(held, values)])
    *gradients, loss, per_token = [total + value for total, value in zip(held, values)]
    done = Totals(gradients, loss, per_token)
    with tf.control_dependencies([*gradients, loss, per_token]):
        clear = [part.assign(0.0), *[total.assign(tf.zeros_like(total)) for total in held]]
    return add, done, clear


def _accumulator(index: int, value: Tensor) -> Tensor:
    zeros = tf.zeros_initializer()
    name = f"accumulator_{index}"
    return tf.get_variable(name, value.shape, tf.float32, zeros, trainable=False, use_resource=True)


def _over_ranks(backend: Backend, sums: Totals, stop: Tensor) -> tuple[Totals, Tensor]:
    scalars = [sums.loss, sums.per_token, tf.convert_to_tensor(stop)]
    *gradients, loss, per_token, stops = reduce_gradients(backend, [*sums.gradients, *scalars])
    return Totals(gradients, loss, per_token), stops


def reduce_gradients(backend: Backend, gradients: Sequence[Tensor]) -> list[Tensor]:
    """Sum the gradients, and the scalars after them, over the ranks."""
    return backend.all_reduce_sum(gradients)


def _unscale(value: Tensor, scale: LossScaleManager | None) -> Tensor:
    return value if scale is None else value * (1.0 / scale.get_loss_scale())


def _norm(gradients: Sequence[Tensor], per_token: Tensor, sparse: Sequence[bool]) -> Tensor:
    dense = [gradient for gradient, rows in zip(gradients, sparse) if not rows]
    return tf.sqrt(per_token + 2.0 * tf.add_n([tf.nn.l2_loss(gradient) for gradient in dense]))


def _pooler(config: BertConfig) -> dict[str, Tensor]:
    """Create the variables that only Google's graph uses, and requires in a checkpoint that it restores."""
    shapes = names.shapes(config, pooler=True)
    normal = tf.truncated_normal_initializer(stddev=config.initializer_range, seed=1)
    return {
        name: tf.get_variable(
            name,
            shapes[name],
            tf.float32,
            normal if name.endswith("kernel") else tf.zeros_initializer(),
            trainable=False,
            use_resource=True,
        )
        for name in names.POOLER
    }


class _Update:
    """The update of a step: skipped, on all ranks, if the scaled gradients overflow."""

    def __init__(
        self,
        config: TrainConfig,
        backend: Backend,
        weights: Mapping[str, Tensor],
        step: Tensor,
        scale: LossScaleManager | None,
    ) -> None:
        self._config, self._backend, self._step, self._scale = config, backend, step, scale
        settings = OptimizerConfig(
            config.optimizer_type, config.weight_decay, config.adam_epsilon, backend.fused_adam
        )
        self.optimizer = Optimizer(settings, list(weights.values()))
        self._skipped, self._in_a_row = counter("skipped_steps"), counter("skipped_in_a_row")
        self._seen = tf.get_variable(
            "examples_seen", [], tf.int32, tf.zeros_initializer(), trainable=False, use_resource=True
        )
        held = [self._skipped, self._in_a_row, *(scale.variables if scale else [])]
        self.scalars = {optimizer.name_of(variable): variable for variable in held}

    def make(
        self, gradients: list[Tensor], norm: Tensor, weight: Tensor
    ) -> tuple[list[Tensor], dict[str, Tensor]]:
        """Build the operations and the step's figures; `weight` is the sum of its examples' weights."""
        config = self._config
        rate = optimizer.learning_rate(
            self._step, config.peak_rate(self._backend.size), config.decay_steps or config.num_train_steps,
            config.num_warmup_steps, config.decay_power, config.peak == "raised",
        )  # fmt: skip
        if self._scale is None:
            operations = [self._apply(gradients, norm, rate)]
        else:
            finite = self._backend.all_finite(gradients, norm)
            operations = [
                tf.cond(finite, lambda: self._apply(gradients, norm, rate), tf.no_op),
                *self._count(self._scale, finite),
            ]
        # The rate is read from the step's counter, also if the update that uses it is skipped.
        with tf.control_dependencies([rate, *operations]):
            seen = self._seen.assign_add(tf.cast(tf.round(weight), tf.int32))
            advance = self._step.assign_add(1)
            scale = tf.ones([]) if self._scale is None else tf.identity(self._scale.get_loss_scale())
            skipped, row = (tf.convert_to_tensor(v) for v in (self._skipped, self._in_a_row))
        figures = {"step": advance, "seen": seen, "rate": rate, "scale": scale}
        figures.update(skipped=skipped, skipped_in_a_row=row)
        return [*operations, advance, seen], figures

    def _apply(self, gradients: list[Tensor], norm: Tensor, rate: Tensor) -> Tensor:
        gradients = optimizer.clip(gradients, norm, self._config.clip, self._config.clip_norm)
        # At least 1: a resume by more ranks lowers the step, but skipped steps were counted as before.
        count = tf.maximum(tf.cast(self._step + 1, tf.float32) - self._skipped, 1.0)
        # Every gradient is computed before the first weight changes, as a graph runs on several threads. One
        # operation between the two, instead of an edge from each gradient to each operation of an update.
        with tf.control_dependencies([tf.group(*gradients)]):
            updates = self.optimizer.apply(gradients, rate, count)
        return tf.group(*updates)

    def _count(self, scale: LossScaleManager, finite: Tensor) -> list[Tensor]:
        bad = 1.0 - tf.cast(finite, tf.float32)
        row = tf.where(finite, 0.0, self._in_a_row + 1.0)
        return [
            scale.update_loss_scale(finite),
            self._skipped.assign_add(bad),
            self._in_a_row.assign(row),
        ]
