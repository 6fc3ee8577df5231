"""Find an .onnx file. Stdlib only."""

from __future__ import annotations

import os

MODEL = "model.onnx"  # in a folder; the name is that of transformers' and optimum's exports


def find(path: str) -> str:
    """Find the file that a path means: itself, or model.onnx in a folder; "" if there is none."""
    found = os.path.join(path, MODEL) if os.path.isdir(path) else path
    return found if found.endswith(".onnx") and os.path.isfile(found) else ""
