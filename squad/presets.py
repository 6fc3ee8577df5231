"""The numbers of published recipes: `--preset NAME` sets them, and flags that are given come before them.

    python -m squad.presets      prints the table of docs/squad.md

Stdlib only. The sources:

original-910: ModelZoo-TensorFlow, BERT_tf_Soapeggpain: the README's command of EM 73.385, F1 76.516, and
optimization.py. 5.6e-5 stands for the README's 5e-5 with NVIDIA's raised peak, 5e-5 / (1 - 0.1) = 5.56e-5,
which the script computes and does not use.
google: google-research/bert: the README's command for BERT-base (SQuAD 1.1: EM 81.25, F1 88.41),
optimization.py, gelu of modeling.py.
nvidia: DeepLearningExamples, TensorFlow/LanguageModeling/BERT: scripts/run_squad.sh, run_squad.py,
optimization.py, gelu of modeling.py.
hf: transformers, examples/pytorch/question-answering: the README's command for run_qa.py (SQuAD 1.1: EM
81.22, F1 88.52), and the defaults of run_qa.py and of TrainingArguments.
"""

from __future__ import annotations

import dataclasses
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Mapping

if TYPE_CHECKING:
    from squad.flags import SquadFlags

_ROWS = {
    "max_seq_length": 384, "doc_stride": 128, "max_query_length": 64, "n_best_size": 20,
    "max_answer_length": 30, "batching": "pad", "steps_from": "examples", "round_steps_to": 1,
}  # fmt: skip
_GOOGLE = {
    **_ROWS, "word_split": "google", "num_train_epochs": 2.0, "warmup_proportion": 0.1, "gelu": "tanh",
    "optimizer_type": "adam", "adam_epsilon": 1e-6, "weight_decay": 0.01, "clip": "global",
    "embedding_norm": "token", "peak": "plain",
}  # fmt: skip
_MIXED = {
    "amp": True, "npu_bert_loss_scale": 0.0, "init_loss_scale_value": 2.0**32, "loss_scale_good_steps": 1000,
    "loss_scale_bad_steps": 2,
}  # fmt: skip
_FULL = {"amp": False, "npu_bert_loss_scale": -1.0}
# Rows of a step are over all devices where the recipe is one device's, so that more devices change nothing.
PRESETS: Mapping[str, Mapping[str, Any]] = MappingProxyType({
    "original-910": {
        **_GOOGLE, **_MIXED, "version_2_with_negative": True, "train_batch_size": 32, "global_batch_size": 32,
        "learning_rate": 5.6e-5, "lr_scaling": "none", "adam_epsilon": 1e-4, "round_steps_to": 100,
        "iterations_per_loop": 100,
    },
    "google": {
        **_GOOGLE, **_FULL, "train_batch_size": 12, "global_batch_size": 12, "learning_rate": 3e-5,
        "lr_scaling": "none",
    },
    "nvidia": {
        **_GOOGLE, **_MIXED, "train_batch_size": 8, "global_batch_size": 0, "learning_rate": 5e-6,
        "lr_scaling": "linear", "peak": "raised",
    },
    "hf": {
        **_ROWS, **_FULL, "train_batch_size": 12, "global_batch_size": 0, "learning_rate": 3e-5,
        "lr_scaling": "none", "num_train_epochs": 2.0, "steps_from": "features", "warmup_proportion": 0.0,
        "peak": "raised", "optimizer_type": "adamw", "adam_epsilon": 1e-8, "weight_decay": 0.0,
        "clip": "global", "embedding_norm": "word", "train_answers": "first",
    },
})  # fmt: skip
# What no recipe does: said where it is done all the same. Value: that of all recipes.
_NEVER: Mapping[str, Any] = MappingProxyType({
    "num_train_steps": 0, "max_train_samples": 0, "freeze_embeddings": False, "dropout_rate": -1.0,
    "npu_bert_debug": False, "skip_bad_answers": False, "eval_share": 0.0, "early_stopping_patience": 0,
})  # fmt: skip
_OF_DEVICE = ("amp", "npu_bert_loss_scale")  # None: as the device needs
# What decides a result and is another here, whatever the flags: of all recipes, and of each.
_ALWAYS = "the order of the rows and the random numbers of the dropout"
_ELSEWHERE: Mapping[str, str] = MappingProxyType({
    "original-910": "batches across the end of an epoch; the NPU's fused gelu, of the same formula",
    "google": "batches across the end of an epoch",
    "nvidia": "batches across the end of an epoch; a schedule that waits at skipped steps",
    "hf": "windows that overlap by doc_stride, where here they start so far apart; questions of any length",
})  # fmt: skip


