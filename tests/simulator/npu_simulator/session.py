"""tf.Session as the adapter changes it: sessions with the NpuOptimizer run on the device."""

from __future__ import annotations

from typing import Any, Dict, Optional

import numpy as np
import tensorflow.compat.v1 as tf
from tensorflow.core.protobuf.rewriter_config_pb2 import RewriterConfig
from tensorflow.python.client import session as tf_session

from npu_simulator import graph
from npu_simulator.device import DEVICE, Refused

TYPES = {
    "use_off_line": "b", "mix_compile_mode": "b", "enable_data_pre_proc": "b", "iterations_per_loop": "i",
    "precision_mode": "s", "hcom_parallel": "b", "is_tailing_optimization": "b", "graph_run_mode": "i",
    "enable_dump": "b", "enable_dump_debug": "b", "dump_path": "s", "dump_step": "s", "dump_mode": "s",
    "dump_debug_mode": "s", "profiling_mode": "b", "profiling_options": "s", "op_debug_level": "i",
    "enable_exception_dump": "i", "graph_memory_max_size": "s", "variable_memory_max_size": "s",
    "op_compiler_cache_mode": "s", "op_compiler_cache_dir": "s", "debug_dir": "s", "session_device_id": "i",
    "hccl_timeout": "i", "op_execute_timeout": "i", "deterministic": "i", "jit_compile": "s",
}  # fmt: skip
PRECISIONS = (
    "force_fp32", "allow_fp32_to_fp16", "force_fp16", "must_keep_origin_dtype", "allow_mix_precision",
    "allow_mix_precision_fp16", "allow_mix_precision_bf16", "cube_fp16in_fp32out", "allow_fp32_to_bf16",
)  # fmt: skip
_ORIGINAL = (tf_session.BaseSession.__init__, tf_session.BaseSession.run)


def install() -> None:
    """Change tf.Session, once."""
    if tf_session.BaseSession.run is _ORIGINAL[1]:
        tf_session.BaseSession.__init__, tf_session.BaseSession.run = _init, _run


def read_parameters(config: Any) -> Optional[Dict[str, Any]]:
    """Read the parameter map of a configuration; None where there is no NpuOptimizer.

    Raises:
        Refused: an unknown key, a value in the wrong field, or options that the adapter cannot work with.
    """
    rewrite = config.graph_options.rewrite_options if config else None
    found = [op for op in rewrite.custom_optimizers if op.name == "NpuOptimizer"] if config else []
    if not found:
        return None
    if rewrite.remapping != RewriterConfig.OFF:
        raise Refused("rewrite_options.remapping must be OFF")
    if rewrite.memory_optimization != RewriterConfig.OFF:
        raise Refused("rewrite_options.memory_optimization must be OFF")
    values = {}
    for key, value in found[0].parameter_map.items():
        if key not in TYPES:
            raise Refused("parameter_map has no key %r" % key)
        if value.WhichOneof("value") != TYPES[key]:
            raise Refused("parameter_map[%r] must be set as .%s" % (key, TYPES[key]))
        held = getattr(value, TYPES[key])
        values[key] = held.decode() if TYPES[key] == "s" else held
    _check(values)
    return values


def _check(values: Dict[str, Any]) -> None:
    if not values.get("use_off_line"):
        raise Refused("use_off_line must be True: the graph would run on the host")
    if values.get("iterations_per_loop", 1) < 1:
        raise Refused("iterator_per_loop should be int and must >= 1")
    if values.get("precision_mode", PRECISIONS[0]) not in PRECISIONS:
        raise Refused("precision_mode %r is none of %s" % (values["precision_mode"], PRECISIONS))
    if values.get("profiling_mode") and not values.get("profiling_options"):
        raise Refused("profiling_options must be set when use profiling")
    if values.get("enable_dump") and values.get("enable_dump_debug"):
        raise Refused("enable_dump and enable_dump_debug exclude each other")
    if (values.get("enable_dump") or values.get("enable_dump_debug")) and not values.get("dump_path"):
        raise Refused("if use dump function, dump_path must be set.")


