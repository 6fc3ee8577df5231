"""Virtual devices on CPU cores: plain TensorFlow, gradients summed through shared memory."""

from __future__ import annotations

import os
from typing import Any, List, Sequence

import numpy as np
import tensorflow.compat.v1 as tf

from bert.backend.base import Backend
from bert.backend.collective import shared_memory
from bert.cluster import Cluster
from bert.model import exact_gelu


class CpuBackend(Backend):
    """Run a rank on OMP_NUM_THREADS threads."""

    name = "cpu"

    def __init__(self, cluster: Cluster) -> None:
        self.rank, self.size = cluster.rank, cluster.size
        name = "%s-%d" % (cluster.run_id, cluster.attempt)
        self._collective = shared_memory.connect(name, cluster.rank, cluster.size)

    def session_config(self) -> Any:
        threads = int(os.environ.get("OMP_NUM_THREADS", "0")) or len(os.sched_getaffinity(0))
        return tf.ConfigProto(intra_op_parallelism_threads=threads, inter_op_parallelism_threads=2)

    def all_reduce_sum(self, tensors: Sequence[Any]) -> List[Any]:
        tensors = list(tensors)
        if self.size == 1:
            return tensors

        def reduce(*arrays: np.ndarray) -> List[np.ndarray]:
            total = self._collective.all_reduce_sum(shared_memory.concatenate(arrays))
            ends = np.cumsum([array.size for array in arrays])[:-1]
            return [part.reshape(a.shape) for part, a in zip(np.split(total, ends), arrays)]

        summed = tf.numpy_function(reduce, tensors, [tensor.dtype for tensor in tensors])
        for after, before in zip(summed, tensors):
            after.set_shape(before.shape)
        return list(summed)

    def broadcast(self, variables: Sequence[Any]) -> Any:
        mine = [variable if self.rank == 0 else tf.zeros_like(variable) for variable in variables]
        values = self.all_reduce_sum([tf.convert_to_tensor(value) for value in mine])
        return tf.group(*[variable.assign(value) for variable, value in zip(variables, values)])

    def barrier(self) -> None:
        self._collective.barrier()

    def all_gather(self, value: Any) -> List[Any]:
        return self._collective.all_gather(value)

    def gelu(self, x: Any) -> Any:
        return exact_gelu(x)

    def dropout(self, x: Any, rate: float, seed: Any) -> Any:
        kept = tf.random.stateless_uniform(tf.shape(x), seed) >= rate
        return x * (tf.cast(kept, x.dtype) * (1.0 / (1.0 - rate)))

    def all_finite(self, tensors: Sequence[Any], norm: Any) -> Any:
        return tf.math.is_finite(norm)
