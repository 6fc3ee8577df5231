"""Print the types of operations that a training step and a prediction put on the device: {graph: [types]}."""

from __future__ import annotations

import json
import os
from functools import partial
from typing import Any

import numpy as np
import tensorflow.compat.v1 as tf

from bert import backend as backends
from bert import step
from bert.backend.npu_options import NpuOptions
from bert.cluster import Cluster
from bert.config import BertConfig
from bert.model import Model, Operations, create_variables
from bert.train_config import TrainConfig
from bert.trainer import input_pipeline

ROWS, COLUMNS = 2, 16
MODEL = BertConfig(
    vocab_size=40, hidden_size=16, num_hidden_layers=1, num_attention_heads=2, intermediate_size=24,
    max_position_embeddings=16, type_vocab_size=2,
)  # fmt: skip
CONFIG = TrainConfig(
    gelu="tanh",
    num_train_steps=4, learning_rate=1e-3, num_warmup_steps=1, rows_per_step=ROWS, steps_per_epoch=2,
    npu_bert_loss_scale=0.0,
)  # fmt: skip


def batch() -> Any:
    ints = {name: np.zeros([ROWS, COLUMNS], np.int32) for name in ("input_ids", "input_mask", "segment_ids")}
    places = {name: np.zeros([ROWS, 1], np.int32) for name in ("start_positions", "end_positions")}
    weights = {"example_weights": np.ones([ROWS, 1], np.float32), "global_weight": np.float32(ROWS)}
    return {**ints, **places, **weights}


def types(graph: Any) -> list[str]:
    """List the types of a graph's operations, but for those of the data pipeline, which stays on the host."""
    found = {node.type for node in graph.get_operations()}
    return sorted(kind for kind in found if "Dataset" not in kind and kind not in ("PyFunc", "MakeIterator"))


def main() -> None:
    backend = backends.create(Cluster.from_environ(os.environ), "npu", NpuOptions(iterations_per_loop=2))
    found = {}
    with tf.Graph().as_default() as graph:
        _, tensors = input_pipeline(iter([batch(), batch()]), static_shapes=True)
        step.build(MODEL, CONFIG, tensors, backend)
        found["training"] = types(graph)
    with tf.Graph().as_default() as graph:
        names = ("input_ids", "input_mask", "segment_ids")
        feeds = {name: tf.placeholder(tf.int32, [ROWS, COLUMNS]) for name in names}
        operations = Operations(gelu=partial(backend.gelu, form="tanh"))
        Model(MODEL, create_variables(MODEL), operations).span_logits(feeds)
        found["prediction"] = types(graph)
    backend.close()
    print(json.dumps(found))


if __name__ == "__main__":
    main()
