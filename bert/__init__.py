"""BERT in tf.compat.v1: model, optimizer, checkpoints, training loop, device backends."""
