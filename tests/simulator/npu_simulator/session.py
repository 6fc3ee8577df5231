"""What the graph engine makes of sessions: those with the NpuOptimizer run on the device."""

from __future__ import annotations

from typing import Any

import numpy as np
import tensorflow.compat.v1 as tf
from tensorflow.python.client import session as tf_session

from npu_simulator import graph, options
from npu_simulator.device import DEVICE
from npu_simulator.refusals import refused

LOOP_VARIABLE = "npu_runconfig/iterations_per_loop"
_BASE = tf_session.BaseSession
_ORIGINAL = (_BASE.__init__, _BASE.run, _BASE.close)


def install() -> None:
    """Change sessions, once; this is what loading the adapter's library does."""
    if _BASE.run is _ORIGINAL[1]:
        _BASE.__init__, _BASE.run, _BASE.close = _init, _run, _close


def _init(self: Any, target: str = "", graph: Any = None, config: Any = None) -> None:
    self._npu_parameters = options.read(config)
    self._npu_compiled = {}
    if self._npu_parameters is not None:
        plain = tf.ConfigProto()
        plain.CopyFrom(config)
        del plain.graph_options.rewrite_options.custom_optimizers[:]
        config = plain
    _ORIGINAL[0](self, target, graph, config)


def _close(self: Any) -> None:
    DEVICE.lost_session(self)
    _ORIGINAL[2](self)


def _run(
    self: Any, fetches: Any, feed_dict: Any = None, options: Any = None, run_metadata: Any = None
) -> Any:
    parameters = getattr(self, "_npu_parameters", None)
    compiled = _compile(self, fetches, feed_dict or {}, parameters or {})
    if parameters is None:
        lost = sorted(set(compiled.kinds) - {"NPUInit", "NPUShutdown"})
        if lost:
            raise refused("session_without_the_optimizer", f"{lost[0]} in a session without the NpuOptimizer")
    times = _prepare(self, compiled, parameters)
    result = None
    for _ in range(times):
        if compiled.steps:
            DEVICE.step()
        result = _ORIGINAL[1](self, fetches, feed_dict, options, run_metadata)
    graph.count(compiled, times)
    if "NPUShutdown" in compiled.kinds:
        DEVICE.close()
    return result


def _compile(session: Any, fetches: Any, feeds: dict[Any, Any], parameters: dict[str, Any]) -> graph.Compiled:
    fed = {_name(session, key): tuple(np.shape(value)) for key, value in feeds.items()}
    key = (_fetch_key(fetches), tuple(sorted(fed.items())))
    if key not in session._npu_compiled:
        handler = tf_session._FetchHandler(session.graph, fetches, {})
        targets = [tensor.op for tensor in handler.fetches()] + list(handler.targets())
        if session._npu_parameters is None:
            return graph.Compiled((), 0, "", _kinds(session, targets, fed), False, False)
        number, limit = len(session._npu_compiled), parameters.get("iterations_per_loop", 1)
        session._npu_compiled[key] = graph.compile_graph(targets, fed, number, limit)
    return session._npu_compiled[key]


def _kinds(session: Any, targets: list[Any], fed: dict[str, Any]) -> tuple[str, ...]:
    kinds = graph.marks(session.graph).kinds
    return tuple(kinds[op.name] for op in graph.ancestors(targets, set(fed)) if op.name in kinds)


def _fetch_key(fetches: Any) -> Any:
    flat = tf.nest.flatten(fetches)
    return tuple(getattr(fetch, "name", None) or repr(fetch) for fetch in flat)


def _name(session: Any, key: Any) -> str:
    return session.graph.as_graph_element(key, allow_operation=False).name


def _prepare(session: Any, compiled: graph.Compiled, parameters: dict[str, Any] | None) -> int:
    """Open, check and compare before a run; give how often the device repeats it.

    parameters: None for a session that runs on the host, where NPUInit and NPUShutdown work all the same.
    """
    if "NPUInit" in compiled.kinds:
        DEVICE.open(parameters or {})
    if parameters is None:
        return 1
    if not {"NPUInit", "NPUShutdown"} & set(compiled.kinds):
        if DEVICE.state == "closed":
            raise refused("run_after_shutdown", "the system is shut down")
        DEVICE.took_graph(session, parameters)
    if compiled.joins_ranks:
        DEVICE.need("collective_before_init", "a collective")
        DEVICE.agree("graph", [compiled.number, compiled.hash])
    return _loop(session, compiled, parameters) if compiled.loop else 1


def _loop(session: Any, compiled: graph.Compiled, parameters: dict[str, Any]) -> int:
    """Give the steps of a loop: as its variable says, where the session's options allow a loop at all.

    How many they allow is not looked at: the variable decides, with a larger count or a smaller one.
    """
    if parameters.get("iterations_per_loop", 1) <= 1 or not DEVICE.loops_by_itself():
        return 1
    if compiled.fetches_data and not parameters.get("enable_data_pre_proc"):
        raise refused("loop_without_data_on_the_device", "iterations_per_loop needs enable_data_pre_proc")
    variable = session.graph.get_tensor_by_name(LOOP_VARIABLE + "/Read/ReadVariableOp:0")
    try:
        return int(_ORIGINAL[1](session, variable)) + 1
    except tf.errors.FailedPreconditionError:
        raise refused(
            "loop_of_an_unloaded_count", "the loop's variables were not loaded: load_iteration_per_loop_var"
        ) from None
