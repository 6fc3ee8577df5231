"""The options that a session gives the adapter, read as util/npu_attrs.cc reads them."""

from __future__ import annotations

import os
import re
from typing import Any

from tensorflow.core.protobuf.rewriter_config_pb2 import RewriterConfig

from npu_simulator.names import BRANCH, TABLE, has
from npu_simulator.refusals import refused, refuses

PARAMETERS: dict[str, Any] = TABLE["parameters"]
_NUMERICS = set("0123456789")
_DUMP_MODES = ("input", "output", "all")
_DUMP_DEBUG_MODES = ("aicore_overflow", "atomic_overflow", "all")


def read(config: Any) -> dict[str, Any] | None:
    """Read the parameter map of a configuration; None where there is no NpuOptimizer."""
    rewrite = config.graph_options.rewrite_options if config else None
    found = [op for op in rewrite.custom_optimizers if op.name == "NpuOptimizer"] if rewrite else []
    if not found:
        return None
    if rewrite.memory_optimization != RewriterConfig.OFF:
        raise refused("memory_optimization_on", "rewrite_options.memory_optimization must be OFF")
    values = {key: _value(key, value) for key, value in found[0].parameter_map.items()}
    check(values)
    return values


def _value(key: str, value: Any) -> Any:
    if key not in PARAMETERS or BRANCH not in PARAMETERS[key]["places"]:
        raise refused("unknown_parameter", f"parameter_map has no key {key!r}")
    field, given = PARAMETERS[key]["field"], value.WhichOneof("value")
    if given != field:
        if key == "jit_compile":
            raise refused("jit_compile_is_no_text", "The data type of jit_compile is invalid")
        raise refused("parameter_of_another_type", f"parameter_map[{key!r}] is set as .{given}, not .{field}")
    held = getattr(value, field)
    return held.decode() if field == "s" else held


def check(values: dict[str, Any]) -> None:
    """Refuse what the adapter refuses when it sets a session up."""
    if not values.get("use_off_line", True):
        raise refused("offline_mode_off", "use_off_line is False")
    if values.get("iterations_per_loop", 1) < 1:
        raise refused("iterations_per_loop_below_one", "iterator_per_loop should be int and must >= 1")
    if values.get("graph_run_mode", 1) > 1:
        raise refused("graph_run_mode", "graph_run_mode value must be 0 or 1")
    modes = PARAMETERS["precision_mode"]["one_of"].get(BRANCH)
    if modes and values.get("precision_mode", modes[0]) not in modes:
        raise refused("precision_mode", f"precision_mode {values['precision_mode']!r} is none of {modes}")
    dump = values.get("enable_exception_dump", 2)
    if refuses("enable_exception_dump") and not 0 <= dump <= 2:
        raise refused("enable_exception_dump", f"enable_exception_dump is {dump}, none of 0, 1 and 2")
    _check_dump(values)


def _check_dump(values: dict[str, Any]) -> None:
    if not (values.get("enable_dump") or values.get("enable_dump_debug")):
        return
    if "dump_path" not in values:
        raise refused("dump_without_a_path", "if use dump function, dump_path must be set.")
    if not os.path.isdir(values["dump_path"]):
        raise refused("dump_path_is_no_folder", f"the path {values['dump_path']} is not directory.")
    if values.get("enable_dump") and "dump_step" in values:
        _check_steps(values["dump_step"])
    if values.get("enable_dump") and values.get("dump_mode", "all") not in _DUMP_MODES:
        raise refused("dump_mode", f"dump mode {values['dump_mode']!r}")
    if values.get("enable_dump_debug") and values.get("dump_debug_mode", "all") not in _DUMP_DEBUG_MODES:
        raise refused("dump_debug_mode", f"dump debug mode {values['dump_debug_mode']!r}")


def _check_steps(text: str) -> None:
    """Refuse what is no list of steps and ranges such as 0|5|10-20, as the branch does."""
    sets = _split(text, "|")
    if len(sets) > 100:
        raise refused("dump_step_sets", f"dump_step has {len(sets)} sets of data")
    if not _well_formed(text, sets):
        raise refused("dump_step_format", f"dump_step string style is error: {text}")
    for ends in (_split(part, "-") for part in sets):
        if len(ends) == 2 and int(ends[0] or 0) >= int(ends[1]):
            raise refused("dump_step_reversed", f"in range steps, the first step is >= the second: {text}")


def _well_formed(text: str, sets: list[str]) -> bool:
    """By a regular expression up to r1.14.0, part by part since, where an end may be missing."""
    if not has("behaviour", "dump_step_is_split"):
        return re.match(r"(\d+(-\d+)?\|)+\Z", text + "|") is not None
    parts = [_split(part, "-") for part in sets]
    return all(len(ends) in (1, 2) and set("".join(ends)) <= _NUMERICS for ends in parts)


def _split(text: str, at: str) -> list[str]:
    """Split as std::getline does: what is behind the last separator counts only if there is something."""
    parts = text.split(at)
    return parts if parts[-1] else parts[:-1]
