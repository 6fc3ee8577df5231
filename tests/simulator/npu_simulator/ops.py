"""The operations themselves: on CPU, with real collectives between the ranks."""

from __future__ import annotations

import math
import numbers
from typing import Any, List, Sequence

import numpy as np
import tensorflow.compat.v1 as tf

from npu_simulator.device import DEVICE, WORLD, Refused
from npu_simulator.graph import mark, marks

REDUCTIONS = {"sum": np.sum, "max": np.max, "min": np.min, "prod": np.prod}
_REDUCIBLE = ("int8", "int16", "int32", "float16", "float32")
_MOVABLE = (*_REDUCIBLE, "int64", "uint64")


def system(kind: str, name: Any) -> Any:
    """Give initialize_system or shutdown_system: what they do is done around the run."""
    operation = tf.no_op(name=name or {"initialize_system": "NPUInit"}.get(kind, "NPUShutdown"))
    mark(operation, kind)
    return operation


def allreduce(tensor: Any, reduction: str, fusion: int, fusion_id: int, group: str) -> Any:
    tensor = tf.convert_to_tensor(tensor)
    if reduction not in REDUCTIONS:
        raise ValueError("reduction %r is none of %s" % (reduction, sorted(REDUCTIONS)))
    _check(tensor, _REDUCIBLE, fusion, (0, 1, 2), fusion_id, group)

    def reduce(array: np.ndarray) -> np.ndarray:
        return REDUCTIONS[reduction](DEVICE.gather(array), axis=0).astype(array.dtype)

    [result] = _collective("allreduce", [tensor], reduce, reduction, fusion, fusion_id, group)
    result.set_shape(tensor.shape)
    return result


def allgather(tensor: Any, rank_size: int, group: str, fusion: int, fusion_id: int) -> Any:
    tensor = tf.convert_to_tensor(tensor)
    _check(tensor, _MOVABLE, fusion, (0, 2), fusion_id, group)
    if tensor.shape.rank == 0:
        raise ValueError("allgather: a scalar cannot be gathered")

    def gather(array: np.ndarray) -> np.ndarray:
        if rank_size != DEVICE.size:
            raise Refused("EI0003: rank_size %d, but the group has %d ranks" % (rank_size, DEVICE.size))
        return np.concatenate(list(DEVICE.gather(array)))

    [result] = _collective("allgather", [tensor], gather, rank_size, fusion, fusion_id, group)
    result.set_shape([tensor.shape[0] * rank_size, *tensor.shape[1:]])
    return result


def broadcast(tensors: Sequence[Any], root_rank: int, fusion: int, fusion_id: int, group: str) -> List[Any]:
    if not isinstance(tensors, (list, tuple)):
        raise TypeError("broadcast: give a list of tensors")
    tensors = [tf.convert_to_tensor(tensor) for tensor in tensors]
    for tensor in tensors:
        _check(tensor, _MOVABLE, fusion, (0, 2), fusion_id, group)

    def copy(*arrays: np.ndarray) -> List[np.ndarray]:
        return [DEVICE.gather(array)[root_rank] for array in arrays]

    results = _collective("broadcast", tensors, copy, root_rank, fusion, fusion_id, group)
    for result, tensor in zip(results, tensors):
        result.set_shape(tensor.shape)
    return results


def _check(tensor: Any, types: Any, fusion: int, fusions: Any, fusion_id: int, group: str) -> None:
    if tensor.dtype.name not in types:
        raise TypeError("%s: HCCL does not take %s here" % (tensor.name, tensor.dtype.name))
    if fusion not in fusions or (fusion == 2 and fusion_id < 0):
        raise ValueError("fusion %d with fusion_id %d" % (fusion, fusion_id))
    if group != WORLD:
        DEVICE.need_group(group)


