"""Overflow a product on one device and print what its flag says of that: {dtype, inf_nan, finite: [...]}."""

from __future__ import annotations

import json
import os

import numpy as np
import tensorflow.compat.v1 as tf

from bert import backend as backends
from bert.backend.npu_options import NpuOptions
from bert.cluster import Cluster

FACTORS = (1.0, 1e5, 1.0)  # the second product is beyond float16


def main() -> None:
    backend = backends.create(Cluster.from_environ(os.environ), "npu", NpuOptions())
    with tf.Graph().as_default():
        given = tf.placeholder(tf.float32, [16, 16])
        product = tf.matmul(given, given)
        finite = backend.all_finite([product], tf.reduce_max(product))
        inf_nan = backend._adapter.inf_nan()
        dtype = "" if inf_nan else backend._overflow_status([product]).dtype.base_dtype.name
        with tf.Session(config=backend.session_config()) as session:
            session.run(tf.global_variables_initializer())
            seen = [
                bool(session.run(finite, {given: np.full([16, 16], factor, np.float32)}))
                for factor in FACTORS
            ]
    backend.close()
    print(json.dumps({"dtype": dtype, "inf_nan": bool(inf_nan), "finite": seen}))


if __name__ == "__main__":
    main()
