"""The NPU of a command that is no launch (ask, score): held against launches as a launch holds its own."""

from __future__ import annotations

import os
from importlib.util import find_spec
from typing import Mapping, Sequence

from launcher.compare.settings import flags
from launcher.errors import PreflightError
from rank_table.sources import dev_nodes, host
from rank_table.sources.tools import Machine

_ADAPTERS = ("npu_bridge", "npu_device")
_CANN = os.path.join("capi", "libonnxruntime_providers_cann.so")  # of the package onnxruntime-cann


def hold(words: Sequence[str], command: str, environ: Mapping[str, str]) -> None:
    """Hold the NPU on which a command line will run, if any, as long as this process lives.

    A rank is within a launch, which holds its device.

    Raises:
        PreflightError: a launch or another command holds it.
        InventoryError: ASCEND_VISIBLE_DEVICES is invalid.
    """
    machine = Machine(environ)
    if {"-h", "--help"} & set(words) or environ.get("NPU_LAUNCH_RANK_DIR") or not _on_npu(words, machine):
        return
    device = _device(machine)
    if device is None:
        return
    from launcher.runs import locks

    holder = locks.keep(device, command)
    if holder is not None:
        advice = "set ASCEND_DEVICE_ID to another device's, or give --backend cpu"
        raise PreflightError(f"{holder}; {holder.end}, {advice}")


def _on_npu(words: Sequence[str], machine: Machine) -> bool:
    """Tell whether the program will take an NPU, as bert/backend chooses one."""
    backend = flags(words).get("backend", "auto")
    backend = machine.environ.get("NPU_LAUNCH_BACKEND", "auto") if backend == "auto" else backend
    if backend != "auto":
        return backend == "npu"
    return bool(dev_nodes.device_ids(machine)) and (any(map(find_spec, _ADAPTERS)) or _has_cann())


def _has_cann() -> bool:
    """Tell whether onnxruntime is here and made for CANN, without importing it."""
    found = find_spec("onnxruntime")
    places = (found.submodule_search_locations if found else None) or ()
    return any(os.path.exists(os.path.join(place, _CANN)) for place in places)


def _device(machine: Machine) -> int | None:
    """Return the physical id of the device that the program opens; None: there is no such device.

    Where no device is seen the number is taken as it is.
    """
    number = machine.environ.get("ASCEND_DEVICE_ID") or machine.environ.get("DEVICE_ID") or "0"
    if not (number.isascii() and number.isdigit() and len(number) < 6):
        return None  # the program says what is wrong with it
    seen = {device.logical_id: device.device_id for device in host.openable(machine)}
    return seen.get(int(number)) if seen else int(number)
