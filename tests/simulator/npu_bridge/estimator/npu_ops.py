"""System operations and dropout."""

from __future__ import annotations

from typing import Any

from npu_simulator import ops

dropout = ops.dropout


def initialize_system(name: Any = None) -> Any:
    return ops.system("initialize_system", name)


def shutdown_system(name: Any = None) -> Any:
    return ops.system("shutdown_system", name)
