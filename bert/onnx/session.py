"""Answer batches with onnxruntime: on an Ascend device where it is made for CANN, else on its cores."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any, Mapping, Sequence

import numpy as np

from bert import environment
from bert.errors import CheckpointError
from bert.onnx import files, missing
from bert.onnx.graph import INPUTS, OUTPUTS
from bert.predictor import KEYS, Predictor

if TYPE_CHECKING:
    from bert.interfaces import Logits, PredictBatch

CANN, CPU = "CANNExecutionProvider", "CPUExecutionProvider"
_SPELLINGS = dict(zip(KEYS, KEYS), **dict(zip(INPUTS, KEYS)))  # of an input, here; in the same order
_INTEGERS = {"tensor(int64)": np.int64, "tensor(int32)": np.int32}


class OnnxModel(Predictor):
    """A session of onnxruntime."""

    def __init__(self, session: Any, at_once: int = 1) -> None:
        """Look at what the file reads and writes. ValueError: not what a model of this kind does."""
        self._session = session
        self._inputs = _inputs(session.get_inputs())
        self._rows, self._columns = _sizes(session.get_inputs())
        _check_outputs(session.get_outputs())
        self.provider = str(session.get_providers()[0])
        # A device computes one batch, however many cores its host has.
        self.at_once = 1 if self.provider == CANN else at_once
        # A device compiles each shape separately, so there all batches have one.
        self.padded = self._columns is not None or self.provider == CANN

    @property
    def precision(self) -> str:
        """Name the type in which the matrices are multiplied."""
        held = self._session.get_modelmeta().custom_metadata_map
        return "int8" if held.get("precision") == "int8" else "fp32"

    @property
    def columns(self) -> int | None:
        """The most tokens of a row; None: as many as the model has positions."""
        return self._columns

    def run(self, batch: PredictBatch) -> Logits:
        given: Mapping[str, Any] = batch
        if self._rows is None and self._columns is None:
            return self._run(given)
        count, width = batch["input_ids"].shape
        return self._run_fixed(given, self._rows or count, self._columns or width)

    def _run(self, batch: Mapping[str, Any]) -> Logits:
        feed = {name: batch[key].astype(kind) for name, (key, kind) in self._inputs.items()}
        rows, columns = batch["input_ids"].shape
        what = f"the .onnx file does not compute {rows} x {columns} tokens"
        try:
            start, end = self._session.run(list(OUTPUTS), feed)
        except Exception as error:  # a shape that is fixed within, an operator that the device lacks
            raise CheckpointError(f"{what}: {_first_line(error)}") from None
        if not start.shape == end.shape == (rows, columns):
            shapes = f"{_shown(start.shape)} and {_shown(end.shape)}"
            raise CheckpointError(f"{what}, but {shapes}; export it anew")
        return start.astype(np.float32, copy=False), end.astype(np.float32, copy=False)

    def _run_fixed(self, batch: Mapping[str, Any], rows: int, columns: int) -> Logits:
        """Fill rows and columns up to the file's shape, call after call; return the batch's own."""
        count, width = batch["input_ids"].shape
        if width > columns:
            raise CheckpointError(f"a row has {width} tokens, the .onnx file is made for {columns}")
        parts = []
        for first in range(0, count, rows):
            part = {key: batch[key][first : first + rows] for key in KEYS}
            short = ((0, rows - len(part["input_ids"])), (0, columns - width))
            parts.append(self._run({key: np.pad(value, short) for key, value in part.items()}))
        start, end = (np.concatenate(side)[:count, :width] for side in zip(*parts))
        return start, end

    def close(self) -> None:
        self._session = None


def open(path: str, at_once: int = 1, provider: str = "") -> OnnxModel:  # a module's word: session.open
    """Load an .onnx file, or the one in a folder; the caller closes it.

    at_once: batches that are computed at the same time, sharing the cores. provider: of onnxruntime; default:
    CANN's where onnxruntime has it, else the CPU's.

    Raises:
        CheckpointError: there is no such file, onnxruntime is missing or refuses the file, or its inputs and
            outputs are another model's.
    """
    runtime = missing.runtime()
    found = files.find(path)
    if not found:
        raise CheckpointError(f"{path}: no .onnx file; make one with npu-launch export --format onnx")
    try:
        providers = _providers(runtime, provider)
    except ValueError as error:
        raise CheckpointError(f"{found}: {error}") from None
    at_once = 1 if CANN in providers[0] else at_once
    options = runtime.SessionOptions()
    options.intra_op_num_threads = max(1, environment.cores() // at_once)
    options.inter_op_num_threads = 1
    options.log_severity_level = 3
    try:
        session = runtime.InferenceSession(found, options, providers=providers)
        return OnnxModel(session, at_once)
    except Exception as error:  # onnxruntime has an exception for each of its codes, and no class above them
        raise CheckpointError(f"{found}: {_first_line(error)}") from None


def _providers(runtime: Any, wanted: str) -> list[Any]:
    held = runtime.get_available_providers()
    if wanted and wanted not in held:
        raise ValueError(f"this onnxruntime has no {wanted}, only {', '.join(held)}")
    if CANN in held and wanted in ("", CANN):
        # https://onnxruntime.ai/docs/execution-providers/community-maintained/CANN-ExecutionProvider.html
        device = os.environ.get("ASCEND_DEVICE_ID") or os.environ.get("DEVICE_ID") or "0"
        return [(CANN, {"device_id": device}), CPU]
    return [wanted or CPU]


def _inputs(held: Sequence[Any]) -> dict[str, tuple[str, Any]]:
    """Map the file's inputs to this program's names and to their types."""
    found = {}
    for entry in held:
        if entry.name not in _SPELLINGS or entry.type not in _INTEGERS:
            raise ValueError(f"input {entry.name} of {entry.type} is unknown; expected {', '.join(INPUTS)}")
        found[entry.name] = (_SPELLINGS[entry.name], _INTEGERS[entry.type])
    absent = [name for name, key in zip(INPUTS, KEYS) if key not in [key for key, _ in found.values()]]
    if absent:
        raise ValueError(f"it has no input {', '.join(absent)}; this is not a BERT that reads two texts")
    return found


def _sizes(held: Sequence[Any]) -> tuple[int | None, int | None]:
    """Read the fixed rows and columns; None: free. ValueError: the inputs do not have one such shape."""
    shapes = [_fixed(entry.name, entry.shape) for entry in held]
    if len(set(shapes)) != 1:
        listed = ", ".join(f"{entry.name} {_shown(entry.shape)}" for entry in held)
        raise ValueError(f"its inputs have several shapes: {listed}; expected one of rows and columns")
    return shapes[0]


def _fixed(name: str, sizes: Sequence[Any]) -> tuple[int | None, int | None]:
    if len(sizes) != 2:
        raise ValueError(f"input {name} has the shape {_shown(sizes)}; expected rows and columns")
    rows, columns = (size if isinstance(size, int) and size > 0 else None for size in sizes)
    return rows, columns


def _check_outputs(held: Sequence[Any]) -> None:
    """Refuse a file that does not write the logits of each token. ValueError: what it writes."""
    shapes = {output.name: output.shape for output in held}
    if not set(OUTPUTS) <= set(shapes):
        raise ValueError(f"its outputs are {', '.join(shapes)}; expected {' and '.join(OUTPUTS)}")
    for name in OUTPUTS:
        if shapes[name] and len(shapes[name]) != 2:
            raise ValueError(f"output {name} has the shape {_shown(shapes[name])}; expected rows and columns")


def _shown(sizes: Sequence[Any]) -> str:
    return f"[{', '.join(str(size) for size in sizes)}]"


def _first_line(error: Exception) -> str:
    return str(error).strip().split("\n")[0][:300] or type(error).__name__
