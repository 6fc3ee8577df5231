"""Write a checkpoint in a form that other programs read.

    python -m bert.export CHECKPOINT FOLDER --format safetensors     for transformers: HF's names and config
    python -m bert.export CHECKPOINT FOLDER --format saved_model     for TensorFlow Serving

CHECKPOINT is a TensorFlow prefix, a folder or file of safetensors, or the output folder of a run: its newest
checkpoint. Configuration, vocabulary and case are taken from its folder where they are not given.
"""

from __future__ import annotations

import argparse
import os
import shutil
import sys
from typing import Any, Mapping, Sequence

import numpy as np

from bert import model_files, names, text_rules, vocabulary
from bert.checkpoints import index
from bert.config import CONFIGS, BertConfig
from bert.errors import CheckpointError
from bert.model_files import Words, recorded_gelu, recorded_task

FORMATS = ("safetensors", "saved_model")


def main(argv: Sequence[str] | None = None) -> int:
    """Run a command line; return the exit code: 2 if something in it cannot be used."""
    options = _parser().parse_args(argv)
    try:
        checkpoint = index.resolve(options.checkpoint)
        facts = index.record(checkpoint)
        config = find_config(checkpoint, options.config, facts)
        gelu = options.gelu or recorded_gelu(facts) or config.gelu
        words = find_words(checkpoint, options.vocab, config, facts)
        export(checkpoint, options.folder, config, options.format, gelu, words=words)
    except (CheckpointError, OSError, ValueError) as error:
        print(f"export: {error}", file=sys.stderr)
        return 2
    print(f"wrote {options.folder}")
    if words is None:
        print("without vocab.txt and tokenizer_config.json: none beside the checkpoint; give --vocab")
    elif words.rules.source:
        print(f"do_lower_case {words.rules.do_lower_case}, as said by: {words.rules.source}")
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="npu-launch export", description="Write a checkpoint for other programs."
    )
    parser.add_argument("checkpoint", help="TensorFlow prefix, or folder or file of safetensors")
    parser.add_argument("folder", help="folder to create; must not exist")
    parser.add_argument("--format", choices=FORMATS, default="safetensors")
    parser.add_argument("--config", default="", help="model JSON; default: the one beside the checkpoint")
    parser.add_argument("--vocab", default="", help="default: the vocab.txt beside the checkpoint")
    parser.add_argument(
        "--gelu",
        choices=("exact", "tanh"),
        default="",
        help="default: as recorded in the checkpoint, else as the configuration's hidden_act",
    )
    return parser


def find_config(checkpoint: str, given: str, facts: Mapping[str, Any]) -> BertConfig:
    """Find the model's sizes in a file, in the checkpoint, or beside it. ValueError: nowhere."""
    if not given and isinstance(facts.get("model"), dict):
        return BertConfig.from_dict(facts["model"])
    beside = [os.path.join(index.folder_of(checkpoint), name) for name in CONFIGS]
    path = given or next(filter(os.path.isfile, beside), "")
    if not path:
        raise ValueError(f"{checkpoint}: no model configuration beside it; give --config")
    try:
        return BertConfig.from_file(path)
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from None


def find_words(checkpoint: str, given: str, config: BertConfig, facts: Mapping[str, Any]) -> Words | None:
    """Find vocabulary and case: given, in the checkpoint's record, or beside it; None without vocabulary.

    Raises:
        ValueError: the vocabulary is larger than the model's, or a file is damaged.
    """
    beside = (os.path.join(index.folder_of(checkpoint), name) for name in vocabulary.NAMES)
    path = given or next(filter(os.path.isfile, beside), "")
    if not path:
        return None
    try:
        found = vocabulary.read(path)
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from None
    if found.size > config.vocab_size:
        raise ValueError(f"{path} has {found.size} entries, the model {config.vocab_size}; give its own")
    folders = dict.fromkeys([os.path.dirname(path), index.folder_of(checkpoint)])
    return Words(found, text_rules.find(list(folders), facts, found))


def export(
    checkpoint: str,
    folder: str,
    config: BertConfig,
    form: str = "safetensors",
    gelu: str = "exact",
    words: Words | None = None,
) -> None:
    """Write FOLDER completely or not at all.

    Raises:
        CheckpointError: the checkpoint is damaged, does not fit, or has no span head.
        ValueError: FOLDER exists.
    """
    texts = model_files.texts(config.with_gelu(gelu), words, recorded_task(checkpoint))
    if os.path.exists(folder):
        raise ValueError(f"{folder} exists; give a new folder")
    draft = folder.rstrip("/") + ".tmp"
    shutil.rmtree(draft, ignore_errors=True)
    try:
        if form == "saved_model":
            _saved_model(checkpoint, draft, config, gelu)
        else:
            _safetensors(checkpoint, draft, config)
        for name, text in texts.items():
            with open(os.path.join(draft, name), "w", encoding="utf-8", errors="replace") as stream:
                stream.write(text)
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


def _safetensors(checkpoint: str, folder: str, config: BertConfig) -> None:
    from safetensors.numpy import save

    values = {}
    for google, value in _weights(checkpoint, config).items():
        name, transposed = names.to_hf(google)
        values[name] = np.ascontiguousarray(value.T if transposed else value, np.float32)
    os.makedirs(folder)
    with open(os.path.join(folder, "model.safetensors"), "wb") as weights:
        weights.write(save(values, {"format": "pt"}))


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
