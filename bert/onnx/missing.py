"""Import what export and engine need beyond the rest, or say how to get it."""

from __future__ import annotations

import importlib
from typing import Any

from bert.errors import CheckpointError


def runtime() -> Any:
    """Import onnxruntime. CheckpointError: it is not installed."""
    return _import("onnxruntime")


def onnx() -> Any:
    """Import onnx. CheckpointError: it is not installed."""
    return _import("onnx")


def _import(name: str) -> Any:
    try:
        return importlib.import_module(name)
    except ImportError as error:
        advice = "pip install 'npu-launch[onnx]' (Python 3.8 or newer)"
        raise CheckpointError(f"{name} cannot be imported ({error}); {advice}") from None
