"""Build training graphs over operations compiled from the adapter's definitions; nothing of them runs.

argv[1]: the library. Prints the number of graphs: ranks, loop, loss scale and gather, in every combination.
"""

from __future__ import annotations

import dataclasses
import itertools
import json
import os
import sys
from typing import Any

import tensorflow.compat.v1 as tf
from npu_simulator import loading

from bert import step
from bert.backend.npu import NpuBackend
from bert.backend.npu_options import NpuOptions
from bert.cluster import Cluster
from bert.trainer import input_pipeline
from tests.npu.programs.operations import CONFIG, MODEL, batch


class Unopened(NpuBackend):
    """The backend without a device: graphs are built, sessions are not made."""

    def _open(self) -> None:
        pass

    def close(self) -> None:
        pass


def build(ranks: int, loop: int, scale: float, gather: bool) -> None:
    options = NpuOptions(iterations_per_loop=loop, npu_gather=gather)
    backend: Any = Unopened(dataclasses.replace(Cluster(), size=ranks), options)
    config = dataclasses.replace(CONFIG, npu_bert_loss_scale=scale)
    with tf.Graph().as_default():
        _, tensors = input_pipeline(iter([batch(), batch()]), static_shapes=True)
        step.build(MODEL, config, tensors, backend)


def main() -> None:
    library = loading._load_op_library(sys.argv[1])
    os.environ["JOB_ID"] = "graphs"
    loading.operations = loading.adapter = lambda: library
    cases = list(itertools.product((1, 2), (1, 2), (-1.0, 0.0, 1024.0), (False, True)))
    for case in cases:
        build(*case)
    print(json.dumps(len(cases)))


if __name__ == "__main__":
    main()
