"""The flags of run_squad: typed, parsed without any library.

Names and defaults are those of run_squad.py in ModelZoo's BERT for SQuAD on Ascend 910, which is called
"the original script" throughout this project; its own changes to Google's code carry the prefix npu_bert_.

A flag is a field of `SquadFlags`; its metadata says what it means. A value can be given in two ways
(`--max_seq_length=384`, `--max_seq_length 384`); a boolean without value means True, `--no<flag>` False.
"""

from __future__ import annotations

import dataclasses
import os
import typing
from dataclasses import dataclass
from typing import Any, Dict, FrozenSet, List, Mapping, NamedTuple, Optional, Sequence, Tuple

from squad import flag_parser
from squad.flag_parser import ALIASES, REFUSED, UNUSED, Finding

__all__ = [
    "ALIASES", "REFUSED", "UNUSED", "Finding", "Parsed", "SquadFlags", "fields", "parse", "reference",
    "resolve_paths", "usage",
]  # fmt: skip


def _flag(default: Any, meaning: str, path: str = "", choices: Sequence[str] = ()) -> Any:
    metadata = {"help": meaning, "path": path, "choices": tuple(choices)}
    return dataclasses.field(default=default, metadata=metadata)


@dataclass(frozen=True)
class SquadFlags:
    """Every flag of run_squad. Batch sizes are per device; rates are per step."""

    # Files. path="in" must exist, path="out" is created.
    vocab_file: str = _flag(
        "", "vocab.txt or tokenizer.json; default: the one in init_checkpoint's folder", "in"
    )
    bert_config_file: str = _flag("", "model JSON; default: the one in init_checkpoint's folder", "in")
    init_checkpoint: str = _flag(
        "",
        "TensorFlow prefix, folder or file of safetensors, or a run's output_dir: its newest",
        "checkpoint",
    )
    output_dir: str = _flag(
        "", "folder for checkpoints and predictions; default under npu-launch: rank 0's folder", "out"
    )
    train_file: str = _flag("", "questions to train on: SQuAD JSON, rows as JSON or parquet", "in")
    predict_file: str = _flag("", "questions to answer and evaluate: as train_file, or CSV", "in")
    eval_script: str = _flag(
        "", "the official evaluate-v2.0.py, to run besides the built-in evaluation", "in"
    )
    input_files_dir: str = _flag("", "folder of the TFRecord cache of features", "out")
    use_tfrecord: bool = _flag(False, "reuse the cache in input_files_dir if it fits the flags")

    # What to do.
    do_train: bool = _flag(False, "fine-tune on train_file")
    do_predict: bool = _flag(False, "answer predict_file and evaluate the answers")
    version_2_with_negative: bool = _flag(False, "SQuAD 2.0: a question may have no answer")
    skip_bad_answers: bool = _flag(False, "skip training questions whose answer is not at its offset")
    preset: str = _flag(
        "",
        "the numbers of a published recipe; flags that are given come before it",
        choices=("original-910", "google", "nvidia", "hf"),
    )
    train_answers: str = _flag(
        "",
        "several answers in training: learn the first, all, or the most frequent; default: refuse",
        choices=("first", "all", "most"),
    )
    max_train_samples: int = _flag(0, "train on the first N questions of train_file; 0: all")
    max_eval_samples: int = _flag(0, "answer and evaluate the first N questions; 0: all")

    # Evaluation while training.
    eval_steps: int = _flag(0, "steps between two evaluations while training; 0: none")
    eval_epochs: float = _flag(0.0, "epochs between two evaluations while training; 0: none")
    eval_share: float = _flag(
        0.0,
        "share of train_file, in whole articles, to evaluate on instead of predict_file",
    )
    keep_best: str = _flag(
        "",
        'figure whose best checkpoint is kept and predicted with; span_f1 ignores "no answer"',
        choices=("f1", "exact", "span_f1"),
    )
    early_stopping_patience: int = _flag(
        0, "end the training after N evaluations in a row that are not better; 0: never"
    )
    evaluation: str = _flag(
        "squad",
        "rules of the figures: the official SQuAD scripts', or CMRC 2018's, by characters",
        choices=("squad", "cmrc"),
    )

    # Features.
    do_lower_case: Optional[bool] = _flag(
        None, "lower-case the text (uncased vocabulary); default: as the model's files say, else True"
    )
    strip_accents: Optional[bool] = _flag(
        None, "remove accents; default: as tokenizer_config.json says, else as do_lower_case"
    )
    tokenize_chinese_chars: Optional[bool] = _flag(
        None, "make each Chinese character a word; default: as tokenizer_config.json says, else True"
    )
    word_split: str = _flag(
        "auto",
        "answers are known by their words, as Google's; by characters (Chinese, Thai ...); as texts need",
        choices=("google", "cjk", "auto"),
    )
    max_seq_length: int = _flag(384, "tokens in a row")
    doc_stride: int = _flag(128, "tokens between the starts of two windows of a passage")
    max_query_length: int = _flag(64, "tokens of a question; longer ones are truncated")

    # Training.
    train_batch_size: int = _flag(8, "rows per device and batch")
    global_batch_size: int = _flag(
        0, "rows per step over all devices; 0: train_batch_size x devices x num_accumulation_steps"
    )
    learning_rate: float = _flag(5e-6, "peak rate of the schedule")
    lr_scaling: str = _flag(
        "none", "how the peak rate grows with the number of ranks", choices=("none", "linear", "sqrt")
    )
    num_train_epochs: float = _flag(3.0, "passes over all features")
    num_train_steps: int = _flag(0, "steps; 0: as many as num_train_epochs needs")
    steps_from: str = _flag(
        "features",
        "what num_train_epochs counts: features, or as the original script questions, which are fewer",
        choices=("features", "examples"),
    )
    round_steps_to: int = _flag(
        1, "round the steps of num_train_epochs up to a multiple; in those added the rate is 0"
    )
    warmup_proportion: float = _flag(0.1, "fraction of the steps in which the rate rises")
    peak: str = _flag(
        "plain",
        "the rate falls as if from learning_rate at step 0; raised: from where its rise ends",
        choices=("plain", "raised"),
    )
    num_accumulation_steps: int = _flag(1, "batches per device that are summed into one step")
    optimizer_type: str = _flag(
        "adam", "optimizer; adam is Google's, without bias correction", choices=("adam", "adamw", "lamb")
    )
    weight_decay: float = _flag(0.01, "decoupled weight decay, except on biases and LayerNorm")
    adam_epsilon: float = _flag(1e-6, "epsilon of the optimizer (1e-4 in the original script)")
    clip: str = _flag("global", "gradient clipping at norm 1", choices=("global", "per_tensor", "none"))
    embedding_norm: str = _flag(
        "token",
        "the norm that clip limits counts a word's gradient once per token, as Google's, or once per word",
        choices=("token", "word"),
    )
    batching: str = _flag(
        "pad", "rows: padded, grouped by similar length, or packed", choices=("pad", "bucket", "pack")
    )
    dropout_rate: float = _flag(-1.0, "dropout rate in training; -1: as in the model's configuration")
    freeze_embeddings: bool = _flag(False, "do not train the embeddings, which are half of a small model")
    seed: int = _flag(12345, "seed of the data order, the dropout and new weights")
    gelu: str = _flag("", "form of gelu; default: as the model's hidden_act says", choices=("exact", "tanh"))
    gradient_checkpointing: bool = _flag(False, "recompute activations in the backward pass, to save memory")
    amp: Optional[bool] = _flag(None, "mixed precision; default: on for NPU, off for CPU")
    precision_mode: str = _flag("", "NPU: CANN's precision_mode; overrides --amp")

    # Saving and showing.
    save_checkpoints_steps: int = _flag(5000, "steps between checkpoints; 0: only at the end")
    keep_checkpoints: int = _flag(2, "checkpoints to keep")
    display_loss_steps: int = _flag(10, "steps between two lines of progress")
    iterations_per_loop: int = _flag(1000, "NPU: steps that the device runs per call; no effect on CPU")

    # Prediction.
    predict_batch_size: int = _flag(8, "features per device and call")
    engine: str = _flag(
        "tensorflow",
        "what computes the answers; onnxruntime reads an export's .onnx as init_checkpoint",
        choices=("tensorflow", "onnxruntime"),
    )
    num_eval_iterations: int = _flag(0, "answer only the questions of the first N batches; 0: all")
    n_best_size: int = _flag(20, "answers to keep per question")
    max_answer_length: int = _flag(30, "the most tokens of an answer")
    null_score_diff_threshold: Optional[float] = _flag(
        0.0,
        "give no answer if the null score exceeds the best by more than this; auto: the checkpoint's own",
        choices=("auto",),
    )
    verbose_logging: bool = _flag(False, "explain answers whose text could not be aligned")

    # The original script's additions for NPUs.
    npu_bert_debug: bool = _flag(False, "no dropout and no shuffling, so that runs can be compared")
    npu_bert_use_tdt: bool = _flag(True, "NPU: send the data to the device ahead (enable_data_pre_proc)")
    npu_bert_fused_gelu: bool = _flag(True, "NPU: use the fused gelu; no effect on CPU")
    npu_bert_npu_dropout: bool = _flag(True, "NPU: use the device's dropout; no effect on CPU")
    npu_bert_clip_by_global_norm: Optional[bool] = _flag(
        None, "the original script's spelling of --clip: True global, False per_tensor"
    )
    npu_bert_loss_scale: Optional[float] = _flag(
        None, "-1 off, 0 dynamic, 1 or more static; default: dynamic on an NPU in float16, else off"
    )
    init_loss_scale_value: float = _flag(2.0**32, "first value of the dynamic loss scale")
    loss_scale_good_steps: int = _flag(
        1000, "steps without overflow, in a row, after which the dynamic loss scale doubles"
    )
    loss_scale_bad_steps: int = _flag(2, "steps with overflow after which the dynamic loss scale halves")
    npu_gather: bool = _flag(False, "NPU: embedding gather with a dense gradient; no effect on CPU")
    hcom_parallel: bool = _flag(True, "NPU: all-reduce during the backward pass; always so on CPU")
    profiling: bool = _flag(False, "NPU: record a profile; no effect on CPU")
    profiling_options: str = _flag("", "NPU: JSON for the profiler; default: traces in the rank's folder")
    data_dump_flag: bool = _flag(False, "NPU: dump inputs and outputs of operations; no effect on CPU")
    data_dump_step: str = _flag("", "NPU: steps to dump, such as 0|5|10-20; default: all")
    data_dump_path: str = _flag("", "NPU: folder of the dump; default: dump/ in the rank's folder", "out")
    over_dump: bool = _flag(False, "NPU: dump operations that overflow; no effect on CPU")
    over_dump_path: str = _flag(
        "", "NPU: folder of the overflow dump; default: overflow/ in the rank's folder", "out"
    )
    enable_exception_dump: int = _flag(-1, "NPU: dump of failing operations, 0 to 2; -1: CANN's default")
    distributed: bool = _flag(False, "no effect: the number of ranks comes from RANK_TABLE_FILE")

    # How ranks on CPUs are connected.
    collective: str = _flag(
        "auto",
        "CPU: how ranks are connected; auto is shm (one host), grpc connects several",
        choices=("auto", "shm", "grpc"),
    )

    # Flags that the command line has: what a preset or the model's files say does not change them.
    given: FrozenSet[str] = dataclasses.field(default=frozenset(), compare=False, repr=False)

    @property
    def evaluates(self) -> bool:
        """Tell whether the training evaluates itself."""
        return self.do_train and bool(self.eval_steps or self.eval_epochs)

    @property
    def text_rules(self) -> Tuple[bool, Optional[bool], bool]:
        """Whether texts are lower-cased, lose accents (None: with case), have Chinese characters apart."""
        return self.do_lower_case is not False, self.strip_accents, self.tokenize_chinese_chars is not False

    @property
    def clipping(self) -> str:
        """The mode of clipping, whichever of its two flags sets it."""
        if self.npu_bert_clip_by_global_norm is None:
            return self.clip
        return "global" if self.npu_bert_clip_by_global_norm else "per_tensor"

    @property
    def mixed_precision(self) -> Optional[bool]:
        """Tell whether to compute in half precision, whichever flag says so; None: the device's default."""
        if self.precision_mode:
            return self.precision_mode.startswith("allow_mix_precision")
        return self.amp


