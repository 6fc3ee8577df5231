"""Train a line by TensorFlow 1.15's own Estimator or TPUEstimator, which prints to stderr as BERT's do.

python make_tensorflow.py estimator|tpu FOLDER STEPS [twin]; twin: absl prints each message, too, as it does
in a program that uses absl's logging.
"""

from __future__ import annotations

import sys

import tensorflow.compat.v1 as tf


def model(features, labels, mode, params=None):
    """Fit w to 3."""
    weight = tf.get_variable("w", [], initializer=tf.zeros_initializer())
    loss = tf.reduce_mean(tf.square(weight * features - 3.0 * features))
    step = tf.train.get_or_create_global_step()
    train = tf.train.GradientDescentOptimizer(0.02).minimize(loss, global_step=step)
    kind = tf.estimator.tpu.TPUEstimatorSpec if params else tf.estimator.EstimatorSpec
    return kind(mode=mode, loss=loss, train_op=train)


def rows(params=None):
    """Batches of 4."""
    return tf.data.Dataset.from_tensors(tf.ones([4])).map(lambda x: (x, x)).repeat()


def main(kind: str, folder: str, steps: int) -> None:
    """Train up to a step."""
    tf.logging.set_verbosity(tf.logging.INFO)
    if kind == "tpu":
        config = tf.estimator.tpu.RunConfig(
            model_dir=folder, save_checkpoints_steps=20, log_step_count_steps=10,
            tpu_config=tf.estimator.tpu.TPUConfig(iterations_per_loop=10),
        )  # fmt: skip
        estimator = tf.estimator.tpu.TPUEstimator(model, config=config, train_batch_size=4, use_tpu=False)
    else:
        config = tf.estimator.RunConfig(
            model_dir=folder, save_checkpoints_steps=20, log_step_count_steps=10, save_summary_steps=10
        )
        estimator = tf.estimator.Estimator(model, config=config)
    estimator.train(rows, max_steps=steps)


if "twin" in sys.argv:
    from absl import logging

    logging.use_absl_handler()
    logging.set_verbosity(logging.INFO)
main(sys.argv[1], sys.argv[2], int(sys.argv[3]))
