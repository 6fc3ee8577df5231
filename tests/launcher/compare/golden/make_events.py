"""Scalars as TensorFlow's own writers write them: python make_events.py FILE, under 1.15 or under 2.x."""

from __future__ import annotations

import glob
import os
import sys
import tempfile

import tensorflow as tf

folder = tempfile.mkdtemp()
steps = [1, 2, 3, 3, 4]  # step 3 was repeated after a restart
losses = [4.0, 2.0, 9.0, 1.0, float("nan")]
if tf.__version__ < "2":
    writer = tf.compat.v1.summary.FileWriter(folder)
    for step, loss in zip(steps, losses):
        values = [tf.compat.v1.Summary.Value(tag="loss", simple_value=loss),
                  tf.compat.v1.Summary.Value(tag="learning_rate", simple_value=1e-5)]  # fmt: skip
        writer.add_summary(tf.compat.v1.Summary(value=values), step)
    writer.close()
else:
    with tf.summary.create_file_writer(folder).as_default():
        for step, loss in zip(steps, losses):
            tf.summary.scalar("train/loss", loss, step=step)
            tf.summary.scalar("eval/loss", 7.0, step=step)
os.replace(glob.glob(folder + "/*tfevents*")[0], sys.argv[1])
os.rmdir(folder)
