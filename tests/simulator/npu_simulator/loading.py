"""Load the stand-ins where the adapter loads what it has compiled."""

from __future__ import annotations

import os
import sys
from typing import Any

import tensorflow as tf
import tensorflow.compat.v1 as tf_v1

from npu_simulator import library, plugin, session

_load_op_library = tf.load_op_library
_loaded: Any = None


def operations() -> Any:
    """Give the operations' module, one for the process."""
    global _loaded
    _loaded = _loaded or library.load()
    return _loaded


def adapter() -> Any:
    """Give the operations, and change sessions: the adapter's library holds the graph engine's side too."""
    session.install()
    return operations()


def load_op_library(path: str) -> Any:
    """Stand in for tf.load_op_library."""
    if os.path.basename(path) == "_tf_adapter.so":
        return adapter()
    return operations() if os.path.basename(path) == "_npu_ops.so" else _load_op_library(path)


def stand_in(package: str) -> None:
    """Let a real package of the adapter find the stand-ins: its libraries and its modules in C++."""
    tf.load_op_library = tf_v1.load_op_library = load_op_library
    names = {
        "npu_bridge": {"npu_bridge.tf_adapter": plugin.adapter},
        "npu_device": {
            "npu_device.compat.v1.tf_adapter": plugin.adapter,
            "npu_device._npu_device_backends": plugin.backends,
        },
    }
    for name, make in names[package].items():
        sys.modules[name] = make(name)
