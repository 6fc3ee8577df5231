"""Read weights from TensorFlow or safetensors checkpoints, and load them into the variables of a session."""

from __future__ import annotations

import os
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Callable, Iterator, Mapping, Sequence

import numpy as np
import tensorflow.compat.v1 as tf

from bert import names
from bert.backend import host_memory
from bert.checkpoints import absent, index, inspection, store
from bert.config import BertConfig
from bert.errors import CheckpointError

if TYPE_CHECKING:
    from bert.interfaces import Tensor

_TYPES = {
    "F64": "<f8", "F32": "<f4", "F16": "<f2", "BF16": "<u2", "I64": "<i8", "I32": "<i4", "I16": "<i2",
    "I8": "i1", "U8": "u1", "BOOL": "?",
}  # fmt: skip


@dataclass(frozen=True)
class Loaded:
    """The variables that a checkpoint had and lacked, by Google's names."""

    path: str
    used: tuple[str, ...]
    missing: tuple[str, ...]
    unused: tuple[str, ...]

    def lines(self) -> list[str]:
        """Describe it in lines for people."""
        lines = [f"{self.path}: {len(self.used)} variables loaded"]
        if self.missing:
            lines.append(f"not in it, so new: {', '.join(self.missing)}")
        slots = [name for name in self.unused if names.is_slot(name)]
        others = [name for name in self.unused if not names.is_slot(name)]
        if slots:
            lines.append(f"in it, not used: {len(slots)} optimizer slots")
        if others:
            more = ", ..." if len(others) > 5 else ""
            lines.append(f"in it, not used: {len(others)}: {', '.join(others[:5])}{more}")
        return lines


def check(path: str, config: BertConfig) -> None:
    """Compare names and shapes with the configuration before anything is loaded.

    Raises:
        CheckpointError: they do not fit, or the file is damaged.
    """
    try:
        problems = inspection.inspect(path, config).problems
    except (OSError, ValueError) as error:
        raise CheckpointError(f"{path}: {error}") from None
    if problems:
        more = f" (and {len(problems) - 1} more)" if len(problems) > 1 else ""
        raise CheckpointError(f"{path}: {problems[0]}{more}")


class Reading:
    """A checkpoint ("": none) that is read in a thread while the caller builds its graph.

    slots: False reads only the names of the optimizer's slots and the step; they are of another training.
    absent: the names in a checkpoint that this host lacks: nothing is read, and their values are zeros.
    """

    def __init__(self, path: str, slots: bool = True, absent: Sequence[str] | None = None) -> None:
        self.path, self.slots, self._absent = path, slots, absent
        pool = ThreadPoolExecutor(1)
        self._entries = [pool.submit(self._read)]
        pool.shutdown(wait=False)

    def _read(self) -> list[tuple[str, np.ndarray | None]]:
        if self._absent is not None:
            return [(name, None) for name in self._absent]
        return [(name, self._kept(name, value)) for name, value in (read(self.path) if self.path else ())]

    def _kept(self, name: str, value: np.ndarray) -> np.ndarray:
        # Contiguous: a session would copy a transposed view, and wait for it.
        return np.asarray(value, order="C") if self.wants(name) else np.empty(0)

    @property
    def reads(self) -> bool:
        """Tell whether this host has the checkpoint."""
        return self._absent is None

    def wants(self, name: str) -> bool:
        """Tell whether a variable's value is used if the checkpoint has it."""
        return self.slots or not names.is_slot(name)

    def take(self) -> list[tuple[str, np.ndarray | None]]:
        """Hand over what was read, None for what is absent; works once. CheckpointError: as `read` says."""
        return self._entries.pop().result()


