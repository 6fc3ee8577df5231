"""The modules in C++, as far as importing the packages and the session route need them."""

from __future__ import annotations

import os
import types
from typing import Any

from npu_simulator.names import has

# The texts are keys of GE's options, which the simulator does not read.
_CONSTANTS = (
    "OP_DEBUG_LEVEL", "OPTION_EXEC_ENABLE_SCOPE_FUSION_PASSES", "OPTION_EXEC_PROFILING_MODE",
    "OPTION_EXEC_PROFILING_OPTIONS", "OPTION_GRAPH_RUN_MODE", "OPTION_EXEC_HCCL_FLAG", "AUTO_TUNE_MODE",
)  # fmt: skip
SATURATION, INF_NAN = 0, 1


def adapter(name: str) -> types.ModuleType:
    """Make npu_bridge's swig module tf_adapter, under the name that a package imports it by."""
    functions = {
        "map_string_string": dict,
        "PluginInit": _not_simulated,
        "PluginFinalize": _nothing,
        "NpuClose": _nothing,
        "SetDeviceSatMode": _not_simulated,
        "GetDeviceSatMode": device_sat_mode,
    }
    members = {**{constant: constant.lower() for constant in _CONSTANTS}, **functions}
    return _module(name, {key: value for key, value in members.items() if has("plugin", key)})


def backends(name: str) -> types.ModuleType:
    """Make npu_device's module _npu_device_backends, under the name that the package imports it by."""
    functions = {
        "WatchOpRegister": _nothing,
        "StopWatchOpRegister": _nothing,
        "GetDeviceSatMode": device_sat_mode,
        "SetDeviceSatMode": _not_simulated,
        "Open": _not_simulated,
        "Close": _nothing,
    }
    return _module(name, functions)


def _module(name: str, members: dict[str, Any]) -> types.ModuleType:
    made = types.ModuleType(name, __doc__)
    for key, value in members.items():
        setattr(made, key, value)
    return made


def device_sat_mode() -> int:
    """910A saturates; A2 gives inf and nan (NPU_SIMULATOR_INF_NAN=1)."""
    return INF_NAN if os.environ.get("NPU_SIMULATOR_INF_NAN") == "1" else SATURATION


def _nothing() -> None:
    """What the package calls at exit: GE is finalised already, or goes with the process."""


def _not_simulated(*args: Any) -> None:
    raise NotImplementedError("not simulated: the session route does not need it")
