"""The training loop: one readable loop over tf.compat.v1, the same for 1 and N ranks."""

from __future__ import annotations

import json
import os
import time
from dataclasses import dataclass
from typing import Any, Callable, Dict, Iterator, Tuple

import numpy as np
import tensorflow.compat.v1 as tf

from bert import checkpoint, heartbeat, optimizer
from bert.backend.base import Backend
from bert.config import BertConfig
from bert.model import Model, create_variables, span_loss, tanh_gelu
from bert.train_config import TrainConfig

Batches = Callable[[int], Iterator[Dict[str, np.ndarray]]]


@dataclass(frozen=True)
class TrainResult:
    """Say where training ended."""

    checkpoint: str
    step: int
    loss: float


def train(
    model_config: BertConfig,
    config: TrainConfig,
    batches: Batches,
    backend: Backend,
    output_dir: str,
    init_checkpoint: str = "",
    rank_dir: str = "",
) -> TrainResult:
    """Train to config.num_train_steps; rank 0 saves into output_dir, all ranks may read it."""
    with tf.Graph().as_default():
        tf.set_random_seed(config.seed + backend.rank)
        feeder, batch = input_pipeline(batches(0))
        graph = _build(model_config, config, batch, backend)
        with tf.Session(config=backend.session_config()) as session:
            session.run(tf.global_variables_initializer())
            if init_checkpoint and backend.rank == 0:
                for line in checkpoint.load(init_checkpoint, graph["weights"], session):
                    print(line, flush=True)
            session.run(graph["broadcast"])
            session.run(feeder.initializer)
            return _loop(session, graph, config, backend, output_dir, rank_dir)


def input_pipeline(batches: Iterator[Dict[str, np.ndarray]]) -> Tuple[Any, Dict[str, Any]]:
    """Make a tf.data iterator over numpy batches: (iterator to initialise, tensors by key)."""
    first = next(batches)
    keys = sorted(first)

    def generate() -> Iterator[Dict[str, np.ndarray]]:
        yield first
        yield from batches

    types = {key: tf.as_dtype(np.asarray(first[key]).dtype) for key in keys}
    shapes = {key: [None] * np.ndim(first[key]) for key in keys}
    iterator = tf.data.make_initializable_iterator(
        tf.data.Dataset.from_generator(generate, types, shapes).prefetch(4)
    )
    return iterator, iterator.get_next()


def _build(model_config: BertConfig, config: TrainConfig, batch: Any, backend: Backend) -> Dict[str, Any]:
    """Make the graph of a step."""
    weights = create_variables(model_config)
    step = tf.get_variable(
        "global_step", [], tf.int64, tf.zeros_initializer(), trainable=False, use_resource=True
    )
    gelu = tanh_gelu if config.gelu == "tanh" else backend.gelu
    dropout = backend.dropout if config.dropout else None
    model = Model(model_config, weights, gelu, dropout, training=True)
    loss = span_loss(model.span_logits(batch), batch, config.loss_over) / batch["global_weight"]
    variables = list(weights.values())
    sparse = tf.gradients(loss, variables)
    gradients = [tf.convert_to_tensor(g) for g in sparse]
    # Google's norm counts a word's gradient once for each token, before equal words are added up.
    per_token = sum(tf.reduce_sum(tf.square(g.values)) for g in sparse if isinstance(g, tf.IndexedSlices))
    *gradients, loss, per_token = backend.all_reduce_sum([*gradients, loss, per_token])
    dense = [g for g, was in zip(gradients, sparse) if not isinstance(was, tf.IndexedSlices)]
    norm = tf.sqrt(per_token + sum(tf.reduce_sum(tf.square(g)) for g in dense))
    if config.clip == "global":
        gradients, _ = tf.clip_by_global_norm(gradients, config.clip_norm, use_norm=norm)
    elif config.clip == "per_tensor":
        gradients = [tf.clip_by_norm(g, config.clip_norm) for g in gradients]
    rate = optimizer.learning_rate(
        step, config.learning_rate, config.num_train_steps, config.num_warmup_steps
    )
    slots = optimizer.make_slots(variables)
    with tf.control_dependencies(gradients):
        updates = optimizer.apply(variables, gradients, slots, rate, config.weight_decay, config.adam_epsilon)
    with tf.control_dependencies(updates):
        advance = step.assign_add(1)
    state = [*variables, *(slot for pair in slots.values() for slot in pair), step]
    return {
        "weights": weights, "state": state, "step": step, "advance": advance, "loss": loss, "rate": rate,
        "norm": norm, "examples": batch["global_weight"], "broadcast": backend.broadcast([*state[:-1]]),
        "saver": tf.train.Saver(state, max_to_keep=config.keep_checkpoints),
    }  # fmt: skip


