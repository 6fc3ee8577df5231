"""Adam with decoupled weight decay, as google-research/bert has it and as AdamW; NVIDIA's LAMB; clipping."""

from __future__ import annotations

import math
from typing import Any, Sequence

import numpy as np
import tensorflow.compat.v1 as tf

NO_DECAY = ("LayerNorm", "layer_norm", "bias")
BETA_1, BETA_2 = 0.9, 0.999


def learning_rate(step: Any, peak: float, steps: int, warmup: int, power: float = 1.0) -> Any:
    """Rise linearly over `warmup` steps, then fall from `peak` (as if from step 0) to 0 at `steps`."""
    step = tf.cast(step, tf.float32)
    falling = peak * tf.pow(1.0 - tf.minimum(step, steps) / steps, power)
    if not warmup:
        return falling
    return tf.where(step < warmup, peak * step / warmup, falling)


def make_slots(variables: Sequence[Any]) -> dict[str, tuple[Any, Any]]:
    """Make the moments of each variable, under Google's names NAME/adam_m and NAME/adam_v."""
    return {_name(v): (_slot(v, "/adam_m"), _slot(v, "/adam_v")) for v in variables}


def _slot(variable: Any, suffix: str) -> Any:
    zeros = tf.zeros_initializer()
    name = _name(variable) + suffix
    return tf.get_variable(name, variable.shape, tf.float32, zeros, trainable=False, use_resource=True)


def _decays(variable: Any) -> bool:
    return not any(part in _name(variable) for part in NO_DECAY)


def _name(variable: Any) -> str:
    return str(variable.name).split(":")[0]


def clip(gradients: Sequence[Any], norm: Any, mode: str, limit: float) -> list[Any]:
    """Limit the gradients' norm, of all together or of each; `norm` is that of all together."""
    if mode == "global":
        return list(tf.clip_by_global_norm(list(gradients), limit, use_norm=norm)[0])
    if mode == "per_tensor":
        return [tf.clip_by_norm(gradient, limit) for gradient in gradients]
    if mode == "none":
        return list(gradients)
    raise ValueError(f"clip {mode!r} is none of global, per_tensor, none")


def apply(
    kind: str,
    variables: Sequence[Any],
    gradients: Sequence[Any],
    slots: dict[str, tuple[Any, Any]],
    rate: Any,
    count: Any,
    decay: float,
    epsilon: float,
    fused: bool = False,
) -> list[Any]:
    """Give the operations of one update, the `count`-th from 1 (float32). ValueError: no such optimizer.

    fused: TensorFlow's one operation for Adam, which passes over memory once; rounding apart, the same.
    """
    rules = {"adam": _adam, "adamw": _adam, "lamb": _lamb}
    if kind not in rules:
        raise ValueError("optimizer_type {!r} is none of {}".format(kind, ", ".join(rules)))
    bias = None if kind == "adam" else _bias(count)  # Google's has no correction
    if fused and kind != "lamb":
        return _fused_adam(variables, gradients, slots, rate, decay, epsilon, bias or (1.0, 1.0))
    operations = []
    for variable, gradient in zip(variables, gradients):
        m, v = slots[_name(variable)]
        next_m = BETA_1 * m + (1.0 - BETA_1) * gradient
        next_v = BETA_2 * v + (1.0 - BETA_2) * tf.square(gradient)
        decayed = decay if _decays(variable) else 0.0
        unbiased = (next_m / bias[0], next_v / bias[1]) if bias else (next_m, next_v)
        update = rules[kind](variable, *unbiased, decayed, epsilon)
        operations += [variable.assign_sub(rate * update), m.assign(next_m), v.assign(next_v)]
    return operations


def _adam(variable: Any, m: Any, v: Any, decay: float, epsilon: float) -> Any:
    update = m / (tf.sqrt(v) + epsilon)
    return update + decay * variable if decay else update


def _bias(count: Any) -> tuple[Any, Any]:
    """Give 1 - beta^count, what the moments are short of (Kingma and Ba 2015).

    By expm1, as 1 - 0.999 in float32 is off by 5e-5.
    """
    return -tf.math.expm1(count * math.log(BETA_1)), -tf.math.expm1(count * math.log(BETA_2))


def _fused_adam(
    variables: Sequence[Any],
    gradients: Sequence[Any],
    slots: Any,
    rate: Any,
    decay: float,
    epsilon: float,
    bias: tuple[Any, Any],
) -> list[Any]:
    """Decay, then step; both from the weight before. Powers of 0 switch the operation's correction off."""
    # The operation takes 1 - beta in float32, which is off by 1e-5: both moments are by these factors.
    off_1, off_2 = (
        float(np.float32(1) - np.float32(beta)) / (1.0 - beta) * part
        for beta, part in zip((BETA_1, BETA_2), bias)
    )
    # One tensor each for all variables: operations cost time before the first step.
    zero, beta_1, beta_2 = (tf.constant(value, tf.float32) for value in (0.0, BETA_1, BETA_2))
    shrink, rate = rate * decay, rate * (tf.sqrt(off_2) / off_1)
    epsilon = epsilon * tf.sqrt(off_2)
    operations = []
    for variable, gradient in zip(variables, gradients):
        decays = decay and _decays(variable)
        before = [variable.assign_sub(shrink * variable, read_value=False)] if decays else []
        m, v = slots[_name(variable)]
        with tf.control_dependencies(before):
            operations.append(tf.raw_ops.ResourceApplyAdam(
                var=variable.handle, m=m.handle, v=v.handle, beta1_power=zero, beta2_power=zero, lr=rate,
                beta1=beta_1, beta2=beta_2, epsilon=epsilon, grad=gradient,
            ))  # fmt: skip
    return operations


def _lamb(variable: Any, m: Any, v: Any, decay: float, epsilon: float) -> Any:
    """Scale each variable's update to the variable's own norm (You et al. 2019), as NVIDIA's BERT does."""
    update = _adam(variable, m, v, decay, epsilon)
    weight, step = tf.norm(variable), tf.norm(update)
    usable = tf.logical_and(weight > 0, step > 0)
    return update * tf.where(usable, weight / tf.where(usable, step, 1.0), 1.0)
