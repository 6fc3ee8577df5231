"""Write a checkpoint in a form that other programs read.

    python -m bert.export CHECKPOINT FOLDER --format safetensors     for transformers: HF's names and config
    python -m bert.export CHECKPOINT FOLDER --format saved_model     for TensorFlow Serving
    python -m bert.export CHECKPOINT FOLDER --format onnx            for onnxruntime and others
    python -m bert.export CHECKPOINT FOLDER --format onnx-int8       a quarter of the size
    python -m bert.export CHECKPOINT FOLDER --format om --soc Ascend310P3   for Ascend, with CANN's atc

CHECKPOINT is a TensorFlow prefix, a folder or file of safetensors, or the folder of a run: its best one if it
keeps that (keep_best), else its newest. Configuration, vocabulary and case are taken from its folder where
they are not given.
"""

from __future__ import annotations

import argparse
import os
import re
import shutil
import sys
import tempfile
from typing import Any, Mapping, Sequence

import numpy as np

from bert import environment, model_files, names, text_rules, vocabulary
from bert.checkpoints import absent, index
from bert.checkpoints.chosen import chosen
from bert.config import CONFIGS, BertConfig
from bert.errors import CheckpointError
from bert.model_files import Words, recorded_gelu, recorded_task
from bert.predictor import KEYS

ONNX = ("onnx", "onnx-int8", "om")
FORMATS = ("safetensors", "saved_model", *ONNX)


def main(argv: Sequence[str] | None = None) -> int:
    """Run a command line; return the exit code: 2 if something in it cannot be used."""
    return run(parser().parse_args(argv))


def run(options: argparse.Namespace) -> int:
    """Do what a command line says; return the exit code, as `main`."""
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")  # only errors
    try:
        checkpoint = chosen(options.checkpoint)
        if index.find(checkpoint) is None:
            problem = absent.explain(options.checkpoint, options.checkpoint)
            raise CheckpointError(f"{options.checkpoint}: {problem}")
        facts = index.record(checkpoint)
        config = find_config(checkpoint, options.config, facts)
        gelu = options.gelu or recorded_gelu(facts) or config.gelu
        words = find_words(checkpoint, options.vocab, config, facts)
        shape, soc = _shape(options, config, checkpoint), _soc(options)
        with environment.quiet():
            lines = export(checkpoint, options.folder, config, options.format, gelu, words, shape, soc)
    except (CheckpointError, OSError, ValueError) as error:
        print(f"export: {error}", file=sys.stderr)
        return 2
    print(*lines, f"wrote {options.folder} from {checkpoint}", sep="\n")
    if words is None:
        print("without vocab.txt and tokenizer_config.json: none beside the checkpoint; give --vocab")
    elif words.rules.source:
        print(f"do_lower_case {words.rules.do_lower_case}, as said by: {words.rules.source}")
    return 0


def parser() -> argparse.ArgumentParser:
    """Describe the command line."""
    parser = argparse.ArgumentParser(
        prog="npu-launch export", description="Write a checkpoint for other programs.", allow_abbrev=False
    )
    parser.add_argument("checkpoint", help="run, TensorFlow prefix, or folder or file of safetensors")
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
    parser.add_argument(
        "--static",
        default="",
        metavar="BxL",
        help="onnx: fixed rows and columns, such as 1x384; default: any",
    )
    parser.add_argument(
        "--soc",
        default="",
        metavar="NAME",
        help="om: the chip, such as Ascend310P3; default: as npu-smi says",
    )
    return parser


def _shape(options: argparse.Namespace, config: BertConfig, checkpoint: str) -> tuple[int, int] | None:
    """Read --static; an om has a shape in any case. ValueError: it is none, or does not fit."""
    most = config.max_position_embeddings
    if not options.static:
        asked = recorded_task(checkpoint).get("max_seq_length")
        return (1, min(most, asked if isinstance(asked, int) else 384)) if options.format == "om" else None
    if options.format not in ONNX:
        raise ValueError(f"--static: {options.format} has no fixed shape; leave it out")
    match = re.fullmatch(r"(\d{1,6})x(\d{1,6})", options.static)
    rows, columns = map(int, match.groups()) if match else (0, 0)
    if not rows or not columns:
        raise ValueError(f"--static {options.static!r:.40} is no shape; give rows and columns, such as 1x384")
    if columns > most:
        raise ValueError(f"--static: {columns} columns are more than the model's {most} positions")
    return rows, columns


