"""The loop on the device: its variables, and the operation that says "again"."""

from __future__ import annotations

import os
from typing import Any

import tensorflow.compat.v1 as tf
from npu_simulator.names import has
from npu_simulator.refusals import refused
from tensorflow.python.framework import ops
from tensorflow.python.training import training_util

_SCOPE = "npu_runconfig"
_NAMES = ("iterations_per_loop", "loop_cond", "zero", "one")
_TUNES = has("behaviour", "aoe_mode_allows_one_step")  # up to r1.11.0: that of a tuning job


def check_positive_integer(value: Any, name: str) -> None:
    if not isinstance(value, int):
        raise refused("loop_count_is_no_int", f"{name} must be int, got {type(value)}", TypeError)
    if value <= 0:
        raise refused("loop_count_not_positive", f"{name} must be positive, got {value}", ValueError)


def create_or_get_var(var_name: str) -> Any:
    """Make one of the loop's variables beside the global step, which TensorFlow must be able to tell."""
    collection = f"{_SCOPE}_{var_name}"
    found = tf.get_collection(collection)
    if found:
        return found[0]
    step = training_util.get_global_step()
    with ops.colocate_with(step, ignore_existing=step is None), tf.variable_scope(
        _SCOPE, reuse=tf.AUTO_REUSE
    ):
        return tf.get_variable(
            var_name, [], tf.int64, tf.zeros_initializer(), trainable=False, use_resource=True,
            collections=[collection, tf.GraphKeys.LOCAL_VARIABLES],
        )  # fmt: skip


def _check_operation(train_op: Any) -> None:
    if not isinstance(train_op, tf.Operation):
        text = f"The incoming 'train_op' type is {type(train_op)}, not Operation"
        raise refused("train_op_is_no_operation", text, ValueError)


def _variables() -> dict[str, Any]:
    return {name: create_or_get_var(name) for name in _NAMES}


def _load(held: dict[str, Any], session: Any, iterations: int) -> None:
    for name, value in zip(_NAMES, (iterations - 1, 0, 0, 1)):
        held[name].load(value, session)


class IterationPerLoop:
    """The loop's variables and operation first, the number of steps later."""

    def create_iteration_per_loop_var(self, train_op: Any) -> Any:
        _check_operation(train_op)
        self._held = _variables()
        return tf.group(train_op, name="IterationOp")

    def load_iteration_per_loop_var(self, sess: Any, iterations_per_loop: int = 1) -> None:
        check_positive_integer(iterations_per_loop, "iterations_per_loop")
        if _TUNES and os.environ.get("AOE_MODE") is not None:
            iterations_per_loop = 1
        _load(self._held, sess, iterations_per_loop)


def set_iteration_per_loop(sess: Any, train_op: Any, iterations_per_loop: int = 1) -> Any:
    _check_operation(train_op)
    check_positive_integer(iterations_per_loop, "iterations_per_loop")
    if iterations_per_loop == 1 or (_TUNES and os.environ.get("AOE_MODE") is not None):
        return train_op
    _load(_variables(), sess, iterations_per_loop)
    return tf.group(train_op, name="IterationOp")
