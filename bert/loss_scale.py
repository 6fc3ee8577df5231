"""Scale the loss so that small gradients survive half precision, and skip the steps that overflow.

A dynamic scale doubles after some (1000) steps in a row without overflow, and halves after some (2) steps
with overflow, consecutive or not, counted from the last change; it never falls below 1. This is the rule of
TensorFlow 1.15's contrib.mixed_precision.ExponentialUpdateLossScaleManager and of npu_bridge's, which is
based on it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import tensorflow.compat.v1 as tf

from bert.backend.base import Backend
from bert.train_config import HIGHEST_SCALE

if TYPE_CHECKING:
    from bert.interfaces import LossScaleManager, Tensor

EVERY = (1000, 2)  # good steps, bad steps
MOST_OVERFLOWS = 100  # overflows in a row that end the run: a scale of 2**32 has fallen to 1 after 64


def make(
    scale: float, initial: float, backend: Backend, every: tuple[int, int] = EVERY
) -> LossScaleManager | None:
    """Make the manager of the loss scale, the device's own if it has one; None: no scale.

    scale: below 0 means off, 0 dynamic, starting at `initial`, 1 or more static. ValueError: any other.
    every: steps without overflow after which it doubles, with overflow after which it halves.
    """
    if scale < 0:
        return None
    if not 1 <= (scale or initial) <= HIGHEST_SCALE:  # false for nan, too
        allowed = f"-1 (off), 0 (dynamic), or 1 to {HIGHEST_SCALE:g}"
        raise ValueError(f"loss scale {scale or initial:g} is invalid; give {allowed}")
    return backend.loss_scale_manager(scale, initial, every) or LossScale(scale, initial, every)


class LossScale:
    """A loss scale in variables of the graph, equal on all ranks."""

    def __init__(self, scale: float, initial: float, every: tuple[int, int] = EVERY) -> None:
        self._every = every
        self._dynamic = scale == 0
        self._scale = counter("loss_scale", scale or initial)
        self._good, self._bad = counter("loss_scale/good_steps"), counter("loss_scale/bad_steps")
        self.variables: list[Tensor] = [self._scale, self._good, self._bad]

    def get_loss_scale(self) -> Tensor:
        """Return the scale as a float32 tensor."""
        return tf.convert_to_tensor(self._scale)

    def update_loss_scale(self, finite: Tensor) -> Tensor:
        """Return the operation that takes notice of a step."""
        if not self._dynamic:
            return tf.no_op()
        scale, good, bad = (tf.convert_to_tensor(variable) for variable in self.variables)
        good, bad = tf.where(finite, good + 1.0, 0.0), tf.where(finite, bad, bad + 1.0)
        up, down = good >= self._every[0], bad >= self._every[1]
        # Not beyond float32: an infinite scale would stay infinite.
        doubled = tf.where(scale < HIGHEST_SCALE / 2.0, scale * 2.0, scale)
        scale = tf.where(up, doubled, tf.where(down, tf.maximum(scale / 2.0, 1.0), scale))
        changed = tf.logical_or(up, down)
        return tf.group(
            self._scale.assign(scale),
            self._good.assign(tf.where(changed, 0.0, good)),
            self._bad.assign(tf.where(changed, 0.0, bad)),
        )


def counter(name: str, start: float = 0.0) -> Tensor:
    """Create a float32 variable that is not trained."""
    return tf.get_variable(
        name, [], tf.float32, tf.constant_initializer(start), trainable=False, use_resource=True
    )
