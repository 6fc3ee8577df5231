"""What an engine other than TensorFlow needs of the flags. Stdlib only."""

from __future__ import annotations

import os
from typing import Iterator

from bert.checkpoints import absent, index
from bert.onnx import files, shape
from squad.flags import Finding, SquadFlags


def resolve(flags: SquadFlags) -> str:
    """Return the checkpoint, or the .onnx file, that init_checkpoint means; a path that means none stays."""
    path = flags.init_checkpoint
    if not path:
        return ""
    if flags.engine == "onnxruntime":
        return files.find(path) or path
    return index.resolve(path)


def has_model(flags: SquadFlags) -> bool:
    """Tell whether init_checkpoint leads to weights that the engine reads."""
    path = flags.init_checkpoint
    return bool(files.find(path)) if flags.engine == "onnxruntime" else index.find(path) is not None


def columns(flags: SquadFlags) -> int | None:
    """Read how many tokens every row of an .onnx file has; None: the engine takes rows of any length."""
    return shape.columns(flags.init_checkpoint) if flags.engine == "onnxruntime" else None


def problems(flags: SquadFlags, typed: str) -> Iterator[Finding]:
    """Yield why init_checkpoint cannot be used; typed: as the user wrote it."""
    path = flags.init_checkpoint
    if flags.engine == "onnxruntime" and flags.do_train:
        yield "engine", "onnxruntime answers only; leave do_train out, or engine"
    if not path or has_model(flags):
        return
    if flags.engine == "onnxruntime":
        there = "no .onnx file" if os.path.exists(path) else "no such file or folder"
        made = "a checkpoint; " if index.find(path) else ""
        advice = f"{made}write one with npu-launch export {path} FOLDER --format onnx, and give FOLDER"
        yield "init_checkpoint", f"{path}: {there}; {advice}"
    elif files.find(path):
        yield "init_checkpoint", f"{path}: an .onnx file; give --engine=onnxruntime, or its checkpoint"
    else:
        yield "init_checkpoint", f"{path}: {absent.explain(path, typed)}"
