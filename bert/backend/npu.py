"""Ascend NPUs through CANN's TensorFlow adapter: graph and session, gradients summed by HCCL.

Sources: the adapter's public source (Ascend/tensorflow) and the migration guide in the CANN documentation.
"""

from __future__ import annotations

import atexit
import inspect
import json
import os
import signal
import sys
import threading
from typing import TYPE_CHECKING, Any, Sequence, cast

import numpy as np
import tensorflow.compat.v1 as tf
from tensorflow.core.protobuf import config_pb2
from tensorflow.core.protobuf.rewriter_config_pb2 import RewriterConfig

from bert.backend import adapter
from bert.backend.adapter import AdapterError
from bert.backend.base import Backend
from bert.backend.npu_options import NpuOptions
from bert.cluster import Cluster
from bert.fused import Gradient, custom_gradient

if TYPE_CHECKING:
    from bert.backend.npu_options import Parameter
    from bert.interfaces import LossScaleManager, Tensor

FUSED_BYTES = 64 << 20  # gradients are summed in groups of about this size, the last layers' first
_BY_ID = 2  # HCCL's `fusion`: operations of the same fusion_id become one
_REDUCIBLE = (tf.float32, tf.float16, tf.int32, tf.int16, tf.int8)  # what HCCL can add


class NpuBackend(Backend):
    """A rank on one NPU.

    HCCL is initialised here, once for the life of the process: create the backend when the data is ready,
    as HCCL's timeout for connecting the ranks (HCCL_CONNECT_TIMEOUT) starts now.
    """

    name = "npu"
    static_shapes = True
    repeats_dropout = False
    loads_on_every_rank = True
    _open_here = False  # whether this process has one

    def __init__(self, cluster: Cluster, options: NpuOptions) -> None:
        """Open the device. AdapterError: no adapter, conflicting variables, or another rank table in HCCL."""
        problems = adapter.environment_problems(os.environ)
        problems += [f"--{flag}: {problem}" for flag, problem in options.problems()]
        if problems:
            raise AdapterError("; ".join(problems))
        if NpuBackend._open_here:
            raise AdapterError("this process has the NPU open already; close the model that uses it first")
        self._adapter = adapter.find()
        self.rank, self.size, self.servers = cluster.rank, cluster.size, cluster.servers
        self.steps_per_call = options.steps_per_call
        self._options, self._rank_dir = options, cluster.rank_dir
        self._loops: dict[Tensor, Any] = {}  # graph -> the loop over its training step
        self._loaded: dict[Tensor, int] = {}  # session -> steps that a call makes
        self._next_group: dict[Tensor, int] = {}  # graph -> fusion id of the next collective
        self._gathers: dict[int, tuple[Tensor, Tensor, Tensor]] = {}  # width -> session, input, output
        self._open()

    def _open(self) -> None:
        with tf.Graph().as_default():
            start = self._adapter.npu_ops.initialize_system()
            self._stop = self._adapter.npu_ops.shutdown_system()
            self._control = tf.Session(config=self.session_config())
        self._control.run(start)
        NpuBackend._open_here = True
        atexit.register(self.close)
        _exit_on_sigterm()
        self._check_rank()
        if self.rank == 0:
            print(f"npu: {self._adapter}, {self.size} ranks, precision {self._options.precision}", flush=True)

    def _check_rank(self) -> None:
        """Compare HCCL's rank with the launcher's, by which the data is divided between the ranks."""
        if not (os.environ.get("RANK_TABLE_FILE") or os.environ.get("CM_CHIEF_IP")):
            return
        hccl = self._adapter.hccl
        rank, size = hccl.get_rank_id(), hccl.get_rank_size()
        if (rank, size) != (self.rank, self.size):
            self.close()
            raise AdapterError(
                f"HCCL says rank {rank} of {size}, the launcher says rank {self.rank} of {self.size};"
                " give all processes the same rank table"
            )

    def session_config(self) -> Tensor:
        config = tf.ConfigProto(allow_soft_placement=True)
        config.graph_options.optimizer_options.global_jit_level = config_pb2.OptimizerOptions.OFF
        rewrite = config.graph_options.rewrite_options
        # As in the adapter's own options; when options are given it does not switch memory_optimization off.
        rewrite.remapping = rewrite.memory_optimization = RewriterConfig.OFF
        optimizer = rewrite.custom_optimizers.add()
        optimizer.name = "NpuOptimizer"
        for name, value in self._options.parameters(self._rank_dir).items():
            _set(optimizer.parameter_map[name], value)
        return config

    def all_reduce_sum(self, tensors: Sequence[Tensor]) -> list[Tensor]:
        tensors = [tf.convert_to_tensor(tensor) for tensor in tensors]
        if self.size == 1:
            return tensors
        for tensor in tensors:
            if tensor.dtype not in _REDUCIBLE:
                raise TypeError(f"{tensor.name}: HCCL cannot add {tensor.dtype.name}")
        groups = self._groups(tensors)
        # A scalar (a loss, a norm) may need the very last gradient: it must not hold the first group back.
        groups = [max(groups) if tensor.shape.rank == 0 else n for tensor, n in zip(tensors, groups)]
        reduce = self._adapter.hccl_ops.allreduce
        return [reduce(tensor, "sum", _BY_ID, group) for tensor, group in zip(tensors, groups)]

    def _groups(self, tensors: Sequence[Tensor]) -> list[int]:
        """Choose fusion ids that are new in this graph: a collective fused with its own input hangs."""
        graph = tf.get_default_graph()
        first = self._next_group.get(graph, 0)
        groups = [first + group for group in fused_groups([_bytes(tensor) for tensor in tensors])]
        self._next_group[graph] = max(groups) + 1
        return groups

    def broadcast(self, variables: Sequence[Tensor]) -> Tensor:
        if self.size == 1:
            return tf.no_op()
        groups, updates = self._groups(variables), []
        for group in sorted(set(groups)):
            members = [variable for variable, number in zip(variables, groups) if number == group]
            values = self._adapter.hccl_ops.broadcast(
                [tf.convert_to_tensor(member) for member in members], 0, _BY_ID, group
            )
            updates += [member.assign(value) for member, value in zip(members, values)]
        return tf.group(*updates)

    def barrier(self) -> None:
        self._gather(np.zeros(1, np.int32))

    def all_gather(self, value: Any) -> list[Any]:
        data = json.dumps(value).encode()
        lengths = self._gather(np.array([len(data)], np.int32))[:, 0]
        # A power of two, as every shape is compiled once.
        width = 1 << max(8, int(lengths.max() - 1).bit_length())
        padded = np.frombuffer(data.ljust(width, b" "), np.int32)
        return [json.loads(row.tobytes().decode()) for row in self._gather(padded)]

    def _gather(self, values: np.ndarray) -> np.ndarray:
        """Collect int32 [W] of every rank: [size, W]. Each width has a graph and a session of its own."""
        if self.size == 1:
            return values.reshape(1, -1)
        if len(values) not in self._gathers:
            with tf.Graph().as_default():
                given = tf.placeholder(tf.int32, values.shape)
                every = self._adapter.hccl_ops.allgather(given, self.size)
                session = tf.Session(config=self.session_config())
            self._gathers[len(values)] = session, given, every
        session, given, every = self._gathers[len(values)]
        gathered: np.ndarray = session.run(every, {given: values})
        return gathered.reshape(self.size, len(values))

    def gelu(self, x: Tensor, form: str) -> Tensor:
        """Use the device's fused gelu, which is the tanh form, or build the form of operations."""
        if form == "tanh" and self._options.npu_bert_fused_gelu:
            return self._adapter.unary_ops.gelu(x)
        return super().gelu(x, form)

    def dropout(self, x: Tensor, rate: float, seed: Tensor) -> Tensor:
        """Drop by the device's generator or TensorFlow's; neither takes `seed`, so a resumed run differs."""
        if self._options.npu_bert_npu_dropout:
            return self._adapter.npu_ops.dropout(x, 1.0 - rate)
        return tf.nn.dropout(x, rate=rate)

    def gather(self, table: Tensor, ids: Tensor) -> Tensor:
        return dense_gather(table, ids) if self._options.npu_gather else tf.gather(table, ids)

    def all_finite(self, tensors: Sequence[Tensor], norm: Tensor) -> Tensor:
        """Read the device's overflow flag: where results saturate, an overflow leaves no inf behind."""
        finite = tf.math.is_finite(norm)
        if self._adapter.inf_nan():
            return finite
        [status] = self.all_reduce_sum([self._overflow_status(tensors)])
        # int32 where the operation is the second one (since adapter r1.10.0), float32 before.
        return tf.logical_and(finite, tf.reduce_all(tf.equal(status, tf.zeros_like(status))))

    def _overflow_status(self, after: Sequence[Tensor]) -> Tensor:
        """Read the flag once `after` is computed, and clear it for the next step."""
        ops = self._adapter.float_status
        if _without_input(getattr(ops, "npu_get_float_status_v2", None)):
            with tf.control_dependencies(list(after)):
                status = ops.npu_get_float_status_v2()
            with tf.control_dependencies([status]):
                cleared = ops.npu_clear_float_status_v2()
        else:  # up to r1.9.0: the flag is read into the buffer that was allocated
            with tf.control_dependencies(list(after)):
                buffer = ops.npu_alloc_float_status()
            read = ops.npu_get_float_status(buffer)
            cleared = ops.npu_clear_float_status(read)
            with tf.control_dependencies([read]):
                status = tf.identity(buffer)
        with tf.control_dependencies([cleared]):
            return tf.identity(status)

    def loss_scale_manager(
        self, scale: float, initial: float, every: tuple[int, int]
    ) -> LossScaleManager | None:
        managers = self._adapter.loss_scale
        if managers is None:
            return None
        before = set(map(id, tf.global_variables()))
        if scale >= 1:
            manager = managers.FixedLossScaleManager(loss_scale=scale)
        else:
            good, bad = every
            manager = managers.ExponentialUpdateLossScaleManager(
                init_loss_scale=initial, incr_every_n_steps=good, decr_every_n_nan_or_inf=bad, decr_ratio=0.5
            )
        manager.variables = [variable for variable in tf.global_variables() if id(variable) not in before]
        return cast("LossScaleManager", manager)

    def train_op(self, step: Tensor) -> Tensor:
        """Wrap a step into the loop on the device.

        util.IterationPerLoop is util.set_iteration_per_loop in two halves; only with it can the count be
        changed later without a second loop operation, which the adapter, searching by name, would not find.
        """
        step = tf.group(step)
        if self.steps_per_call == 1:
            return step
        loop = self._adapter.util.IterationPerLoop()
        self._loops[tf.get_default_graph()] = loop
        return loop.create_iteration_per_loop_var(step)

    def run_steps(self, session: Tensor, fetches: Any, count: int) -> Any:
        """Run the device's loop; load the count of a last, shorter one first, so that no step is extra."""
        loop = self._loops.get(session.graph)
        if loop is None:
            return super().run_steps(session, fetches, count)
        if count > self.steps_per_call:
            raise ValueError(f"{count} steps: a call makes at most {self.steps_per_call}")
        if self._loaded.get(session) != count:
            loop.load_iteration_per_loop_var(session, count)
            self._loaded[session] = count
        return session.run(fetches)

    def close(self) -> None:
        """Shut the device down, once. Errors are printed, not raised: they would hide an earlier one."""
        stop, self._stop = self._stop, None
        if stop is None:
            return
        atexit.unregister(self.close)
        NpuBackend._open_here = False
        for session, _, _ in self._gathers.values():  # before the engine that holds their graphs ends
            session.close()
        try:
            self._control.run(stop)
        except Exception as error:
            print(f"npu: shutdown failed: {error}", file=sys.stderr, flush=True)
        self._control.close()


