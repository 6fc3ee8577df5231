"""The files that another program, or a later run, needs beside the weights. Stdlib only."""

from __future__ import annotations

import dataclasses
import json
from typing import Any, Mapping

from bert import text_rules
from bert.config import BertConfig
from bert.text_rules import TextRules
from bert.vocabulary import Vocabulary


@dataclasses.dataclass(frozen=True)
class Words:
    """A model's vocabulary and what is done to texts before it."""

    vocabulary: Vocabulary
    rules: TextRules


def texts(config: BertConfig, words: Words | None) -> dict[str, str]:
    """Format the files by name: config.json, and with `words` vocab.txt and tokenizer_config.json."""
    made = {"config.json": json.dumps(hf_config(config), indent=2, sort_keys=True) + "\n"}
    if words is not None:
        made["vocab.txt"] = words.vocabulary.text
        made[text_rules.CONFIG] = text_rules.to_json(words.rules)
    return made


def hf_config(config: BertConfig) -> dict[str, Any]:
    """Build the content of transformers' config.json."""
    values = dataclasses.asdict(config)
    values.update(
        architectures=["BertForQuestionAnswering"], model_type="bert", position_embedding_type="absolute",
        pad_token_id=0, torch_dtype="float32",
    )  # fmt: skip
    return values


def recorded_gelu(facts: Mapping[str, Any]) -> str:
    """Return the form of gelu that a run of this program was trained with; "" if that is not recorded."""
    settings = facts.get("config")
    found = settings.get("gelu") if isinstance(settings, dict) else None
    return found if found in ("exact", "tanh") else ""
