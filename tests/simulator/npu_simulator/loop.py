"""The loop over training steps on the device: its variables, and the operation that says "again"."""

from __future__ import annotations

from typing import Any, Dict

import tensorflow.compat.v1 as tf

from npu_simulator.graph import LOOP_OPERATION, marks

_NAMES = ("iterations_per_loop", "loop_cond", "zero", "one")


def _variables() -> Dict[str, Any]:
    with tf.variable_scope("npu_runconfig", reuse=tf.AUTO_REUSE):
        held = {
            name: tf.get_variable(
                name, [], tf.int64, tf.zeros_initializer(), trainable=False, use_resource=True,
                collections=[tf.GraphKeys.LOCAL_VARIABLES],
            )
            for name in _NAMES
        }  # fmt: skip
    marks(tf.get_default_graph()).loop_variable = held["iterations_per_loop"]
    return held


def _check(iterations: Any) -> None:
    if not isinstance(iterations, int) or isinstance(iterations, bool):
        raise TypeError("iterations_per_loop must be int, got %s" % type(iterations))
    if iterations <= 0:
        raise ValueError("iterations_per_loop must be positive, got %d" % iterations)


def _check_operation(train_op: Any) -> None:
    if not isinstance(train_op, tf.Operation):
        raise ValueError("The incoming 'train_op' is no Operation but %s" % type(train_op))


def _wrap(train_op: Any) -> Any:
    return tf.group(train_op, name=LOOP_OPERATION)


def _load(held: Dict[str, Any], session: Any, iterations: int) -> None:
    for name, value in zip(_NAMES, (iterations - 1, 0, 0, 1)):
        held[name].load(value, session)


class IterationPerLoop:
    """Make the loop's variables and operation first, and say the number of steps later."""

    def create_iteration_per_loop_var(self, train_op: Any) -> Any:
        _check_operation(train_op)
        self._held = _variables()
        return _wrap(train_op)

    def load_iteration_per_loop_var(self, sess: Any, iterations_per_loop: int = 1) -> None:
        _check(iterations_per_loop)
        _load(self._held, sess, iterations_per_loop)


def set_iteration_per_loop(sess: Any, train_op: Any, iterations_per_loop: int = 1) -> Any:
    _check_operation(train_op)
    _check(iterations_per_loop)
    if iterations_per_loop == 1:
        return train_op
    held = _variables()
    _load(held, sess, iterations_per_loop)
    return _wrap(train_op)
