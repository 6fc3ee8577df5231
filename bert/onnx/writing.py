"""Write a model as model.onnx, check what was written, and say in README.md what was checked."""

from __future__ import annotations

import math
import os
import platform
from dataclasses import dataclass
from typing import Any, Iterator

import numpy as np

from bert.config import BertConfig
from bert.errors import CheckpointError
from bert.onnx import atc, files, graph, missing, session
from bert.onnx.graph import Shape, Weights

TOLERANCE = 1e-4  # of a logit, between the file in onnxruntime and the checkpoint in TensorFlow
DATA = "model.onnx.data"  # the weights of a model that is too large for one file
_LARGEST_FILE = (1 << 31) - (1 << 24)  # protobuf ends at 2 GiB; the nodes need some


@dataclass(frozen=True)
class Order:
    """What to write: form is onnx, onnx-int8 or om; soc the chip of an om."""

    checkpoint: str
    config: BertConfig
    gelu: str
    form: str = "onnx"
    shape: Shape | None = None
    soc: str = ""


def write(order: Order, weights: Weights, folder: str) -> list[str]:
    """Create FOLDER with model.onnx and README.md; return what to tell the user.

    Raises:
        CheckpointError: the file differs from the checkpoint, a library is missing, or atc fails.
    """
    missing.onnx(), missing.runtime()  # before anything is computed
    os.makedirs(folder)
    path = os.path.join(folder, files.MODEL)
    save(graph.build(order.config, weights, order.gelu, order.shape, order.form == "onnx-int8"), path)
    difference = compare(order, path)
    if not difference <= (math.inf if order.form == "onnx-int8" else TOLERANCE):  # nan is neither
        raise CheckpointError(
            f"the .onnx file's logits differ from the checkpoint's by {difference:.2g}, more than"
            f" {TOLERANCE:g}; nothing was written"
        )
    lines = [_size(folder), _checked(order, difference)]
    if order.form == "om":
        lines += atc.convert(folder, order.shape or (1, 1), order.soc)
    with open(os.path.join(folder, "README.md"), "w", encoding="utf-8") as stream:
        stream.write(_readme(order, lines))
    return lines


def save(model: Any, path: str, largest: int = _LARGEST_FILE) -> None:
    """Write a model; beyond `largest` bytes its weights go into a file beside it."""
    onnx = missing.onnx()
    apart = sum(len(tensor.raw_data) for tensor in model.graph.initializer) > largest
    options = {"all_tensors_to_one_file": True, "location": DATA, "size_threshold": 1024} if apart else {}
    onnx.save_model(model, path, save_as_external_data=apart, **options)
    onnx.checker.check_model(path)


def compare(order: Order, path: str) -> float:
    """Return the largest difference of a logit from the checkpoint's in TensorFlow, on sample rows."""
    from bert import backend as backends
    from bert import predictor
    from bert.cluster import Cluster

    batches = list(samples(order.config, order.shape))
    largest = 0.0
    backend = backends.create(Cluster(), "cpu")
    try:
        ours = predictor.predict(order.config, order.checkpoint, iter(batches), backend, order.gelu)
        with session.open(path, provider="CPUExecutionProvider") as written:
            for batch, logits in zip(batches, ours):
                for mine, theirs in zip(logits, written.run(batch)):
                    difference = np.abs(mine - theirs).max() if np.isfinite(theirs).all() else np.nan
                    largest = float(np.maximum(largest, difference))  # nan stays nan
    finally:
        backend.close()
    return largest


def samples(config: BertConfig, shape: Shape | None) -> Iterator[Any]:
    """Yield batches of random tokens: full and partly filled rows, two texts in each."""
    most = config.max_position_embeddings
    random = np.random.RandomState(0)
    for rows, columns in [shape] if shape else [(4, min(most, 96)), (1, min(most, 384))]:
        lengths = random.randint(max(1, columns // 4), columns + 1, rows)
        lengths[0] = columns
        mask = (np.arange(columns) < lengths[:, None]).astype(np.int32)
        second = (np.arange(columns) >= columns // 4).astype(np.int32) * min(1, config.type_vocab_size - 1)
        ids = random.randint(0, config.vocab_size, (rows, columns)).astype(np.int32)
        yield {"input_ids": ids * mask, "input_mask": mask, "segment_ids": second * mask}


def _size(folder: str) -> str:
    size = sum(os.path.getsize(os.path.join(folder, name)) for name in os.listdir(folder))
    return f"{files.MODEL}: {size / 1e6:.1f} MB, opset {graph.OPSET}"


def _checked(order: Order, difference: float) -> str:
    shapes = " and ".join(f"{len(b['input_ids'])} x {b['input_ids'].shape[1]}" for b in
                          samples(order.config, order.shape))  # fmt: skip
    against = f"logits against the checkpoint's in TensorFlow, {shapes} random tokens"
    return f"{against}: largest difference {difference:.2g}"


def _readme(order: Order, lines: list[str]) -> str:
    runtime = missing.runtime()
    import tensorflow as tf

    sizes = "[{}, {}]".format(*(order.shape or ("B", "L")))
    kind = "int8 matrices, by onnxruntime's MatMulInteger" if order.form == "onnx-int8" else "float32"
    versions = (
        f"onnx {missing.onnx().__version__}, onnxruntime {runtime.__version__}, TensorFlow {tf.__version__},"
        f" Python {platform.python_version()}"
    )
    return "\n".join([
        "# BERT with a span head, as ONNX", "",
        f"`{files.MODEL}`: {kind}, opset {graph.OPSET}, gelu {order.gelu}. Inputs int64 {sizes}: "
        + ", ".join(f"`{name}`" for name in graph.INPUTS)
        + f"; outputs float32 {sizes}: " + " and ".join(f"`{name}`" for name in graph.OUTPUTS) + ".", "",
        "`config.json`, `vocab.txt` and `tokenizer_config.json` say how texts become its inputs, and how"
        " it is asked.", "",
        "Checked when it was written:", "", *[f"- {line}" for line in lines], f"- with {versions}", "",
    ])  # fmt: skip
