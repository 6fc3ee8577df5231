"""What a graph asks of the device: the operations that stand for NPU ones, and the checks before a run."""

from __future__ import annotations

import hashlib
import weakref
from dataclasses import dataclass, field
from typing import Any, Iterable, Sequence

from npu_simulator.device import DEVICE
from npu_simulator.refusals import refused

LOOP_OPERATION = "IterationOp"  # the adapter goes by this very name
COLLECTIVES = ("HcomAllReduce", "HcomAllGather", "HcomBroadcast")
_HOST = ("Dataset", "Iterator", "Save", "Restore", "MergeV2", "ShardedFilename")


@dataclass
class Marks:
    """Hold, for a graph, which operations stand for NPU operations, by name."""

    kinds: dict[str, str] = field(default_factory=dict)
    details: dict[str, dict[str, Any]] = field(default_factory=dict)
    chained: dict[str, str] = field(default_factory=dict)  # collective -> the one it waits for


_MARKS: weakref.WeakKeyDictionary[Any, Marks] = weakref.WeakKeyDictionary()


def marks(graph: Any) -> Marks:
    """Give the marks of a graph."""
    return _MARKS.setdefault(graph, Marks())


def mark(operation: Any, kind: str, **details: Any) -> None:
    """Note that an operation stands for an NPU one."""
    held = marks(operation.graph)
    held.kinds[operation.name] = kind
    held.details[operation.name] = details


def ancestors(targets: Iterable[Any], fed: set[str]) -> list[Any]:
    """List the operations that a run reaches, in the order in which they were made."""
    seen: set[Any] = set()
    queue = list(targets)
    while queue:
        operation = queue.pop()
        if operation in seen:
            continue
        seen.add(operation)
        queue += [tensor.op for tensor in operation.inputs if tensor.name not in fed]
        queue += list(operation.control_inputs)
    return sorted(seen, key=lambda operation: operation._id)


@dataclass(frozen=True)
class Compiled:
    """Hold what is known of a graph once GE has seen it."""

    operations: tuple[Any, ...]
    number: int  # graph id, counted by session
    hash: str
    kinds: tuple[str, ...]
    loop: bool  # it holds the operation that the adapter takes for a loop, by its name
    fetches_data: bool

    @property
    def steps(self) -> bool:
        """Whether it takes a training step: it fetches data and sums gradients, or is the loop itself."""
        return self.loop or (self.fetches_data and "HcomAllReduce" in self.kinds)

    @property
    def joins_ranks(self) -> bool:
        return any(kind in COLLECTIVES for kind in self.kinds)


def compile_graph(
    targets: Sequence[Any], fed: dict[str, tuple[int, ...]], number: int, loop_limit: int
) -> Compiled:
    """Check a graph as GE would and number it."""
    operations = ancestors(targets, set(fed))
    held = marks(operations[0].graph) if operations else Marks()
    _refuse_foreign(operations, held)
    _refuse_dynamic(operations)
    _refuse_cycles(operations, held)
    types = {operation.type for operation in operations}
    if "OneShotIterator" in types and loop_limit != 1:
        raise refused("one_shot_iterator", "iterator_per_loop only support 1 when using OneShotIterator")
    text = repr(
        [(op.type, [str(out.shape) for out in op.outputs]) for op in operations] + sorted(fed.items())
    )
    return Compiled(
        tuple(operations),
        number,
        hashlib.sha256(text.encode()).hexdigest(),
        tuple(held.kinds[op.name] for op in operations if op.name in held.kinds),
        any(operation.name == LOOP_OPERATION for operation in operations),
        "IteratorGetNext" in types,
    )


def _is_host(operation: Any) -> bool:
    return operation.type != "IteratorGetNext" and any(part in operation.type for part in _HOST)


def _refuse_foreign(operations: Sequence[Any], held: Marks) -> None:
    """Refuse host functions in the device's graph; those of the data pipeline are not in it."""
    for operation in operations:
        if (
            operation.type in ("PyFunc", "PyFuncStateless", "EagerPyFunc")
            and operation.name not in held.kinds
        ):
            raise refused("host_function", f"{operation.name}: {operation.type} has no kernel on the NPU")


def _refuse_dynamic(operations: Sequence[Any]) -> None:
    if any("Restore" in operation.type or "Save" in operation.type for operation in operations):
        return  # runs on the host
    folded = _folded(operations)
    for operation in operations:
        if _is_host(operation) or operation in folded:
            continue
        for tensor in operation.outputs:
            if tensor.dtype.name in ("string", "resource", "variant"):
                continue
            if not tensor.shape.is_fully_defined():
                raise refused(
                    "dynamic_shape", f"{tensor.name} ({operation.type}) has the shape {tensor.shape}"
                )


def _folded(operations: Sequence[Any]) -> set[Any]:
    """Find what the compiler computes itself: constants, static shapes, and what is made of these alone."""
    found: set[Any] = set()
    for operation in operations:  # in the order in which they were made, so inputs come first
        if operation.type == "Const":
            found.add(operation)
        elif operation.type in ("Shape", "ShapeN", "Size", "Rank"):
            if all(tensor.shape.is_fully_defined() for tensor in operation.inputs):
                found.add(operation)
        elif operation.inputs and not operation.op_def.is_stateful:
            if all(tensor.op in found for tensor in operation.inputs):
                found.add(operation)
    return found


def _refuse_cycles(operations: Sequence[Any], held: Marks) -> None:
    """Refuse fused collectives of which one needs another's result: one operation cannot feed itself."""
    reached: dict[str, set[tuple[str, int]]] = {}
    for operation in operations:
        above: set[tuple[str, int]] = set()
        parents = [tensor.op for tensor in operation.inputs]
        chained = held.chained.get(operation.name)
        parents += [other for other in operation.control_inputs if other.name != chained]
        for parent in parents:
            above |= reached.get(parent.name, set())
        details = held.details.get(operation.name, {})
        if details.get("fusion") == 2:
            label = (held.kinds[operation.name], details["fusion_id"])
            if label in above:
                raise refused(
                    "fused_with_its_own_input",
                    f"{label[0]} of fusion_id {label[1]} needs a result of the same fusion",
                )
            above = above | {label}
        reached[operation.name] = above


def count(compiled: Compiled, times: int) -> None:
    """Note what a run asks of the device."""
    for kind in compiled.kinds:
        DEVICE.calls[kind] += times
    if compiled.loop:
        DEVICE.loops.append(times)