def fused_groups(sizes: Sequence[int], limit: int = FUSED_BYTES) -> list[int]:
    """Number groups of neighbours of at most `limit` bytes (a larger tensor is alone), last to first.

    The backward pass computes the last layers' gradients first: group 0 is summed while the rest is computed.
    """
    groups, group, held = [0] * len(sizes), 0, 0
    for index in reversed(range(len(sizes))):
        if held and held + sizes[index] > limit:
            group, held = group + 1, 0
        groups[index] = group
        held += sizes[index]
    return groups


def dense_gather(table: Tensor, ids: Tensor) -> Tensor:
    """Look up rows with a dense gradient: one sum by segment on the device instead of IndexedSlices."""
    rows = int(table.shape[0])

    @custom_gradient
    def look_up(values: Tensor) -> tuple[Tensor, Gradient]:
        def gradient(upstream: Tensor) -> Tensor:
            return tf.math.unsorted_segment_sum(upstream, ids, rows)

        return tf.gather(values, ids), gradient

    return look_up(tf.convert_to_tensor(table))


def _without_input(operation: Any) -> bool:
    """Tell whether a generated operation exists and takes nothing but a name.

    NpuGetFloatStatusV2 of r1.8.0 and r1.9.0 takes a list of addresses, and their own Python does not use it.
    """
    return operation is not None and not set(inspect.signature(operation).parameters) - {"name"}


def _bytes(tensor: Tensor) -> int:
    return int(np.prod(tensor.shape.as_list(), dtype=np.int64)) * int(tensor.dtype.size)


def _set(value: Tensor, given: Parameter) -> None:
    """Fill an attribute value: .b, .i or .s by the Python type; bool before int, which it also is."""
    if isinstance(given, bool):
        value.b = given
    elif isinstance(given, int):
        value.i = given
    else:
        value.s = given.encode()


def _exit_on_sigterm() -> None:
    """Let SIGTERM unwind the program, so that `finally` closes the device; keep a program's own handler."""
    if threading.current_thread() is not threading.main_thread():
        return
    if signal.getsignal(signal.SIGTERM) == signal.SIG_DFL:
        signal.signal(signal.SIGTERM, lambda number, frame: sys.exit(128 + number))
