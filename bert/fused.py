"""Functions with gradients of their own: fewer passes over memory, and less kept for the backward pass.

On a CPU these are bound by memory, so their time is the number of arrays that are read and written.
"""

from __future__ import annotations

import math
from typing import Any, Callable

import tensorflow.compat.v1 as tf

Gradient = Callable[[Any], Any]


@tf.custom_gradient
def exact_gelu(x: Any) -> tuple[Any, Gradient]:
    """Give x * Phi(x), with the error function (Hendrycks and Gimpel 2016). Only x is kept."""
    scale = 1.0 / math.sqrt(2.0)

    def gradient(above: Any) -> Any:
        # Phi(x) + x phi(x), with u = x / sqrt(2): (1 + erf(u)) / 2 + u exp(-u * u) / sqrt(pi)
        with tf.control_dependencies([above]):  # not before it is needed: it would be held in memory
            u = x * scale
        bell = tf.exp(-tf.square(u))
        return above * (0.5 + (0.5 * tf.math.erf(u) + (1.0 / math.sqrt(math.pi)) * (u * bell)))

    return (0.5 * x) * (1.0 + tf.math.erf(x * scale)), gradient


def layer_norm(x: Any, gamma: Any, beta: Any, epsilon: float) -> Any:
    """Normalise the rows of x [T, H] (Ba et al. 2016): mean 0 and variance 1, times gamma, plus beta [H]."""
    return _layer_norm(epsilon)(x, tf.convert_to_tensor(gamma), tf.convert_to_tensor(beta))


def _layer_norm(epsilon: float) -> Callable[..., Any]:
    @tf.custom_gradient
    def norm(x: Any, gamma: Any, beta: Any) -> tuple[Any, Gradient]:
        centred = x - tf.reduce_mean(x, axis=-1, keepdims=True)
        variance = tf.reduce_mean(tf.square(centred), axis=-1, keepdims=True)
        inverse = tf.math.rsqrt(variance + epsilon)
        normal = centred * inverse

        def gradient(above: Any) -> tuple[Any, Any, Any]:
            product = above * normal
            # The rows' means of above * gamma and of above * gamma * normal, as products with a vector.
            weights = gamma[:, None] / tf.cast(tf.shape(gamma)[0], gamma.dtype)
            mean, slope = tf.matmul(above, weights), tf.matmul(product, weights)
            below = inverse * (above * gamma - mean - normal * slope)
            return below, _sum_rows(product), _sum_rows(above)

        return normal * gamma + beta, gradient

    return norm


def recomputed(function: Callable[..., Any], *inputs: Any) -> Any:
    """Give function(*inputs), whose inside is not kept but computed again in the backward pass.

    Gradients go to `inputs` alone. What the function draws at random must come out the same again.
    """

    @tf.custom_gradient
    def run(*given: Any) -> tuple[Any, Gradient]:
        def gradient(above: Any) -> list[Any]:
            with tf.control_dependencies([above]):  # not merged with the forward pass, nor run beside it
                again = [tf.identity(value) for value in given]
            return tf.gradients(function(*again), again, grad_ys=above)

        return function(*given), gradient

    return run(*inputs)


def _sum_rows(x: Any) -> Any:
    """Add the rows of [T, H] up: the gradient of a bias is the fastest form of it."""
    return tf.raw_ops.BiasAddGrad(out_backprop=x)
