"""What the operations compute: on CPU, with real collectives between the ranks."""

from __future__ import annotations

import math
from typing import Any, Callable, Sequence

import numpy as np
import tensorflow.compat.v1 as tf

from npu_simulator.device import DEVICE
from npu_simulator.graph import COLLECTIVES, mark, marks
from npu_simulator.refusals import refused

Kernel = Callable[..., Any]
_REDUCTIONS = {"sum": np.sum, "max": np.max, "min": np.min, "prod": np.prod}
_ROOT = math.sqrt(2.0 / math.pi)


def run(kind: str, inputs: list[Any], attrs: dict[str, Any], types: list[Any], name: Any) -> Any:
    """Put an operation into the graph; give its outputs, or the operation itself where it has none."""
    if kind in _MADE:
        return _MADE[kind](inputs, name or kind)
    if not types:
        operation = tf.no_op(name=name or kind)
        mark(operation, kind)
        return operation
    if kind in COLLECTIVES:
        return _collective(kind, inputs, attrs, types, name or kind)
    results = _function(kind, _KERNELS[kind](attrs), inputs, types, name or kind)
    for result, shape in zip(results, _shapes(kind, inputs)):
        result.set_shape(shape)
    mark(results[0].op, kind)
    return results


def _function(kind: str, kernel: Kernel, inputs: list[Any], types: list[Any], name: str) -> list[Any]:
    """Make a function of Python whose gradient is the one that is registered for this type of operation."""
    override = {"PyFunc": kind, "PyFuncStateless": kind}
    with tf.get_default_graph().gradient_override_map(override):
        return list(tf.numpy_function(kernel, inputs, types, name=name))


