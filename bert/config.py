"""The shape of a BERT, read from Google's bert_config.json or HF's config.json. Stdlib only."""

from __future__ import annotations

import dataclasses
import json
from dataclasses import dataclass
from typing import Any, Mapping

_GELUS = ("gelu", "gelu_new", "gelu_pytorch_tanh")  # exact, and two names of the tanh approximation


@dataclass(frozen=True)
class BertConfig:
    """The sizes of a model; names and defaults are google-research/bert's."""

    vocab_size: int
    hidden_size: int = 768
    num_hidden_layers: int = 12
    num_attention_heads: int = 12
    intermediate_size: int = 3072
    hidden_act: str = "gelu"
    hidden_dropout_prob: float = 0.1
    attention_probs_dropout_prob: float = 0.1
    max_position_embeddings: int = 512
    type_vocab_size: int = 16
    initializer_range: float = 0.02
    layer_norm_eps: float = 1e-12

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> BertConfig:
        """Read the known keys. ValueError: not a BERT, or heads that do not divide the hidden size."""
        known = {field.name for field in dataclasses.fields(cls)}
        if "vocab_size" not in values:
            raise ValueError("vocab_size is missing; give a BERT configuration")
        model_type, activation = values.get("model_type", "bert"), values.get("hidden_act", "gelu")
        if model_type != "bert":
            raise ValueError(f"model_type is {model_type!r}; give the configuration of a bert")
        if activation not in _GELUS:
            raise ValueError(f"hidden_act is {activation!r}; expected one of {', '.join(_GELUS)}")
        config = cls(**{key: value for key, value in values.items() if key in known})
        size, heads = config.hidden_size, config.num_attention_heads
        if size % heads:
            raise ValueError(f"hidden_size {size} is not a multiple of num_attention_heads {heads}")
        return config

    @classmethod
    def from_file(cls, path: str) -> BertConfig:
        """Read a JSON file. ValueError: invalid JSON (line and column), or not a BERT configuration."""
        with open(path, encoding="utf-8") as stream:
            try:
                values = json.load(stream)
            except json.JSONDecodeError as error:
                place = f"line {error.lineno} column {error.colno}"
                raise ValueError(f"{place}: invalid JSON: {error.msg}") from None
        if not isinstance(values, dict):
            raise ValueError("not a JSON object; give a BERT configuration")
        return cls.from_dict(values)

    def with_dropout(self, rate: float) -> BertConfig:
        """Set both rates of dropout; a negative rate changes nothing."""
        if rate < 0:
            return self
        return dataclasses.replace(self, hidden_dropout_prob=rate, attention_probs_dropout_prob=rate)