def _collective(kind: str, tensors: List[Any], function: Any, *attributes: Any) -> List[Any]:
    """Make a collective that runs after the one made before it: on all ranks in the same order."""
    held = marks(tf.get_default_graph())
    previous = next((name for name in reversed(list(held.kinds)) if held.kinds[name] == kind), None)
    label = [kind, len(held.kinds), [[t.dtype.name, t.shape.as_list()] for t in tensors], list(attributes)]

    def run(*arrays: np.ndarray) -> Any:
        DEVICE.need(kind)
        DEVICE.need_group(attributes[-1])
        DEVICE.agree("operation", label)
        return function(*arrays)

    waits = [tf.get_default_graph().get_operation_by_name(previous)] if previous else []
    with tf.control_dependencies(waits):
        results = tf.numpy_function(run, tensors, [tensor.dtype for tensor in tensors], name="Hcom_" + kind)
    operation = results[0].op
    mark(operation, kind, fusion=attributes[-3], fusion_id=attributes[-2])
    if previous:
        held.chained[operation.name] = previous
    size = sum(int(np.prod(t.shape.as_list())) * t.dtype.size for t in tensors)
    if attributes[-3] == 2:
        place = "%s %d" % (kind, attributes[-2])
        DEVICE.fused[place] = DEVICE.fused.get(place, 0) + size
    return list(results)


def gelu(features: Any, name: Any = None) -> Any:
    """Give what the fused operation gives: the tanh approximation."""
    x = tf.convert_to_tensor(features)
    result = tf.multiply(
        0.5 * x, 1.0 + tf.tanh(math.sqrt(2.0 / math.pi) * (x + 0.044715 * x * x * x)), name=name or "Gelu"
    )
    mark(result.op, "gelu")
    return result


def dropout(x: Any, keep_prob: Any, noise_shape: Any = None, seed: Any = None, name: Any = None) -> Any:
    x = tf.convert_to_tensor(x)
    if not x.dtype.is_floating:
        raise ValueError("x has to be a floating point tensor: %s" % x.dtype)
    if isinstance(keep_prob, numbers.Real) and not 0 < keep_prob <= 1:
        raise ValueError("keep_prob must be in the range (0, 1]: %g" % keep_prob)
    if isinstance(keep_prob, float) and keep_prob == 1:
        return x
    result = tf.identity(
        tf.nn.dropout(x, rate=1 - keep_prob, noise_shape=noise_shape, seed=seed), name or "DropOutDoMask"
    )
    mark(result.op, "dropout")
    return result


class FloatStatus:
    """The operations on the overflow flag, of CANN 6 and later (v2), or of CANN 5 where `old`."""

    def __init__(self, old: bool = False) -> None:
        if old:
            self.npu_alloc_float_status = self._alloc
            self.npu_get_float_status = self._get_into
            self.npu_clear_float_status = self._clear_old
        else:
            self.npu_get_float_status_v2 = self._get
            self.npu_clear_float_status_v2 = self._clear

    def _read(self) -> np.ndarray:
        DEVICE.need("npu_get_float_status")
        return np.array([float(DEVICE.overflowed())] + [0.0] * 7, np.float32)

    def _get(self, name: Any = None) -> Any:
        status = tf.numpy_function(self._read, [], tf.float32, name=name or "NpuGetFloatStatusV2")
        status.set_shape([8])
        mark(status.op, "get_float_status")
        return status

    def _clear(self, name: Any = None) -> Any:
        operation = tf.no_op(name=name or "NpuClearFloatStatusV2")
        mark(operation, "clear_float_status")
        return operation

    def _alloc(self, name: Any = None) -> Any:
        """Give a buffer that npu_get_float_status writes into: a reference, as the device's memory is."""
        buffer = tf.Variable([0.0], trainable=False, use_resource=False, collections=[], name="float_status")
        return tf.assign(buffer, [0.0], name=name)

    def _get_into(self, status: Any, name: Any = None) -> Any:
        read = tf.numpy_function(lambda: self._read()[:1], [], tf.float32, name=name or "NpuGetFloatStatus")
        read.set_shape([1])
        mark(read.op, "get_float_status")
        return tf.assign(status, read)

    def _clear_old(self, status: Any, name: Any = None) -> Any:
        with tf.control_dependencies([status]):
            cleared = tf.zeros([1], name=name or "NpuClearFloatStatus")
        mark(cleared.op, "clear_float_status")
        return cleared