def _init(self: Any, target: str = "", graph: Any = None, config: Any = None) -> None:
    self._npu_parameters = read_parameters(config)
    self._npu_compiled = {}
    if self._npu_parameters is not None:
        plain = tf.ConfigProto()
        plain.CopyFrom(config)
        del plain.graph_options.rewrite_options.custom_optimizers[:]
        config = plain
    _ORIGINAL[0](self, target, graph, config)


def _run(
    self: Any, fetches: Any, feed_dict: Any = None, options: Any = None, run_metadata: Any = None
) -> Any:
    parameters = getattr(self, "_npu_parameters", None)
    compiled = _compile(self, fetches, feed_dict or {}, parameters or {})
    if parameters is None:
        if compiled.kinds:
            raise Refused("no kernel for %s: the session has no NpuOptimizer" % compiled.kinds[0])
        return _ORIGINAL[1](self, fetches, feed_dict, options, run_metadata)
    times = _prepare(self, compiled, parameters)
    result = None
    for _ in range(times):
        if compiled.steps:
            DEVICE.step()
        result = _ORIGINAL[1](self, fetches, feed_dict, options, run_metadata)
    graph.count(compiled, times)
    if "shutdown_system" in compiled.kinds:
        DEVICE.close()
    return result


def _compile(session: Any, fetches: Any, feeds: Dict[Any, Any], parameters: Dict[str, Any]) -> graph.Compiled:
    fed = {_name(session, key): tuple(np.shape(value)) for key, value in feeds.items()}
    key = (_fetch_key(fetches), tuple(sorted(fed.items())))
    if key not in session._npu_compiled:
        handler = tf_session._FetchHandler(session.graph, fetches, {})
        targets = [tensor.op for tensor in handler.fetches()] + list(handler.targets())
        if session._npu_parameters is None:
            kinds = graph.marks(session.graph).kinds
            found = tuple(kinds[op.name] for op in graph.ancestors(targets, set(fed)) if op.name in kinds)
            return graph.Compiled((), 0, "", found, False, False)
        number, limit = len(session._npu_compiled), parameters.get("iterations_per_loop", 1)
        session._npu_compiled[key] = graph.compile_graph(targets, fed, number, limit)
    return session._npu_compiled[key]


def _fetch_key(fetches: Any) -> Any:
    flat = tf.nest.flatten(fetches)
    return tuple(getattr(fetch, "name", None) or repr(fetch) for fetch in flat)


def _name(session: Any, key: Any) -> str:
    return session.graph.as_graph_element(key, allow_operation=False).name


def _prepare(session: Any, compiled: graph.Compiled, parameters: Dict[str, Any]) -> int:
    """Open, check and compare before a run; give how often the device repeats it."""
    if DEVICE.state == "closed":
        raise Refused("the system is shut down")
    if "initialize_system" in compiled.kinds:
        DEVICE.open(parameters)
    if compiled.joins_ranks:
        DEVICE.need("a collective")
        DEVICE.agree("graph", [compiled.number, compiled.hash])
    return _loop(session, compiled, parameters) if compiled.loop else 1


def _loop(session: Any, compiled: graph.Compiled, parameters: Dict[str, Any]) -> int:
    """Give the steps of a loop, as its variable says: one less is held there."""
    if compiled.fetches_data and not parameters.get("enable_data_pre_proc"):
        raise Refused("iterations_per_loop needs enable_data_pre_proc: the loop cannot fetch its data")
    if parameters.get("mix_compile_mode"):
        raise Refused("iterations_per_loop must be 1 in mix_compile_mode")
    variable = graph.marks(session.graph).loop_variable
    try:
        times = int(_ORIGINAL[1](session, variable)) + 1
    except tf.errors.FailedPreconditionError:
        raise Refused("the loop's variables were not loaded: load_iteration_per_loop_var") from None
    limit = parameters.get("iterations_per_loop", 1)
    if times > limit or limit == 1:
        raise Refused("a loop of %d steps, but the session says iterations_per_loop %d" % (times, limit))
    return times