def _loop(
    session: Any, graph: Dict[str, Any], config: TrainConfig, backend: Backend, output_dir: str, rank_dir: str
) -> TrainResult:
    fetches = {name: graph[name] for name in ("advance", "loss", "rate", "norm", "examples")}
    metrics = _open_metrics(rank_dir)
    prefix, seen, since, result = "", 0.0, time.monotonic(), {}
    start = int(session.run(graph["step"]))
    for step in range(start + 1, config.num_train_steps + 1):
        result = session.run(fetches)
        seen += float(result["examples"])
        heartbeat.beat("train", step)
        if not np.isfinite(result["loss"]):
            raise FloatingPointError(
                "loss is %s at step %d; lower the learning rate" % (result["loss"], step)
            )
        if step % config.display_loss_steps == 0 or step == config.num_train_steps:
            speed, seen, since = seen / (time.monotonic() - since), 0.0, time.monotonic()
            record = {
                "step": step, "loss": float(result["loss"]), "learning_rate": float(result["rate"]),
                "gradient_norm": float(result["norm"]), "examples_per_second": speed, "time": time.time(),
            }  # fmt: skip
            metrics(record)
            if backend.rank == 0:
                print("step %d/%d  loss %.4f  lr %.3g  %.1f examples/s (%.1f a device)" % (
                    step, config.num_train_steps, result["loss"], result["rate"], speed, speed / backend.size),
                    flush=True)  # fmt: skip
        due = config.save_checkpoints_steps and step % config.save_checkpoints_steps == 0
        if due or step == config.num_train_steps:
            prefix = os.path.join(output_dir, "model.ckpt-%d" % step)
            if backend.rank == 0:
                checkpoint.save(session, graph["saver"], prefix, step)
            backend.barrier()
    return TrainResult(prefix, config.num_train_steps, float(result.get("loss", 0.0)))


def _open_metrics(rank_dir: str) -> Callable[[Dict[str, Any]], None]:
    if not rank_dir:
        return lambda record: None
    stream = open(os.path.join(rank_dir, "metrics.jsonl"), "a", encoding="utf-8", buffering=1)
    return lambda record: stream.write(json.dumps(record) + "\n") and None


def predict(
    model_config: BertConfig,
    prefix: str,
    batches: Iterator[Dict[str, np.ndarray]],
    backend: Backend,
    gelu: str = "exact",
) -> Iterator[Tuple[np.ndarray, np.ndarray]]:
    """Yield (start logits, end logits) [B, L] of each batch, in order."""
    with tf.Graph().as_default():
        weights = create_variables(model_config)
        feeds = {
            key: tf.placeholder(tf.int32, [None, None]) for key in ("input_ids", "input_mask", "segment_ids")
        }
        model = Model(model_config, weights, tanh_gelu if gelu == "tanh" else backend.gelu)
        logits = model.span_logits(feeds)
        with tf.Session(config=backend.session_config()) as session:
            session.run(tf.global_variables_initializer())
            checkpoint.load(prefix, weights, session)
            for batch in batches:
                start, end = session.run(logits, {feeds[key]: batch[key] for key in feeds})
                yield start, end
