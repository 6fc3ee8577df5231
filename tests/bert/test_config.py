"""Model configurations of Google and HF, and those that are no BERT's."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest

from bert.config import BertConfig, unknown_keys

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
        ({"architectures": ["DistilBertModel"]}, "architectures is .*; give the configuration of a bert"),
        ({"architectures": ["RobertaModel"], "model_type": "bert"}, "architectures is"),
        ({"embedding_size": 4}, "embedding_size 4 is not hidden_size"),
        ({"position_embedding_type": "relative_key"}, "position_embedding_type is 'relative_key'; only"),
        ({"attention_type": "block_sparse"}, "attention_type is .*; only full attention"),
        ({"norm_first": True}, "norm_first is True; only BERT's layers"),
        ({"n_layers": 6}, "n_layers is a key of DistilBERT; give the configuration of a bert"),
        ({"relative_attention": True}, "relative_attention is a key of DeBERTa"),
        ({"rope_theta": 1e4}, "rope_theta is a key of models with rotary positions"),
        ({"num_hidden_groups": 1}, "num_hidden_groups is a key of ALBERT"),
        ({"is_decoder": True}, "is_decoder is True; only an encoder"),
        ({"pruned_heads": {"0": [1]}}, "pruned_heads is"),
        ({"hidden_act": None}, "hidden_act is None"),
        ({"hidden_size": "8"}, "hidden_size is '8'; expected a whole number"),
        ({"hidden_size": True}, "hidden_size is True; expected"),
        ({"num_hidden_layers": 10**9}, "num_hidden_layers is 1000000000; expected a whole number from 1 to"),
        ({"layer_norm_eps": float("nan")}, "layer_norm_eps is nan; expected a number"),
        ({"hidden_dropout_prob": 1}, "hidden_dropout_prob is 1; expected a number, 0 to below 1"),
    ],
)
def test_what_the_model_cannot_be_is_refused(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        BertConfig.from_dict({**GOOD, **changes})


@pytest.mark.parametrize(
    ("name", "form"),
    [("gelu", "exact"), ("gelu_new", "tanh"), ("gelu_pytorch_tanh", "tanh"), ("gelu_fast", "tanh")],
)
def test_each_name_of_gelu_means_a_form(name: str, form: str) -> None:
    config = BertConfig.from_dict({**GOOD, "hidden_act": name})
    assert config.gelu == form and config.with_gelu(form) is config
    other = {"exact": "tanh", "tanh": "exact"}[form]
    assert config.with_gelu(other).gelu == other


def test_keys_that_might_change_the_model_are_told_from_those_that_cannot() -> None:
    values = {**GOOD, "pooler_type": "first", "use_cache": True, "rotary": None}
    assert unknown_keys(values) == []
    assert unknown_keys({**values, "rotary": True, "use_task_id": True}) == ["rotary", "use_task_id"]


@pytest.mark.parametrize("width", [None, 768])
def test_a_width_of_embeddings_that_is_the_hidden_size_is_no_other_model(width: Any) -> None:
    assert BertConfig.from_dict({"vocab_size": 30, "embedding_size": width}).hidden_size == 768


def test_transformers_default_of_token_types_is_not_googles() -> None:
    assert BertConfig.from_dict(GOOD).type_vocab_size == 16
    assert BertConfig.from_dict({**GOOD, "model_type": "bert"}).type_vocab_size == 2


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
    for data, message in (
        (b"", "empty"),
        (b"version https://git-lfs.github.com/spec/v1\noid 1\n", "Git LFS pointer"),
        (b'{"vocab_size": "\xff"}', "not UTF-8 at byte 16"),
        (b'{"a": ' + b"[" * 100_000, "nested too deeply"),
        (b'{"vocab_size": ' + b"9" * 100_000 + b"}", "vocab_size is inf"),
    ):
        path.write_bytes(data)
        with pytest.raises(ValueError, match=message):
            BertConfig.from_file(str(path))
    path.write_text("\ufeff" + json.dumps(GOOD), encoding="utf-8")
    assert BertConfig.from_file(str(path)).hidden_size == 8


def test_a_pipe_in_place_of_a_configuration_is_named_and_not_opened(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "config.json")
    with pytest.raises(ValueError, match=r"a FIFO .expected a regular file"):
        BertConfig.from_file(str(tmp_path / "config.json"))


def test_a_rate_of_dropout_sets_both_and_a_negative_one_none() -> None:
    config = BertConfig(vocab_size=10, hidden_dropout_prob=0.3)
    changed = config.with_dropout(0.0)
    assert (changed.hidden_dropout_prob, changed.attention_probs_dropout_prob) == (0.0, 0.0)
    assert config.with_dropout(-1.0) == config
