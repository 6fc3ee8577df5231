"""The fused gelu and its gradient."""

from __future__ import annotations

from typing import Any

import tensorflow.compat.v1 as tf

from ..helper.helper import get_gen_ops

npu_unary_ops = get_gen_ops()


def _gelu_gradient(operation: Any, upstream: Any) -> list[Any]:
    return [npu_unary_ops.gelu_grad(upstream, operation.inputs[0], operation.outputs[0])]


tf.RegisterGradient("Gelu")(_gelu_gradient)