def with_preset(flags: SquadFlags) -> SquadFlags:
    """Set the numbers of the preset, except those of flags that were given."""
    if not flags.preset:
        return flags
    own = _stated(flags)
    changes = {name: value for name, value in PRESETS[flags.preset].items() if name not in own}
    if changes.get("amp"):  # on for an NPU, off for a CPU, as without preset
        del changes["amp"]
    if changes.get("npu_bert_loss_scale") == -1:  # an NPU multiplies in float16 without amp, too
        del changes["npu_bert_loss_scale"]
    if not flags.do_train:  # as the model was trained
        changes.pop("gelu", None)
    if "train_batch_size" in own and "global_batch_size" in changes:
        changes["global_batch_size"] = 0
    return dataclasses.replace(flags, **changes)


def _stated(flags: SquadFlags) -> set[str]:
    """Return the flags that were given, by the names of presets."""
    own = set(flags.given)
    if flags.npu_bert_clip_by_global_norm is not None:
        own.add("clip")
    if flags.precision_mode:
        own.add("amp")
    return own


def differences(flags: SquadFlags) -> dict[str, tuple[Any, Any]]:
    """Return what is not as the preset says: flag -> (value, the preset's); {} without preset."""
    if not flags.preset:
        return {}
    found = {}
    for name, value in {**PRESETS[flags.preset], **_NEVER}.items():
        now = flags.clipping if name == "clip" else getattr(flags, name)
        if name == "amp":
            now = flags.mixed_precision
        if name in _OF_DEVICE and now is None:
            now = value
        if now != value:
            found[name] = (now, value)
    return found


def statements(flags: SquadFlags, precision: str) -> list[str]:
    """Say how the flags differ from the preset, and what of a training is another here in any case.

    precision: what the device computes in, such as fp32.
    """
    if not flags.preset:
        return []
    shown = [f"{name} {_text(now)} ({_text(value)})" for name, (now, value) in differences(flags).items()]
    found = [flags.preset + (f", but {', '.join(shown)}" if shown else "")]
    if flags.do_train:
        found.append(f"{flags.preset}: not as in the recipe: {'; '.join(_elsewhere(flags, precision))}")
    return found


def _elsewhere(flags: SquadFlags, precision: str) -> list[str]:
    theirs = "float16" if PRESETS[flags.preset]["amp"] else "float32"
    same = "fp16" in precision if theirs == "float16" else precision == "fp32"
    computed = [] if same else [f"{theirs}, computed is {precision}"]
    return [*computed, _ELSEWHERE[flags.preset], _ALWAYS]


def record(flags: SquadFlags) -> dict[str, Any]:
    """Return what a checkpoint keeps: {} without preset, else {"preset": {"name", "differences"}}."""
    if not flags.preset:
        return {}
    listed = {name: list(values) for name, values in differences(flags).items()}
    return {"preset": {"name": flags.preset, "differences": listed}}


def _text(value: Any) -> str:
    return f"{value:.10g}" if isinstance(value, float) else f"{value}" if value != "" else "none"


def table() -> str:
    """Format the presets side by side: the table of docs/squad.md."""
    names = list(dict.fromkeys(name for preset in PRESETS.values() for name in preset))
    rows = [f"| flag | {' | '.join(PRESETS)} |", "|---|" + "---|" * len(PRESETS)]
    for name in names:
        cells = [_text(preset[name]) if name in preset else "as without" for preset in PRESETS.values()]
        rows.append(f"| `{name}` | {' | '.join(cells)} |")
    return "\n".join(rows) + "\n"


if __name__ == "__main__":
    print(table(), end="")
