"""Virtual devices on CPU cores: plain TensorFlow, gradients summed through shared memory."""

from __future__ import annotations

import os
import sys
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Callable, Iterator, Sequence, cast

import numpy as np
import tensorflow.compat.v1 as tf

from bert import environment, onednn
from bert.backend import collective, host_memory
from bert.backend.base import Backend
from bert.backend.collective.buckets import buckets
from bert.cluster import Cluster
from bert.fused import Gradient, custom_gradient

if TYPE_CHECKING:
    from bert.interfaces import RowCollective, Tensor

BUCKET_BYTES = 16 << 20  # gradients that are summed together
_AMP_OPTIONS = ("auto_mixed_precision_onednn_bfloat16", "auto_mixed_precision_mkl")  # TF 2.7 on; 2.4 to 2.6


class CpuBackend(Backend):
    """A rank on OMP_NUM_THREADS threads."""

    name = "cpu"
    fused_adam = True
    waited: float = 0.0

    def __init__(self, cluster: Cluster, amp: bool = False, kind: str = "auto") -> None:
        """Connect to the other ranks.

        amp: bfloat16 where oneDNN considers it safe; if it is impossible, rank 0 prints the reason.
        """
        host_memory.keep_freed()
        self.rank, self.size, self.servers = cluster.rank, cluster.size, cluster.servers
        self._amp = amp and self._can_amp()
        # A thread that has no part in a narrow operation continues with the next batch.
        self.predictions_at_once = 3 if environment.cores() > 1 else 1
        self._collective = collective.connect(cluster, kind)
        self.supports_sparse_gradients = hasattr(self._collective, "all_gather_rows")  # gRPC has none

    def _can_amp(self) -> bool:
        reason = amp_obstacle()
        if reason and self.rank == 0:
            print(f"--amp has no effect: {reason}; computing in float32", file=sys.stderr, flush=True)
        return not reason

    def session_config(self) -> Tensor:
        threads = environment.cores()
        # One more thread if a collective waits in it for the other ranks.
        waiting = 1 if self.size > 1 else 0
        config = tf.ConfigProto(
            intra_op_parallelism_threads=threads, inter_op_parallelism_threads=min(threads, 2) + waiting
        )
        rewriter = config.graph_options.rewrite_options
        if self._amp:
            setattr(rewriter, next(o for o in _AMP_OPTIONS if hasattr(rewriter, o)), 1)  # RewriterConfig.ON
        else:
            # One pass over the graph finds what two find, in 2 s less for BERT-base; untested with bfloat16.
            rewriter.meta_optimizer_iterations = 1
        return config

    def all_reduce_sum(self, tensors: Sequence[Tensor]) -> list[Tensor]:
        """Sum each tensor over the ranks, in buckets from the last tensor to the first.

        The backward pass computes the last layers' gradients first and continues while a bucket is summed.
        All ranks take the buckets in the same order. Rows of a table (IndexedSlices) come last, as the
        words' gradient does; they are concatenated, not added: a step has few words, and the table is large.
        """
        tensors = list(tensors)
        if self.size == 1:
            return tensors
        rows = [index for index, tensor in enumerate(tensors) if isinstance(tensor, tf.IndexedSlices)]
        dense = [index for index in range(len(tensors)) if index not in rows]
        summed: dict[int, Tensor] = {}
        before: list[Tensor] = []
        for bucket in buckets([(tensors[i].dtype.name, _bytes(tensors[i])) for i in dense], BUCKET_BYTES):
            with tf.control_dependencies(before):
                before = self._sum([tensors[dense[place]] for place in bucket])
            summed.update(zip((dense[place] for place in bucket), before))
        for index in rows:
            with tf.control_dependencies(before):
                summed[index] = self._joined(tensors[index])
            before = [summed[index].values]
        return [summed[index] for index in range(len(tensors))]

    def _joined(self, rows: Tensor) -> Tensor:
        joined = cast("RowCollective", self._collective)  # supports_sparse_gradients says that it is one

        def join(values: np.ndarray, indices: np.ndarray) -> list[np.ndarray]:
            with self._timed():
                return [joined.all_gather_rows(array) for array in (values, indices)]

        kinds = [rows.values.dtype, rows.indices.dtype]
        values, indices = tf.numpy_function(join, [rows.values, rows.indices], kinds)
        values.set_shape([None, *rows.values.shape[1:]])
        indices.set_shape([None])
        return tf.IndexedSlices(values, indices, rows.dense_shape)

    def _sum(self, tensors: list[Tensor]) -> list[Tensor]:
        def reduce(*arrays: np.ndarray) -> list[np.ndarray]:
            with self._timed():
                return self._collective.all_reduce_sum(arrays)

        summed = list(tf.numpy_function(reduce, tensors, [tensor.dtype for tensor in tensors]))
        for after, before in zip(summed, tensors):
            after.set_shape(before.shape)
        return summed

    @contextmanager
    def _timed(self) -> Iterator[None]:
        """Count the time of a collective; the graph runs one after another."""
        begin = time.monotonic()
        try:
            yield
        finally:
            self.waited += time.monotonic() - begin

    def broadcast(self, variables: Sequence[Tensor]) -> Tensor:
        if self.size == 1:
            return tf.no_op()
        mine = [variable if self.rank == 0 else tf.zeros_like(variable) for variable in variables]
        values = self.all_reduce_sum([tf.convert_to_tensor(value) for value in mine])
        return tf.group(*[variable.assign(value) for variable, value in zip(variables, values)])

    def barrier(self) -> None:
        self._collective.barrier()

    def all_gather(self, value: Any) -> list[Any]:
        return self._collective.all_gather(value)

    def dropout(self, x: Tensor, rate: float, seed: Tensor) -> Tensor:
        return _dropout(rate)(x, seed)

    def dropped_product(self, x: Tensor, y: Tensor, rate: float, seed: Tensor) -> Tensor:
        return _dropped_product(rate)(x, y, seed)

    def all_finite(self, tensors: Sequence[Tensor], norm: Tensor) -> Tensor:
        return tf.math.is_finite(norm)

    def close(self) -> None:
        collective.close(self._collective)


