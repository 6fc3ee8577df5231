"""Functions with gradients of their own: fewer passes over memory, and less kept for the backward pass.

On a CPU these are bound by memory, so their time is the number of arrays that are read and written.
"""

from __future__ import annotations

import math
from typing import Any, Callable

import tensorflow.compat.v1 as tf

from bert.interfaces import Tensor

Gradient = Callable[
    [Tensor], Any
]  # from the gradient of the result to that of each input; None: an input has none


def custom_gradient(function: Callable[..., tuple[Tensor, Gradient]]) -> Callable[..., Tensor]:
    """Apply tf.custom_gradient, which has no types."""
    decorated: Callable[..., Tensor] = tf.custom_gradient(function)
    return decorated


@custom_gradient
def exact_gelu(x: Tensor) -> tuple[Tensor, Gradient]:
    """Compute x * Phi(x) by the error function (Hendrycks and Gimpel 2016). Only x is kept."""
    scale = 1.0 / math.sqrt(2.0)

    def gradient(above: Tensor) -> Tensor:
        # Phi(x) + x phi(x), with u = x / sqrt(2): (1 + erf(u)) / 2 + u exp(-u * u) / sqrt(pi)
        with tf.control_dependencies([above]):  # computed earlier, it would be kept in memory
            u = x * scale
        bell = tf.exp(-tf.square(u))
        return above * (0.5 + (0.5 * tf.math.erf(u) + (1.0 / math.sqrt(math.pi)) * (u * bell)))

    return (0.5 * x) * (1.0 + tf.math.erf(x * scale)), gradient


def layer_norm(x: Tensor, gamma: Tensor, beta: Tensor, epsilon: float) -> Tensor:
    """Normalise the rows of x [T, H] (Ba et al. 2016): mean 0 and variance 1, times gamma, plus beta [H]."""
    return _layer_norm(epsilon)(x, tf.convert_to_tensor(gamma), tf.convert_to_tensor(beta))


def _layer_norm(epsilon: float) -> Callable[..., Tensor]:
    @custom_gradient
    def norm(x: Tensor, gamma: Tensor, beta: Tensor) -> tuple[Tensor, Gradient]:
        centred = x - tf.reduce_mean(x, axis=-1, keepdims=True)
        variance = tf.reduce_mean(tf.square(centred), axis=-1, keepdims=True)
        inverse = tf.math.rsqrt(variance + epsilon)
        normal = centred * inverse

        def gradient(above: Tensor) -> tuple[Tensor, Tensor, Tensor]:
            product = above * normal
            # The rows' means of above * gamma and of above * gamma * normal, as products with a vector.
            weights = gamma[:, None] / tf.cast(tf.shape(gamma)[0], gamma.dtype)
            mean, slope = tf.matmul(above, weights), tf.matmul(product, weights)
            below = inverse * (above * gamma - mean - normal * slope)
            return below, _sum_rows(product), _sum_rows(above)

        return normal * gamma + beta, gradient

    return norm


def recomputed(function: Callable[..., Tensor], *inputs: Tensor) -> Tensor:
    """Compute function(*inputs), whose inner values are not kept but computed again in the backward pass.

    Gradients go to `inputs` alone. Random numbers that the function draws must be the same the second time.
    """

    @custom_gradient
    def run(*given: Tensor) -> tuple[Tensor, Gradient]:
        def gradient(above: Tensor) -> Any:
            with tf.control_dependencies([above]):  # neither merged with the forward pass nor run beside it
                again = [tf.identity(value) for value in given]
            return tf.gradients(function(*again), again, grad_ys=above)

        return function(*given), gradient

    return run(*inputs)


def _sum_rows(x: Tensor) -> Tensor:
    """Add up the rows of [T, H]; the gradient of a bias is the fastest operation for it."""
    return tf.raw_ops.BiasAddGrad(out_backprop=x)
