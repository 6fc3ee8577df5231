"""Fine-tune: from the flags and rows to the trainer's settings and batches."""

from __future__ import annotations

import dataclasses
from typing import Any, Iterator

from bert import trainer
from bert.backend.base import Backend
from bert.backend.npu_options import NpuOptions
from bert.config import BertConfig
from bert.train_config import TrainConfig
from squad.data import batching
from squad.data.data_order import DataOrder
from squad.errors import DataError
from squad.flags import SquadFlags
from squad.job import Dataset, Job

OFF, DYNAMIC = -1.0, 0.0  # of TrainConfig.npu_bert_loss_scale


def train(job: Job, model: BertConfig, data: Dataset, backend: Backend) -> str:
    """Train on the rows; return the prefix of the last checkpoint, which every rank can read.

    Raises:
        DataError: there are no rows, or the device cannot take batches of this kind.
    """
    flags, features = job.flags, data.features
    mode = flags.batching
    if not len(features):
        raise DataError(f"{flags.train_file}: no passage with any text in it; give a SQuAD file")
    if mode == "bucket" and backend.static_shapes:
        raise DataError("batching bucket: this device compiles every shape anew; give batching=pack or pad")
    shuffle = not flags.npu_bert_debug
    order = batching.make_order(features, rows_per_step(flags, backend.size), flags.seed, shuffle, mode)
    config = train_config(flags, order, backend.name)
    job.say(describe(order, config, len(features), backend.size))
    if backend.name == "npu" or config.npu_bert_loss_scale >= 0:
        job.say(describe_scale(config))

    def batches(start_step: int) -> Iterator[batching.Batch]:
        return batching.train_batches(
            features, order, backend.rank, backend.size, start_step, config.num_train_steps,
            flags.num_accumulation_steps,
        )  # fmt: skip

    result = trainer.train(
        model, config, batches, backend, job.output_dir, flags.init_checkpoint, job.cluster.rank_dir
    )
    job.say(f"trained {result.step} steps, loss {result.loss:.4f}; checkpoint {result.checkpoint}")
    return result.checkpoint


def rows_per_step(flags: SquadFlags, ranks: int) -> int:
    """Count the rows of an optimizer step over all ranks and accumulated batches."""
    return flags.global_batch_size or flags.train_batch_size * ranks * flags.num_accumulation_steps


def loss_scale(flags: SquadFlags, device: str) -> float:
    """Choose the loss scale: as the flag says, else dynamic where the device multiplies in float16.

    Gradients below its smallest number, 6e-8, become 0 there, also when everything else is float32; bfloat16
    has float32's range, and so has a CPU.
    """
    if flags.npu_bert_loss_scale is not None:
        return flags.npu_bert_loss_scale
    half = device == "npu" and "fp16" in NpuOptions.from_flags(flags).computes_in
    return DYNAMIC if half else OFF


def train_config(flags: SquadFlags, order: DataOrder, device: str) -> TrainConfig:
    """Give the trainer's settings: every field that has a flag's name is that flag's value."""
    known = {field.name for field in dataclasses.fields(TrainConfig)}
    values: dict[str, Any] = {name: getattr(flags, name) for name in known & set(vars(flags))}
    steps = flags.num_train_steps or max(1, round(flags.num_train_epochs * order.steps_per_epoch))
    computed = {
        "num_train_steps": steps,
        "num_warmup_steps": int(steps * flags.warmup_proportion),
        "dropout": not flags.npu_bert_debug,
        "clip": flags.clipping,
        "amp": flags.mixed_precision,
        "npu_bert_loss_scale": loss_scale(flags, device),
        "rows_per_step": order.global_batch,
        "steps_per_epoch": order.steps_per_epoch,
        # Padding takes part in Google's softmax; rows of other lengths, or of several features, cannot.
        "softmax_over": "row" if flags.batching == "pad" else "tokens",
    }
    values.update((name, value) for name, value in computed.items() if name in known)
    return TrainConfig(**values)


def describe(order: DataOrder, config: TrainConfig, features: int, ranks: int) -> str:
    """Say in a line what an epoch and a step are."""
    packed = f"{features} features in {order.num_rows} rows" if order.mode == "pack" else ""
    return "training: %d steps of %d rows on %d device%s; an epoch is %s, %d steps; batching %s" % (
        config.num_train_steps, order.global_batch, ranks, "" if ranks == 1 else "s",
        packed or f"{features} features", order.steps_per_epoch, order.mode,
    )  # fmt: skip


def describe_scale(config: TrainConfig) -> str:
    """Say in a line which loss scale was chosen."""
    scale = config.npu_bert_loss_scale
    if scale < 0:
        return "loss scale: off"
    if scale == DYNAMIC:
        return f"loss scale: dynamic, from {config.init_loss_scale_value:.10g} on"
    return f"loss scale: {scale:.10g}"
