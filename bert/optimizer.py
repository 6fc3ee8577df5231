"""Adam with decoupled weight decay, as in google-research/bert and as AdamW; NVIDIA's LAMB; clipping."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Sequence

import numpy as np
import tensorflow.compat.v1 as tf

from bert.interfaces import Tensor

NO_DECAY = ("LayerNorm", "layer_norm", "bias")
BETA_1, BETA_2 = 0.9, 0.999
KINDS = ("adam", "adamw", "lamb")


def learning_rate(
    step: Tensor, peak: float, steps: int, warmup: int, power: float = 1.0, raised: bool = False
) -> Tensor:
    """Rise linearly to `peak` over `warmup` steps, then fall (as if from `peak` at step 0) to 0 at `steps`.

    raised: fall from where the rise ends, as if from peak / (1 - warmup / steps) at step 0. So do NVIDIA's
    BERT (DeepLearningExamples, optimization.py) and transformers' linear schedule.
    """
    step = tf.cast(step, tf.float32)
    first = peak / (1.0 - warmup / steps) ** power if raised else peak
    falling = first * tf.pow(1.0 - tf.minimum(step, steps) / steps, power)
    if not warmup:
        return falling
    return tf.where(step < warmup, peak * step / warmup, falling)


def _slot(variable: Tensor, suffix: str) -> Tensor:
    zeros = tf.zeros_initializer()
    name = name_of(variable) + suffix
    return tf.get_variable(name, variable.shape, tf.float32, zeros, trainable=False, use_resource=True)


def _decays(variable: Tensor) -> bool:
    return not any(part in name_of(variable) for part in NO_DECAY)


def name_of(variable: Tensor) -> str:
    """Return a variable's name without the number of its output."""
    return str(variable.name).split(":")[0]


def clip(gradients: Sequence[Tensor], norm: Tensor, mode: str, limit: float) -> list[Tensor]:
    """Limit the gradients' norm, of all together or of each; `norm` is that of all together."""
    if mode == "global":
        return list(tf.clip_by_global_norm(list(gradients), limit, use_norm=norm)[0])
    if mode == "per_tensor":
        return [tf.clip_by_norm(gradient, limit) for gradient in gradients]
    if mode == "none":
        return list(gradients)
    raise ValueError(f"clip {mode!r} is none of global, per_tensor, none")


@dataclass(frozen=True)
class OptimizerConfig:
    """The settings of an optimizer; the defaults are google-research/bert's."""

    kind: str = "adam"  # adam | adamw | lamb
    weight_decay: float = 0.01
    epsilon: float = 1e-6
    fused: bool = False  # Adam by TensorFlow's one operation: one pass over memory, equal except for rounding


class Optimizer:
    """An optimizer of some variables and its moments, NAME/adam_m and NAME/adam_v as Google names them."""

    def __init__(self, config: OptimizerConfig, variables: Sequence[Tensor]) -> None:
        """Create the moments. ValueError: unknown kind of optimizer."""
        if config.kind not in KINDS:
            raise ValueError(f"optimizer_type {config.kind!r} is none of {', '.join(KINDS)}")
        self._config, self._variables = config, variables
        self._slots = [(_slot(v, "/adam_m"), _slot(v, "/adam_v")) for v in variables]
        self.slots = {name_of(slot): slot for pair in self._slots for slot in pair}

    def apply(self, gradients: Sequence[Tensor], rate: Tensor, count: Tensor) -> list[Tensor]:
        """Build the operations of one update, the `count`-th, from 1 (float32)."""
        # Google's Adam does not correct the moments' bias.
        bias = None if self._config.kind == "adam" else _bias(count)
        if self._config.fused and self._config.kind != "lamb":
            return self._fused_adam(gradients, rate, bias or (1.0, 1.0))
        rule, epsilon = _lamb if self._config.kind == "lamb" else _adam, self._config.epsilon
        operations = []
        for variable, gradient, (m, v) in zip(self._variables, gradients, self._slots):
            next_m = BETA_1 * m + (1.0 - BETA_1) * gradient
            next_v = BETA_2 * v + (1.0 - BETA_2) * tf.square(gradient)
            decay = self._config.weight_decay if _decays(variable) else 0.0
            unbiased = (next_m / bias[0], next_v / bias[1]) if bias else (next_m, next_v)
            update = rule(variable, *unbiased, decay, epsilon)
            operations += [variable.assign_sub(rate * update), m.assign(next_m), v.assign(next_v)]
        return operations

    def _fused_adam(
        self, gradients: Sequence[Tensor], rate: Tensor, bias: tuple[Tensor, Tensor]
    ) -> list[Tensor]:
        """Decay, then step, both from the old weight. Powers of 0 switch the operation's correction off."""
        # The operation's 1 - beta is float32's, which is off by 1e-5: these factors correct both moments.
        off_1, off_2 = (
            float(np.float32(1) - np.float32(beta)) / (1.0 - beta) * part
            for beta, part in zip((BETA_1, BETA_2), bias)
        )
        # One tensor each for all variables: every operation costs time before the first step.
        zero, beta_1, beta_2 = (tf.constant(value, tf.float32) for value in (0.0, BETA_1, BETA_2))
        shrink, rate = rate * self._config.weight_decay, rate * (tf.sqrt(off_2) / off_1)
        epsilon = self._config.epsilon * tf.sqrt(off_2)
        operations = []
        for variable, gradient, (m, v) in zip(self._variables, gradients, self._slots):
            decays = self._config.weight_decay and _decays(variable)
            before = [variable.assign_sub(shrink * variable, read_value=False)] if decays else []
            with tf.control_dependencies(before):
                operations.append(tf.raw_ops.ResourceApplyAdam(
                    var=variable.handle, m=m.handle, v=v.handle, beta1_power=zero, beta2_power=zero, lr=rate,
                    beta1=beta_1, beta2=beta_2, epsilon=epsilon, grad=gradient,
                ))  # fmt: skip
        return operations


def _adam(variable: Tensor, m: Tensor, v: Tensor, decay: float, epsilon: float) -> Tensor:
    update = m / (tf.sqrt(v) + epsilon)
    return update + decay * variable if decay else update


def _bias(count: Tensor) -> tuple[Tensor, Tensor]:
    """Compute 1 - beta^count, by which the moments are too small (Kingma and Ba 2015).

    By expm1, as 1 - 0.999 in float32 is off by 5e-5.
    """
    return -tf.math.expm1(count * math.log(BETA_1)), -tf.math.expm1(count * math.log(BETA_2))


def _lamb(variable: Tensor, m: Tensor, v: Tensor, decay: float, epsilon: float) -> Tensor:
    """Scale each variable's update to the variable's own norm (You et al. 2019), as NVIDIA's BERT does."""
    update = _adam(variable, m, v, decay, epsilon)
    weight, step = tf.norm(variable), tf.norm(update)
    usable = tf.logical_and(weight > 0, step > 0)
    return update * tf.where(usable, weight / tf.where(usable, step, 1.0), 1.0)
