"""Fine-tune: from the flags and rows to the trainer's settings and batches."""

from __future__ import annotations

import dataclasses
import os
from typing import TYPE_CHECKING, Any, Iterator

from bert import heartbeat, model_files, trainer
from bert.backend.base import Backend
from bert.backend.npu_options import NpuOptions
from bert.checkpoints import resume
from bert.checkpoints.store import sha256
from bert.config import BertConfig
from bert.model_files import Words
from bert.text_rules import TextRules
from bert.train_config import TrainConfig
from squad import presets, task
from squad.data import batching
from squad.data.data_order import DataOrder
from squad.errors import DataError
from squad.flags import SquadFlags
from squad.held import NOTHING, Held
from squad.job import Dataset, Job

if TYPE_CHECKING:
    from bert.evaluation import Standing
    from bert.interfaces import Batch
    from squad.evaluation import SquadEvaluation

OFF, DYNAMIC = -1.0, 0.0  # of TrainConfig.npu_bert_loss_scale


def train(
    job: Job,
    model: BertConfig,
    data: Dataset,
    backend: Backend,
    evaluation: SquadEvaluation | None = None,
    held: Held = NOTHING,
) -> str:
    """Train on the rows; return the prefix of the best checkpoint, or of the last one if none is kept.

    Every rank can read it. held: the questions of train_file that the rows leave out.

    Raises:
        DataError: there are no rows, or the device cannot take batches of this kind.
    """
    flags, features = job.flags, data.features
    mode = flags.batching
    if not len(features):
        raise DataError(f"{flags.train_file}: contains no passage with text; give a SQuAD file")
    if mode == "bucket" and backend.static_shapes:
        raise DataError(
            "batching bucket: this device compiles each shape separately; give batching=pack or pad"
        )
    shuffle = not flags.npu_bert_debug
    order = batching.make_order(features, rows_per_step(flags, backend.size), flags.seed, shuffle, mode)
    config = train_config(flags, order, backend.name, len(data.examples))
    job.say(describe(order, config, len(features), backend.size))
    if backend.name == "npu" or config.npu_bert_loss_scale >= 0:
        job.say(describe_scale(config))

    def batches(start_step: int) -> Iterator[Batch]:
        return batching.train_batches(
            features, order, backend.rank, backend.size, start_step, config.num_train_steps,
            flags.num_accumulation_steps,
        )  # fmt: skip

    result = trainer.train(
        model, config, batches, backend, job.output_dir, flags.init_checkpoint, job.cluster.rank_dir,
        origin(job, model, held) if backend.rank == 0 else resume.NO_ORIGIN, evaluation,
    )  # fmt: skip
    job.say(f"trained {result.step} steps, loss {result.loss:.4f}; checkpoint {result.checkpoint}")
    if backend.rank == 0 and not flags.do_predict:
        _report_evaluation(result.standing, bool(result.best))
    if not result.best:
        return result.checkpoint
    figure = f"{config.keep_best} {result.standing.best[config.keep_best]:.3f}"
    job.say(
        f"best checkpoint: {result.best}, {figure}" + ("; predicting with it" if flags.do_predict else "")
    )
    return result.best


def _report_evaluation(standing: Standing, best: bool) -> None:
    """Report the figures of the best checkpoint, or of the last one, where no prediction will."""
    figures = standing.best if best else standing.figures
    if figures:
        heartbeat.artifact({"kind": "metrics", "values": dict(figures)})


def with_gelu(job: Job, device: str) -> Job:
    """Choose the form of gelu that is trained: on an NPU that of its fused one, unless a form is given."""
    flags = job.flags
    given = "gelu" in flags.given or "gelu" in presets.PRESETS.get(flags.preset, {})
    if given or device != "npu" or not flags.npu_bert_fused_gelu or flags.gelu == "tanh":
        return job
    job.say(f"gelu: tanh, as the NPU's fused one; gelu={flags.gelu or 'exact'}, the model's own, is slower")
    return dataclasses.replace(job, flags=dataclasses.replace(flags, gelu="tanh"))


def origin(job: Job, model: BertConfig, held: Held = NOTHING) -> resume.Origin:
    """Collect what the rows are made of, and the files that predicting from the output folder needs."""
    flags = job.flags
    words = job.tokenizer.vocabulary
    rules = TextRules(*flags.text_rules)
    data: dict[str, Any] = {
        "train_file": {"name": os.path.basename(flags.train_file), "sha256": sha256(flags.train_file)},
        "vocabulary": {"name": os.path.basename(flags.vocab_file), "sha256": words.sha256},
        "do_lower_case": rules.do_lower_case,
        "strip_accents": rules.do_lower_case if rules.strip_accents is None else rules.strip_accents,
        "tokenize_chinese_chars": rules.tokenize_chinese_chars,
        "max_seq_length": flags.max_seq_length,
        "doc_stride": flags.doc_stride,
        "max_query_length": flags.max_query_length,
        "version_2_with_negative": flags.version_2_with_negative,
        "skip_bad_answers": flags.skip_bad_answers,
        "train_answers": flags.train_answers,
        "word_split": flags.word_split,
        "max_train_samples": flags.max_train_samples,
        "batching": flags.batching,
        "eval_share": {"name": f"{held.share:g}", "sha256": held.digest},
    }
    asked = task.to_json(task.of_flags(flags))
    texts = model_files.texts(model, Words(words, rules), asked)
    sources = (flags.vocab_file, flags.bert_config_file, flags.init_checkpoint)
    folder = os.path.realpath(job.output_dir)
    if folder in (os.path.realpath(os.path.dirname(source)) for source in sources):
        # The model's own files, which may say more than is written here, stay as they are.
        texts = {
            name: text for name, text in texts.items() if not os.path.lexists(os.path.join(folder, name))
        }
    return resume.Origin(data, texts, {"task": asked, **presets.record(flags)})


