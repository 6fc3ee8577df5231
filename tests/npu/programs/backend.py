"""Drive NpuBackend itself on some ranks and print what came of it as JSON."""

from __future__ import annotations

import json
import os
import sys
from typing import Any

import numpy as np
import tensorflow.compat.v1 as tf

from bert import backend as backends
from bert.backend.npu_options import NpuOptions
from bert.cluster import Cluster


def steps(backend: Any, counts: Any) -> dict[str, Any]:
    """Run a step that adds the ranks' numbers: 2 i + 1 in step i on two ranks."""

    def numbers() -> Any:
        for number in range(1000):
            yield np.full([2], number + backend.rank, np.float32)

    with tf.Graph().as_default():
        data = tf.data.Dataset.from_generator(numbers, tf.float32, [2])
        feeder = tf.data.make_initializable_iterator(data)
        batch = feeder.get_next()
        total = tf.get_variable("total", [2], initializer=tf.zeros_initializer(), use_resource=True)
        start = tf.get_variable(
            "start", [2], initializer=tf.constant_initializer(5.0 + backend.rank), use_resource=True
        )
        summed, scalar = backend.all_reduce_sum([batch, tf.reduce_sum(batch)])
        finite = backend.all_finite([summed], scalar)
        step = backend.train_op(total.assign_add(tf.where(finite, summed, tf.zeros_like(summed))))
        copy = backend.broadcast([total, start])
        fetches = {"step": step, "scalar": scalar, "finite": finite}
        finites = []
        with tf.Session(config=backend.session_config()) as session:
            session.run(tf.global_variables_initializer())
            session.run(copy)
            session.run(feeder.initializer)
            for count in counts:
                values = backend.run_steps(session, fetches, count)
                finites.append(bool(values["finite"]))
            total_, start_ = session.run([total, start])
    return {
        "total": total_.tolist(), "start": start_.tolist(), "scalar": float(values["scalar"]),
        "finite": finites,
    }  # fmt: skip


def lookups(backend: Any) -> dict[str, Any]:
    """Compare the gather with a dense gradient with TensorFlow's, and the fused gelu with its formula."""
    with tf.Graph().as_default():
        table = tf.get_variable("table", [5, 3], use_resource=True)
        ids = tf.constant([4, 1, 4])
        weights = tf.constant(np.arange(9.0, dtype=np.float32).reshape(3, 3))
        ours = tf.gradients(tf.reduce_sum(backend.gather(table, ids) * weights), table)[0]
        theirs = tf.gradients(tf.reduce_sum(tf.gather(table, ids) * weights), table)[0]
        x = tf.constant([-1.0, 0.5, 2.0])
        with tf.Session(config=backend.session_config()) as session:
            session.run(tf.global_variables_initializer())
            difference = session.run(tf.reduce_max(tf.abs(ours - tf.convert_to_tensor(theirs))))
            return {
                "dense": not isinstance(ours, tf.IndexedSlices),
                "difference": float(difference),
                "tanh": session.run(backend.gelu(x, "tanh")).tolist(),
                "exact": session.run(backend.gelu(x, "exact")).tolist(),
                "kept": session.run(backend.dropout(tf.ones([1000]), 0.25, None)).tolist(),
            }


def main() -> None:
    options = NpuOptions(**json.loads(sys.argv[1]))
    backend = backends.create(Cluster.from_environ(os.environ), "npu", options)
    gathered = backend.all_gather({"rank": backend.rank, "text": "x" * 300 * (backend.rank + 1)})
    answers = {
        "ranks": [entry["rank"] for entry in gathered],
        "lengths": [len(entry["text"]) for entry in gathered],
        **steps(backend, json.loads(sys.argv[2])),
        **lookups(backend),
    }
    backend.barrier()
    if len(sys.argv) <= 3:
        backend.close()
        backend.close()
    elif sys.argv[3] == "raise":
        raise KeyError("an error of the program")
    elif sys.argv[3] == "sigterm":
        os.kill(os.getpid(), 15)
    print(json.dumps(answers))


if __name__ == "__main__":
    main()
