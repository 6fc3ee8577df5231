"""Model configurations of Google and HF, and those that are no BERT's."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from bert.config import BertConfig

GOOD = {"vocab_size": 30, "hidden_size": 8, "num_attention_heads": 2}


def test_unknown_keys_are_passed_over_and_defaults_are_googles() -> None:
    config = BertConfig.from_dict({**GOOD, "directionality": "bidi", "model_type": "bert"})
    assert (config.vocab_size, config.num_hidden_layers, config.layer_norm_eps) == (30, 12, 1e-12)


@pytest.mark.parametrize(
    "changes, message",
    [
        ({"num_attention_heads": 3}, "hidden_size 8 is not a multiple of num_attention_heads 3"),
        ({"hidden_act": "relu"}, "hidden_act is 'relu'; expected one of gelu, "),
        ({"model_type": "roberta"}, "model_type is 'roberta'; give the configuration of a bert"),
    ],
)
def test_what_the_model_cannot_be_is_refused(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        BertConfig.from_dict({**GOOD, **changes})


def test_a_file_that_is_no_configuration_is_refused_with_its_place(tmp_path: Path) -> None:
    path = tmp_path / "config.json"
    for text, message in (
        ('{"vocab_size": 1,}', r"line 1 column 18: invalid JSON"),
        ("[]", "not a JSON object"),
        ("{}", "vocab_size is missing"),
    ):
        path.write_text(text)
        with pytest.raises(ValueError, match=message):
            BertConfig.from_file(str(path))
    path.write_text(json.dumps(GOOD))
    assert BertConfig.from_file(str(path)).hidden_size == 8


def test_a_rate_of_dropout_sets_both_and_a_negative_one_none() -> None:
    config = BertConfig(vocab_size=10, hidden_dropout_prob=0.3)
    changed = config.with_dropout(0.0)
    assert (changed.hidden_dropout_prob, changed.attention_probs_dropout_prob) == (0.0, 0.0)
    assert config.with_dropout(-1.0) == config
