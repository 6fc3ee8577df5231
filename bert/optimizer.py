"""Adam with decoupled weight decay, as google-research/bert's optimization.py computes it."""

from __future__ import annotations

from typing import Any, Dict, List, Sequence, Tuple

import tensorflow.compat.v1 as tf

NO_DECAY = ("LayerNorm", "layer_norm", "bias")


def learning_rate(step: Any, peak: float, steps: int, warmup: int) -> Any:
    """Rise linearly over `warmup` steps, then fall linearly from `peak` (as if from step 0) to 0."""
    step = tf.cast(step, tf.float32)
    falling = peak * (1.0 - tf.minimum(step, steps) / steps)
    if not warmup:
        return falling
    return tf.where(step < warmup, peak * step / warmup, falling)


def make_slots(variables: Sequence[Any]) -> Dict[str, Tuple[Any, Any]]:
    """Make the moments of each variable, under Google's names NAME/adam_m and NAME/adam_v."""
    slots = {}
    for variable in variables:
        name = variable.name.split(":")[0]
        slots[name] = tuple(
            tf.get_variable(
                name + suffix,
                variable.shape,
                tf.float32,
                tf.zeros_initializer(),
                trainable=False,
                use_resource=True,
            )
            for suffix in ("/adam_m", "/adam_v")
        )
    return slots


def apply(
    variables: Sequence[Any], gradients: Sequence[Any], slots: Any, rate: Any, decay: float, epsilon: float
) -> List[Any]:
    """Give the operations of one step. No bias correction of the moments: Google's has none."""
    operations = []
    for variable, gradient in zip(variables, gradients):
        name = variable.name.split(":")[0]
        m, v = slots[name]
        next_m = 0.9 * m + 0.1 * gradient
        next_v = 0.999 * v + 0.001 * tf.square(gradient)
        update = next_m / (tf.sqrt(next_v) + epsilon)
        if decay and not any(part in name for part in NO_DECAY):
            update += decay * variable
        operations += [variable.assign_sub(rate * update), m.assign(next_m), v.assign(next_v)]
    return operations