def _shapes(kind: str, inputs: list[Any]) -> list[Any]:
    """Give the shapes of the outputs, as the definitions' shape functions do."""
    if kind == "NpuGetFloatStatusV2":
        return [[8]]
    if kind == "DropOutGenMask":  # a bit an element, in blocks of 128
        wanted = tf.get_static_value(inputs[0])
        bits = None if wanted is None else int(np.prod(wanted))
        return [[None if bits is None else (bits + 127) // 128 * 16]]
    return [inputs[0].shape]


def _collective(
    kind: str, inputs: list[Any], attrs: dict[str, Any], types: list[Any], name: str
) -> list[Any]:
    """Make a collective that runs after the one made before it: on all ranks in the same order."""
    graph = tf.get_default_graph()
    held = marks(graph)
    _check(kind, attrs)
    kernel = _COLLECTIVE[kind](attrs)
    previous = next((made for made in reversed(list(held.kinds)) if held.kinds[made] == kind), None)
    label = [
        kind, len(held.kinds), [[x.dtype.name, x.shape.as_list()] for x in inputs], sorted(attrs.items()),
    ]  # fmt: skip

    def joined(*arrays: np.ndarray) -> Any:
        DEVICE.need("collective_before_init", kind)
        DEVICE.need_group(attrs["group"])
        DEVICE.agree("operation", label)
        return kernel(*arrays)

    waits = [graph.get_operation_by_name(previous)] if previous else []
    with tf.control_dependencies(waits):
        results = _function(kind, joined, inputs, types, name)
    for result, given in zip(results, inputs):
        result.set_shape(_of_all(given.shape, attrs) if kind == "HcomAllGather" else given.shape)
    operation = results[0].op
    mark(operation, kind, fusion=attrs.get("fusion", 0), fusion_id=attrs.get("fusion_id", -1))
    if previous:
        held.chained[operation.name] = previous
    _count_fused(kind, attrs, inputs)
    return results


def _check(kind: str, attrs: dict[str, Any]) -> None:
    fusion, number = attrs.get("fusion", 0), attrs.get("fusion_id", -1)
    allowed = (0, 1, 2) if kind == "HcomAllReduce" else (0, 2)
    if fusion not in allowed or (fusion == 2 and number < 0):
        raise refused("group", f"{kind}: fusion {fusion} with fusion_id {number}", ValueError)


def _of_all(shape: Any, attrs: dict[str, Any]) -> Any:
    if shape.rank == 0:
        raise ValueError("HcomAllGather: Shape must be at least rank 1 but is rank 0")
    first, *rest = shape.as_list()
    return [None if first is None else first * attrs["rank_size"], *rest]


def _count_fused(kind: str, attrs: dict[str, Any], inputs: Sequence[Any]) -> None:
    if attrs.get("fusion") == 2:
        size = sum(int(np.prod(x.shape.as_list())) * x.dtype.size for x in inputs)
        place = f"{kind} {attrs['fusion_id']}"
        DEVICE.fused[place] = DEVICE.fused.get(place, 0) + size


def _all_reduce(attrs: dict[str, Any]) -> Kernel:
    function = _REDUCTIONS[attrs["reduction"]]
    return lambda array: function(DEVICE.gather(array), axis=0).astype(array.dtype)


def _all_gather(attrs: dict[str, Any]) -> Kernel:
    def gather(array: np.ndarray) -> np.ndarray:
        if attrs["rank_size"] != DEVICE.size:
            raise refused(
                "rank_size", f"rank_size {attrs['rank_size']}, but the group has {DEVICE.size} ranks"
            )
        return np.concatenate(list(DEVICE.gather(array)))

    return gather


def _broadcast(attrs: dict[str, Any]) -> Kernel:
    root = attrs["root_rank"]
    return lambda *arrays: [DEVICE.gather(array)[root] for array in arrays]


def _gelu(attrs: dict[str, Any]) -> Kernel:
    """The fused operation's formula is the tanh approximation (CANN's documents)."""
    return lambda x: (0.5 * x * (1.0 + np.tanh(_ROOT * (x + 0.044715 * x**3)))).astype(x.dtype)


def _gelu_grad(attrs: dict[str, Any]) -> Kernel:
    def gradient(upstream: np.ndarray, x: np.ndarray, _: np.ndarray) -> np.ndarray:
        tanh = np.tanh(_ROOT * (x + 0.044715 * x**3))
        inner = _ROOT * (1.0 + 3 * 0.044715 * x**2)
        return (upstream * (0.5 * (1.0 + tanh) + 0.5 * x * (1.0 - tanh**2) * inner)).astype(x.dtype)

    return gradient


def _gen_mask(attrs: dict[str, Any]) -> Kernel:
    random = np.random.RandomState((attrs["seed"] * 31 + attrs["seed2"]) % (1 << 31))

    def mask(shape: np.ndarray, keep: np.ndarray) -> np.ndarray:
        count = (int(np.prod(shape)) + 127) // 128 * 128
        return np.packbits(random.uniform(size=count) < keep)

    return mask


def _do_mask(attrs: dict[str, Any]) -> Kernel:
    def drop(x: np.ndarray, mask: np.ndarray, keep: np.ndarray) -> np.ndarray:
        kept = np.unpackbits(mask)[: x.size].reshape(x.shape)
        return (x * kept / keep).astype(x.dtype)

    return drop


def _flag(attrs: dict[str, Any]) -> Kernel:
    def read() -> np.ndarray:
        DEVICE.need("collective_before_init", "NpuGetFloatStatusV2")
        return np.array([int(DEVICE.overflowed())] + [0] * 7, np.int32)

    return read


def _buffer(inputs: list[Any], name: str) -> list[Any]:
    """Give a buffer that NpuGetFloatStatus writes into: a reference, as the device's memory is."""
    held = tf.Variable([0.0], trainable=False, use_resource=False, collections=[], name="float_status")
    return [tf.assign(held, [0.0], name=name)]


def _read_into(inputs: list[Any], name: str) -> list[Any]:
    def read() -> np.ndarray:
        DEVICE.need("collective_before_init", "NpuGetFloatStatus")
        return np.array([float(DEVICE.overflowed())], np.float32)

    flag = tf.numpy_function(read, [], tf.float32, name=name)
    flag.set_shape([1])
    mark(flag.op, "NpuGetFloatStatus")
    return [tf.assign(inputs[0], flag)]


def _cleared(inputs: list[Any], name: str) -> list[Any]:
    with tf.control_dependencies(inputs):
        zeros = tf.zeros([1], name=name)
    mark(zeros.op, "NpuClearFloatStatus")
    return [zeros]


_KERNELS: dict[str, Callable[[dict[str, Any]], Kernel]] = {
    "Gelu": _gelu,
    "GeluGrad": _gelu_grad,
    "DropOutGenMask": _gen_mask,
    "DropOutDoMask": _do_mask,
    "NpuGetFloatStatusV2": _flag,
}
_COLLECTIVE: dict[str, Callable[[dict[str, Any]], Kernel]] = {
    "HcomAllReduce": _all_reduce,
    "HcomAllGather": _all_gather,
    "HcomBroadcast": _broadcast,
}
# The first float status works on a buffer, which no pure function can.
_MADE: dict[str, Callable[[list[Any], str], list[Any]]] = {
    "NpuAllocFloatStatus": _buffer,
    "NpuGetFloatStatus": _read_into,
    "NpuClearFloatStatus": _cleared,
}