class Parsed(NamedTuple):
    """The content of a command line: the flags, what is wrong, and what is handled differently."""

    flags: SquadFlags
    findings: List[Finding]
    notes: List[Finding]


def fields() -> Dict[str, Any]:
    """Map each flag's name to its dataclass field."""
    return {field.name: field for field in dataclasses.fields(SquadFlags) if field.metadata}


def parse(argv: Sequence[str]) -> Parsed:
    """Parse a command line; findings name every flag that is unknown, refused or of a wrong type."""
    types = typing.get_type_hints(SquadFlags)
    kinds = {name: types[name] for name in fields()}
    choices = {name: field.metadata["choices"] for name, field in fields().items()}
    values, findings, notes = flag_parser.read(argv, kinds, choices)
    return Parsed(SquadFlags(**values, given=frozenset(values)), findings, notes)


def resolve_paths(flags: SquadFlags, environ: Mapping[str, str]) -> SquadFlags:
    """Make path flags absolute from the directory where the user typed the command."""
    base = environ.get("NPU_LAUNCH_CWD") or os.getcwd()
    changes: Dict[str, Any] = {
        name: os.path.join(base, os.path.expanduser(getattr(flags, name)))
        for name, field in fields().items()
        if field.metadata["path"] and getattr(flags, name)
    }
    return dataclasses.replace(flags, **changes)


def usage() -> str:
    """Format --help: each flag, its meaning and its default."""
    rows = ["usage: run_squad --vocab_file=F --predict_file=F ... [--flag=value]", ""]
    for name, field in fields().items():
        choices = field.metadata["choices"]
        chosen = choices and isinstance(field.default, str)
        values = "|".join(choices if chosen else [repr(field.default), *choices])
        rows.append(f"  --{name:<30} {field.metadata['help']} ({values})")
    return "\n".join(rows)


def reference() -> str:
    """Format the table of docs/squad.md."""
    rows = ["| flag | default | meaning |", "|---|---|---|"]
    for name, field in fields().items():
        choices = field.metadata["choices"]
        meaning = field.metadata["help"] + (f" ({', '.join(choices)})" if choices else "")
        default = "" if field.default in ("", None) else f"`{field.default}`"
        rows.append(f"| `{name}` | {default} | {meaning} |")
    return "\n".join(rows) + "\n"


if __name__ == "__main__":
    print(reference(), end="")
