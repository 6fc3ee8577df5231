"""Let two ranks disagree in every way that hangs or fails on a real NPU, and print what each was told."""

from __future__ import annotations

import json
import os
from typing import Any

import tensorflow.compat.v1 as tf

from bert import backend as backends
from bert.backend.npu_options import NpuOptions
from bert.cluster import Cluster


def run(backend: Any, build: Any, before: Any = None) -> str:
    with tf.Graph().as_default():
        fetch = build()
        with tf.Session(config=backend.session_config()) as session:
            try:
                if before is not None:
                    session.run(before())
                session.run(fetch)
            except Exception as error:
                return str(error)
    return ""


def main() -> None:
    backend = backends.create(Cluster.from_environ(os.environ), "npu", NpuOptions())
    reduce, first = backend._adapter.hccl_ops.allreduce, backend.rank == 0

    def swapped() -> Any:
        with tf.control_dependencies([tf.no_op()]):
            one, two = tf.ones([2]), tf.ones([2])
        order = [("sum", one), ("max", two)] if first else [("max", two), ("sum", one)]
        return [reduce(value, kind) for kind, value in order]

    answers: dict[str, str] = {
        "equal": run(backend, lambda: reduce(tf.ones([2]), "sum")),
        "shape": run(backend, lambda: reduce(tf.ones([2 if first else 3]), "sum")),
        "operation more": run(
            backend, lambda: reduce(tf.ones([2]) * (1.0 if first else tf.ones([2])), "sum")
        ),
        "order": run(backend, swapped),
        "reduction": run(backend, lambda: reduce(tf.ones([2]), "sum" if first else "max")),
        "graph more": run(
            backend, lambda: reduce(tf.ones([2]), "sum"), (lambda: tf.ones([1])) if first else None
        ),
        "still alive": run(backend, lambda: reduce(tf.ones([2]), "sum")),
    }
    backend.close()
    print(json.dumps(answers))


if __name__ == "__main__":
    main()