def _soc(options: argparse.Namespace) -> str:
    """Find the chip of an om. ValueError: neither given nor told by npu-smi."""
    if options.format != "om":
        if options.soc:
            raise ValueError("--soc: only --format om is made for a chip")
        return ""
    from bert.onnx import atc

    found: str = options.soc or atc.chip()
    if not re.fullmatch(r"Ascend\w+", found):
        raise ValueError(
            f"--soc: {found or 'npu-smi does not tell the chip'}; give its name, such as Ascend310P3 or"
            " Ascend910B3 (npu-smi info; the name with Ascend before it)"
        )
    return found


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
    shape: tuple[int, int] | None = None,
    soc: str = "",
) -> list[str]:
    """Write FOLDER completely or not at all; return what to tell the user.

    shape: fixed rows and columns of an .onnx file. soc: the chip of an om.

    Raises:
        CheckpointError: the checkpoint is damaged, does not fit, or has no span head.
        ValueError: FOLDER exists.
    """
    texts = model_files.texts(config.with_gelu(gelu), words, _task(checkpoint, shape))
    place = os.path.abspath(folder)
    if os.path.lexists(place):
        raise ValueError(f"{folder} exists; give a new folder")
    os.makedirs(os.path.dirname(place), exist_ok=True)
    # A folder of a new name: whatever is already there is not this program's to remove.
    room = tempfile.mkdtemp(".tmp", os.path.basename(place) + ".", os.path.dirname(place))
    draft = os.path.join(room, os.path.basename(place))
    lines: list[str] = []
    try:
        if form == "saved_model":
            _saved_model(checkpoint, draft, config, gelu)
        elif form == "safetensors":
            _safetensors(checkpoint, draft, config)
        else:
            from bert.onnx import writing

            order = writing.Order(checkpoint, config, gelu, form, shape, soc)
            lines = writing.write(order, _weights(checkpoint, config), draft)
        for name, text in texts.items():
            with open(os.path.join(draft, name), "w", encoding="utf-8", errors="replace") as stream:
                stream.write(text)
        os.rename(draft, place)
    finally:
        shutil.rmtree(room, ignore_errors=True)
    return lines


def _task(checkpoint: str, shape: tuple[int, int] | None) -> dict[str, Any]:
    """Return how the export is asked: as the checkpoint, but in no longer rows than its fixed shape has."""
    said = recorded_task(checkpoint)
    if shape is None:
        return said
    most, columns = said.get("max_seq_length"), shape[1]
    return {**said, "max_seq_length": min(most, columns) if isinstance(most, int) else columns}


def _weights(checkpoint: str, config: BertConfig) -> dict[str, np.ndarray]:
    from bert.checkpoints import reader  # imports TensorFlow

    reader.check(checkpoint, config)
    wanted = names.shapes(config)
    values = {name: value.astype(np.float32) for name, value in reader.read(checkpoint) if name in wanted}
    missing = sorted(set(wanted) - set(values))
    if missing:
        raise CheckpointError(f"{checkpoint} lacks {', '.join(missing)}; fine-tune it first")
    return values


def _safetensors(checkpoint: str, folder: str, config: BertConfig) -> None:
    from safetensors.numpy import save

    values = {}
    for google, value in _weights(checkpoint, config).items():
        name, transposed = names.to_hf(google)
        values[name] = np.ascontiguousarray(value.T if transposed else value)
    os.makedirs(folder)
    with open(os.path.join(folder, "model.safetensors"), "wb") as weights:
        weights.write(save(values, {"format": "pt"}))


def _saved_model(checkpoint: str, folder: str, config: BertConfig, gelu: str) -> None:
    """Write a SavedModel: inputs int32 [B, L] by the keys below, outputs float32 [B, L]."""
    import tensorflow.compat.v1 as tf

    from bert.checkpoints import reader
    from bert.model import GELUS, Model, Operations, create_variables

    _weights(checkpoint, config)
    with tf.Graph().as_default(), tf.Session() as session:
        inputs = {key: tf.placeholder(tf.int32, [None, None], key) for key in KEYS}
        weights = create_variables(config)
        model = Model(config, weights, Operations(gelu=GELUS[gelu]))
        start, end = tf.unstack(model.span_logits(inputs))
        outputs = {
            "start_logits": tf.identity(start, "start_logits"),
            "end_logits": tf.identity(end, "end_logits"),
        }
        reader.initialize(session, weights, reader.Reading(checkpoint, slots=False))
        tf.saved_model.simple_save(session, folder, inputs, outputs)


if __name__ == "__main__":
    sys.exit(main())
