"""System operations and dropout."""

from __future__ import annotations

import numbers
from typing import Any

import tensorflow.compat.v1 as tf
from npu_simulator.refusals import refused

from ..helper.helper import get_gen_ops

_ops = get_gen_ops()


def initialize_system(name: Any = None) -> Any:
    return _ops.npu_init(name=name or "NPUInit")


def shutdown_system(name: Any = None) -> Any:
    return _ops.npu_shutdown(name=name or "NPUShutdown")


def dropout(x: Any, keep_prob: Any, noise_shape: Any = None, seed: Any = None, name: Any = None) -> Any:
    x = tf.convert_to_tensor(x, name="x")
    if not x.dtype.is_floating:
        raise refused("dropout_of_integers", "x must be a floating point tensor.", ValueError)
    if isinstance(keep_prob, numbers.Real) and not 0 < keep_prob <= 1:
        raise refused("keep_prob_out_of_range", f"keep_prob is {keep_prob}", ValueError)
    if isinstance(keep_prob, float) and keep_prob == 1:
        return x
    first, second = tf.get_seed(seed)
    shape = tf.shape(x) if noise_shape is None else noise_shape
    mask = _ops.drop_out_gen_mask(shape, keep_prob, first, second, name)
    return _ops.drop_out_do_mask(x, mask, keep_prob, name)


def _dropout_gradient(operation: Any, upstream: Any) -> list[Any]:
    return [_ops.drop_out_do_mask(upstream, *operation.inputs[1:]), None, None]


tf.RegisterGradient("DropOutDoMask")(_dropout_gradient)