def _bytes(tensor: Tensor) -> int:
    size: int = tensor.dtype.size * (tensor.shape.num_elements() or 0)
    return size


def amp_obstacle() -> str:
    """Explain why bfloat16 is impossible on this machine with this TensorFlow; "" if it is possible."""
    rewriter = tf.ConfigProto().graph_options.rewrite_options
    if not any(hasattr(rewriter, option) for option in _AMP_OPTIONS):
        return f"TensorFlow {tf.__version__} has no bfloat16 on CPUs, TensorFlow 2 has"
    setting = os.environ.get(onednn.VARIABLE, "")
    if setting == "0":
        return "TF_ENABLE_ONEDNN_OPTS=0 switches oneDNN off"
    if setting != "1" and tuple(map(int, tf.__version__.split(".")[:2])) < onednn.SINCE:
        return f"oneDNN is off in TensorFlow {tf.__version__}; 2.9 and newer have it"
    flags = _cpu_flags()
    if "avx512f" not in flags and "avx_ne_convert" not in flags:
        return "oneDNN computes bfloat16 only on CPUs with AVX-512, this one has none"
    return ""


def _cpu_flags() -> Sequence[str]:
    with open("/proc/cpuinfo", encoding="utf-8") as stream:
        lines = [line for line in stream if line.startswith("flags")]
    return lines[0].split() if lines else ()


def _dropout(rate: float) -> Callable[..., Tensor]:
    keep = 1.0 / (1.0 - rate)

    @custom_gradient
    def drop(x: Tensor, seed: Tensor) -> tuple[Tensor, Gradient]:
        kept = _kept(tf.shape(x), rate, seed)  # one byte per element is kept for the backward pass
        return x * _mask(kept, keep), lambda above: (above * _mask_when(above, kept, keep), None)

    return drop


def _dropped_product(rate: float) -> Callable[..., Tensor]:
    keep = 1.0 / (1.0 - rate)

    @custom_gradient
    def product(x: Tensor, y: Tensor, seed: Tensor) -> tuple[Tensor, Gradient]:
        kept = _kept(tf.shape(x), rate, seed)

        def gradient(above: Tensor) -> tuple[Tensor, Tensor, None]:
            # Dropping again costs a pass; keeping what was dropped costs attention a quarter of its memory.
            mask = _mask_when(above, kept, keep)
            below = tf.matmul(above, y, transpose_b=True) * mask
            return below, tf.matmul(x * mask, above, transpose_a=True), None

        return tf.matmul(x * _mask(kept, keep), y), gradient

    return product


def _mask(kept: Tensor, factor: float) -> Tensor:
    return tf.cast(kept, tf.float32) * factor


def _mask_when(above: Tensor, kept: Tensor, factor: float) -> Tensor:
    """Build the mask when the gradient `above` exists: earlier, every mask would be kept as floats."""
    with tf.control_dependencies([above]):
        return _mask(tf.identity(kept), factor)


def _kept(shape: Tensor, rate: float, seed: Tensor) -> Tensor:
    """Draw a bool for each element, False with probability `rate`.

    Generating random numbers costs most of dropout's time, so one of 32 bits serves four elements: an element
    whose byte is below the threshold is dropped. The threshold is a multiple of 1/256 and itself drawn, so
    that its mean is `rate`.
    """
    count = tf.reduce_prod(shape)
    words = _random_words((count + 3) // 4 + 1, seed)
    fraction = tf.cast(tf.bitwise.bitwise_and(words[-1], 0xFFFFFF), tf.float32) / float(1 << 24)
    threshold = tf.cast(tf.floor(rate * 256.0 + fraction), tf.uint8)
    drawn = tf.reshape(tf.bitcast(words[:-1], tf.uint8), [-1])[:count]
    return tf.reshape(drawn >= threshold, shape)


def _random_words(count: Tensor, seed: Tensor) -> Tensor:
    if hasattr(tf.raw_ops, "StatelessRandomUniformFullInt"):
        return tf.random.stateless_uniform([count], seed, None, None, tf.int32)
    return tf.random.stateless_uniform([count], seed, -(2**31), 2**31 - 1, tf.int32)  # TF 1.15
