"""Write a checkpoint in a form that other programs read.

    python -m bert.export CHECKPOINT FOLDER --format safetensors     for transformers: HF's names and config
    python -m bert.export CHECKPOINT FOLDER --format saved_model     for TensorFlow Serving

CHECKPOINT is a TensorFlow prefix, or a folder or file of safetensors.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import os
import shutil
import sys
from typing import Any, Mapping, Sequence

import numpy as np

from bert import names
from bert.config import BertConfig
from bert.errors import CheckpointError

FORMATS = ("safetensors", "saved_model")
_CONFIGS = ("bert_config.json", "config.json")


def main(argv: Sequence[str] | None = None) -> int:
    """Run a command line; return the exit code: 2 if something in it cannot be used."""
    options = _parser().parse_args(argv)
    try:
        facts = _facts(options.checkpoint)
        config = find_config(options.checkpoint, options.config, facts)
        gelu = options.gelu or facts.get("config", {}).get("gelu", "exact")
        export(options.checkpoint, options.folder, config, options.format, gelu, options.vocab)
    except (CheckpointError, OSError, ValueError) as error:
        print(f"export: {error}", file=sys.stderr)
        return 2
    print(f"wrote {options.folder}")
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="npu-launch export", description="Write a checkpoint for other programs."
    )
    parser.add_argument("checkpoint", help="TensorFlow prefix, or folder or file of safetensors")
    parser.add_argument("folder", help="folder to create; must not exist")
    parser.add_argument("--format", choices=FORMATS, default="safetensors")
    parser.add_argument("--config", default="", help="model JSON; default: the one beside the checkpoint")
    parser.add_argument("--vocab", default="", help="vocab.txt to copy beside the weights")
    parser.add_argument(
        "--gelu",
        choices=("exact", "tanh"),
        default="",
        help="default: as recorded in the checkpoint, else exact",
    )
    return parser


def _facts(checkpoint: str) -> dict[str, Any]:
    """Read the JSON that this program writes beside its checkpoints; {} if there is none."""
    try:
        with open(checkpoint + ".json", encoding="utf-8") as stream:
            facts = json.load(stream)
    except (OSError, ValueError):
        return {}
    return facts if isinstance(facts, dict) else {}


def find_config(checkpoint: str, given: str, facts: Mapping[str, Any]) -> BertConfig:
    """Find the model's sizes in a file, in the checkpoint, or beside it. ValueError: nowhere."""
    if given:
        return BertConfig.from_file(given)
    if "model" in facts:
        return BertConfig.from_dict(facts["model"])
    folder = checkpoint if os.path.isdir(checkpoint) else os.path.dirname(checkpoint)
    for name in _CONFIGS:
        if os.path.isfile(os.path.join(folder, name)):
            return BertConfig.from_file(os.path.join(folder, name))
    raise ValueError(f"{checkpoint}: no model configuration beside it; give --config")


def export(
    checkpoint: str,
    folder: str,
    config: BertConfig,
    form: str = "safetensors",
    gelu: str = "exact",
    vocab: str = "",
) -> None:
    """Write FOLDER completely or not at all.

    Raises:
        CheckpointError: the checkpoint is damaged, does not fit, or has no span head.
        ValueError: FOLDER exists.
    """
    if os.path.exists(folder):
        raise ValueError(f"{folder} exists; give a new folder")
    draft = folder.rstrip("/") + ".tmp"
    shutil.rmtree(draft, ignore_errors=True)
    try:
        if form == "saved_model":
            _saved_model(checkpoint, draft, config, gelu)
        else:
            _safetensors(checkpoint, draft, config, gelu)
        if vocab:
            shutil.copy(vocab, os.path.join(draft, "vocab.txt"))
        os.rename(draft, folder)
    finally:
        shutil.rmtree(draft, ignore_errors=True)


def _weights(checkpoint: str, config: BertConfig) -> dict[str, np.ndarray]:
    from bert.checkpoints import reader  # imports TensorFlow

    reader.check(checkpoint, config)
    wanted = names.shapes(config)
    values = {name: value for name, value in reader.read(checkpoint) if name in wanted}
    missing = sorted(set(wanted) - set(values))
    if missing:
        raise CheckpointError(f"{checkpoint} lacks {', '.join(missing)}; fine-tune it first")
    return values


def _safetensors(checkpoint: str, folder: str, config: BertConfig, gelu: str) -> None:
    from safetensors.numpy import save

    values = {}
    for google, value in _weights(checkpoint, config).items():
        name, transposed = names.to_hf(google)
        values[name] = np.ascontiguousarray(value.T if transposed else value, np.float32)
    os.makedirs(folder)
    with open(os.path.join(folder, "model.safetensors"), "wb") as weights:
        weights.write(save(values, {"format": "pt"}))
    with open(os.path.join(folder, "config.json"), "w", encoding="utf-8") as stream:
        json.dump(hf_config(config, gelu), stream, indent=2, sort_keys=True)


def hf_config(config: BertConfig, gelu: str) -> dict[str, Any]:
    """Build the content of HF's config.json."""
    values = dataclasses.asdict(config)
    values.update(
        architectures=["BertForQuestionAnswering"], model_type="bert", position_embedding_type="absolute",
        hidden_act="gelu_new" if gelu == "tanh" else "gelu", pad_token_id=0, torch_dtype="float32",
    )  # fmt: skip
    return values


def _saved_model(checkpoint: str, folder: str, config: BertConfig, gelu: str) -> None:
    """Write a SavedModel: inputs int32 [B, L] by the keys below, outputs float32 [B, L]."""
    import tensorflow.compat.v1 as tf

    from bert.checkpoints import reader
    from bert.model import EXACT, Model, Operations, create_variables, tanh_gelu

    _weights(checkpoint, config)
    keys = ("input_ids", "input_mask", "segment_ids")
    with tf.Graph().as_default(), tf.Session() as session:
        inputs = {key: tf.placeholder(tf.int32, [None, None], key) for key in keys}
        weights = create_variables(config)
        model = Model(config, weights, Operations(gelu=tanh_gelu) if gelu == "tanh" else EXACT)
        start, end = tf.unstack(model.span_logits(inputs))
        outputs = {
            "start_logits": tf.identity(start, "start_logits"),
            "end_logits": tf.identity(end, "end_logits"),
        }
        reader.initialize(session, weights, reader.Reading(checkpoint, slots=False))
        tf.saved_model.simple_save(session, folder, inputs, outputs)


if __name__ == "__main__":
    sys.exit(main())