def rows_per_step(flags: SquadFlags, ranks: int) -> int:
    """Count the rows of an optimizer step over all ranks and accumulated batches."""
    return flags.global_batch_size or flags.train_batch_size * ranks * flags.num_accumulation_steps


def loss_scale(flags: SquadFlags, device: str) -> float:
    """Choose the loss scale: as the flag says, else dynamic if the device multiplies in float16, else off.

    In float16 gradients below its smallest number, 6e-8, become 0, also if everything else is float32;
    bfloat16 has the range of float32, and so has a CPU.
    """
    if flags.npu_bert_loss_scale is not None:
        return flags.npu_bert_loss_scale
    half = device == "npu" and "fp16" in NpuOptions.from_flags(flags).computes_in
    return DYNAMIC if half else OFF


def steps_of(flags: SquadFlags, order: DataOrder, examples: int) -> int:
    """Count the steps of the schedule: given, else those of the epochs of features or of questions."""
    counted = round(flags.num_train_epochs * order.steps_per_epoch)
    if flags.steps_from == "examples":  # as run_squad.py of google-research/bert and its heirs
        counted = int(examples / order.global_batch * flags.num_train_epochs)
    return flags.num_train_steps or max(1, counted)


def eval_steps(flags: SquadFlags, order: DataOrder) -> int:
    """Count the steps between two evaluations; 0: there are none."""
    if flags.eval_steps or not flags.eval_epochs:
        return flags.eval_steps
    return max(1, round(flags.eval_epochs * order.steps_per_epoch))


def train_config(flags: SquadFlags, order: DataOrder, device: str, examples: int = 0) -> TrainConfig:
    """Derive the trainer's settings from the flags, the data and the device; `examples`: questions."""
    steps = steps_of(flags, order, examples)
    trained = steps if flags.num_train_steps else -(-steps // flags.round_steps_to) * flags.round_steps_to
    return TrainConfig(
        num_train_steps=trained,
        learning_rate=flags.learning_rate,
        lr_scaling=flags.lr_scaling,
        num_warmup_steps=int(steps * flags.warmup_proportion),
        decay_steps=steps if trained != steps else 0,
        peak=flags.peak,
        optimizer_type=flags.optimizer_type,
        weight_decay=flags.weight_decay,
        adam_epsilon=flags.adam_epsilon,
        clip=flags.clipping,
        embedding_norm=flags.embedding_norm,
        num_accumulation_steps=flags.num_accumulation_steps,
        npu_bert_loss_scale=loss_scale(flags, device),
        init_loss_scale_value=flags.init_loss_scale_value,
        loss_scale_good_steps=flags.loss_scale_good_steps,
        loss_scale_bad_steps=flags.loss_scale_bad_steps,
        dropout=not flags.npu_bert_debug,
        gelu=flags.gelu or "exact",
        gradient_checkpointing=flags.gradient_checkpointing,
        freeze_embeddings=flags.freeze_embeddings,
        amp=flags.mixed_precision,
        # Padding takes part in Google's softmax; with rows of other lengths or several features it cannot.
        softmax_over="row" if flags.batching == "pad" else "tokens",
        seed=flags.seed,
        rows_per_step=order.global_batch,
        steps_per_epoch=order.steps_per_epoch,
        save_checkpoints_steps=flags.save_checkpoints_steps,
        keep_checkpoints=flags.keep_checkpoints,
        display_loss_steps=flags.display_loss_steps,
        eval_steps=eval_steps(flags, order),
        keep_best=flags.keep_best,
        early_stopping_patience=flags.early_stopping_patience,
    )


def describe(order: DataOrder, config: TrainConfig, features: int, ranks: int) -> str:
    """Describe in a line what an epoch and a step are."""
    rows = f" in {order.num_rows} rows" if order.mode == "pack" else ""
    tail = f", at rate 0 from step {config.decay_steps} on" if config.decay_steps else ""
    return (
        f"training: {config.num_train_steps} steps of {order.global_batch} rows on {ranks}"
        f" device{'' if ranks == 1 else 's'}{tail}; an epoch is {features} features{rows},"
        f" {order.steps_per_epoch} steps; batching {order.mode}"
    )


def describe_scale(config: TrainConfig) -> str:
    """Describe in a line which loss scale was chosen."""
    scale = config.npu_bert_loss_scale
    if scale < 0:
        return "loss scale: off"
    if scale == DYNAMIC:
        return f"loss scale: dynamic, starting at {config.init_loss_scale_value:.10g}"
    return f"loss scale: {scale:.10g}"
