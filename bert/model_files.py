"""The files that another program, or a later run, needs beside the weights. Stdlib only."""

from __future__ import annotations

import dataclasses
import json
import os
from types import MappingProxyType
from typing import Any, Mapping

from bert import files, text_rules
from bert.checkpoints import index
from bert.config import CONFIGS, BertConfig
from bert.text_rules import TextRules
from bert.vocabulary import Vocabulary

THRESHOLD_FROM = "threshold_from"  # of a task: name and sha256 of the file it was searched on, questions
NO_TASK: Mapping[str, Any] = MappingProxyType({})


@dataclasses.dataclass(frozen=True)
class Words:
    """A model's vocabulary and what is done to texts before it."""

    vocabulary: Vocabulary
    rules: TextRules


def texts(config: BertConfig, words: Words | None, task: Mapping[str, Any] = NO_TASK) -> dict[str, str]:
    """Format the files by name: config.json, and with `words` vocab.txt and tokenizer_config.json.

    task: how the model is asked, as squad.task says it; {} leaves it out.
    """
    values = hf_config(config)
    if task:
        values["task_specific_params"] = {"squad": dict(task)}
    made = {"config.json": json.dumps(values, indent=2, sort_keys=True) + "\n"}
    if words is not None:
        made["vocab.txt"] = words.vocabulary.text
        made[text_rules.CONFIG] = text_rules.to_json(words.rules, task.get("max_seq_length"))
    return made


def hf_config(config: BertConfig) -> dict[str, Any]:
    """Build the content of transformers' config.json."""
    values = dataclasses.asdict(config)
    values.update(
        architectures=["BertForQuestionAnswering"], model_type="bert", position_embedding_type="absolute",
        pad_token_id=0, torch_dtype="float32",
    )  # fmt: skip
    return values


def recorded_task(checkpoint: str) -> dict[str, Any]:
    """Return how a model was trained to be asked, by name; {} if neither its JSON nor its config.json says.

    PREFIX.json comes first, as config.json is that of all checkpoints in the folder.
    """
    record = index.record(checkpoint)
    recorded, found = record.get("task"), record.get("threshold")
    # Searched by an evaluation of this very checkpoint.
    own = of_threshold(found) if isinstance(found, dict) and "f1" in found else {}
    return dict(recorded if isinstance(recorded, dict) else _task_of_config(checkpoint), **own)


def of_threshold(found: Mapping[str, Any]) -> dict[str, Any]:
    """Return what a task says of thresholds that were searched: F1's, which is the one that is used."""
    data = found.get("data")
    origin = dict(data if isinstance(data, dict) else {}, questions=found.get("questions"))
    return {"threshold": found["f1"], THRESHOLD_FROM: origin}


def _task_of_config(checkpoint: str) -> dict[str, Any]:
    for name in CONFIGS:
        try:
            said = files.read_object(os.path.join(index.folder_of(checkpoint), name), 4 << 20)
        except ValueError:
            continue
        of_tasks = said.get("task_specific_params")
        found = of_tasks.get("squad") if isinstance(of_tasks, dict) else None
        return found if isinstance(found, dict) else {}
    return {}


def recorded_gelu(facts: Mapping[str, Any]) -> str:
    """Return the form of gelu that a run of this program was trained with; "" if that is not recorded."""
    settings = facts.get("config")
    found = settings.get("gelu") if isinstance(settings, dict) else None
    return found if found in ("exact", "tanh") else ""