def initialize(session: Tensor, variables: Mapping[str, Tensor], reading: Reading) -> Loaded:
    """Initialise every variable of the graph: `variables` from the checkpoint if it has them, else anew.

    In one call of the session: a device that compiles a graph for each call compiles once.
    """
    values, unused = {}, []
    wanted = set(filter(reading.wants, variables))
    for name, value in reading.take():
        if name in wanted:
            values[name] = _zero(variables[name]) if value is None else value
        else:
            unused.append(name)
    missing = wanted - set(values)
    loaded = Loaded(reading.path, tuple(sorted(values)), tuple(sorted(missing)), tuple(sorted(unused)))
    every = {variable.op.name: variable for variable in tf.global_variables()}
    first = {**_zeros(every, values), **values}
    # The second input of an initializer is the first value; feeding it saves making one.
    feed = {every[name].initializer.inputs[1]: value for name, value in first.items()}
    session.run(tf.global_variables_initializer(), feed)
    del values, first, feed
    host_memory.give_back()
    return loaded


def _zero(variable: Tensor) -> np.ndarray:
    return np.zeros(variable.shape.as_list(), variable.dtype.base_dtype.as_numpy_dtype)


def _zeros(variables: Mapping[str, Tensor], given: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Make zeros for moments and accumulators that have no value; one array for all of a shape.

    Made by TensorFlow, they would be folded into the graph as constants and kept beside the variables.
    """
    kinds = {
        name: (tuple(variable.shape.as_list()), variable.dtype.base_dtype.as_numpy_dtype)
        for name, variable in variables.items()
        if (name.endswith(names.MOMENTS) and name not in given) or name.startswith("accumulator_")
    }
    arrays = {kind: np.zeros(*kind) for kind in set(kinds.values())}
    return {name: arrays[kind] for name, kind in kinds.items()}


def read(path: str) -> Iterator[tuple[str, np.ndarray]]:
    """Yield (Google's name, value) of a checkpoint; one that this program wrote is verified first.

    Raises:
        CheckpointError: there is none, or it is damaged.
    """
    try:
        files = index.files(path)
        if not files:
            raise ValueError(absent.explain(path))
        if files[0].endswith(".safetensors"):
            yield from _safetensors(files)
        else:
            yield from _tensorflow(files[0][: -len(".index")])
    except CheckpointError:
        raise
    except (OSError, ValueError, tf.errors.OpError) as error:
        first = (str(error).splitlines() or ["unreadable"])[0]
        raise CheckpointError(f"{path}: {first}") from None


def _tensorflow(prefix: str) -> Iterator[tuple[str, np.ndarray]]:
    if os.path.exists(prefix + ".json"):
        problem, _ = store.verify(prefix)
        if problem:
            raise CheckpointError(problem)
    reader = tf.train.NewCheckpointReader(prefix)
    for name in sorted(reader.get_variable_to_shape_map()):
        yield name, reader.get_tensor(name)


def _safetensors(files: list[str]) -> Iterator[tuple[str, np.ndarray]]:
    for path in files:
        with open(path, "rb") as stream:
            held = _deserialized(stream.read())
        while held:  # removed one by one, as a checkpoint is large
            name, entry = held.pop()
            google, transposed = names.from_hf(name)
            value = _value(name, entry)
            yield google or name, value.T if transposed else value


def _deserialized(data: bytes) -> list[tuple[str, dict[str, Any]]]:
    import safetensors

    deserialize: Callable[[bytes], list[tuple[str, dict[str, Any]]]] = safetensors.deserialize
    try:
        return list(deserialize(data))
    except safetensors.SafetensorError as error:
        raise ValueError(f"damaged safetensors: {error}") from None


def _value(name: str, entry: Mapping[str, Any]) -> np.ndarray:
    """Decode an array; BF16, which numpy lacks, becomes float32."""
    kind = entry["dtype"]
    if kind not in _TYPES:
        raise ValueError(f"{name}: values of type {kind} cannot be read")
    flat: np.ndarray = np.frombuffer(entry["data"], _TYPES[kind])
    if kind == "BF16":
        flat = (flat.astype(np.uint32) << 16).view(np.float32)
    shape: list[int] = entry["shape"]
    return flat.reshape(shape)


def values(session: Tensor, variables: Mapping[str, Tensor]) -> dict[str, np.ndarray]:
    """Fetch variables by name."""
    fetched: dict[str, np.ndarray] = session.run(dict(variables))
    return fetched
