"""The shape of a BERT, read from Google's bert_config.json or HF's config.json. Stdlib only.

What such a file says is computed so, or refused: a model with other positions, another activation or fewer
heads is another model, whose weights often have the same shapes.
"""

from __future__ import annotations

import dataclasses
import math
import re
from dataclasses import dataclass
from typing import Any, Mapping

from bert import files

CONFIGS = ("bert_config.json", "config.json")  # of files, the first that exists in a model's folder counts
# The forms of gelu by HF's names (transformers/activations.py); all but the first two are the tanh formula.
GELUS = {
    "gelu": "exact", "gelu_python": "exact", "gelu_new": "tanh", "gelu_pytorch_tanh": "tanh",
    "gelu_fast": "tanh", "gelu_accurate": "tanh", "gelu_python_tanh": "tanh",
}  # fmt: skip
_LARGEST = {
    "vocab_size": 1 << 24, "hidden_size": 1 << 16, "num_hidden_layers": 1 << 10,
    "num_attention_heads": 1 << 12, "intermediate_size": 1 << 20,
    "max_position_embeddings": 1 << 20, "type_vocab_size": 1 << 16,
}  # fmt: skip
_BERT = re.compile("(TF|Flax)?Bert(?!Generation)")
_OTHER = re.compile(  # also beside "model_type": "bert", in configurations made by hand
    "(TF|Flax)?(Albert|BertGeneration|BigBird|Camembert|ConvBert|Deberta|DistilBert|Electra|Ernie|MegatronBert|"
    "MobileBert|ModernBert|Nezha|NomicBert|Roberta|RoFormer|SqueezeBert|XLM|XLNet)"
)
_RATES = ("hidden_dropout_prob", "attention_probs_dropout_prob")
# Keys whose other values make another model: what is computed here, and what else the key may say.
_COMPUTED: dict[str, tuple[tuple[Any, ...], str]] = {
    "position_embedding_type": (("absolute",), "only absolute positions are computed"),
    "is_decoder": ((False,), "only an encoder is computed, in which each token sees all others"),
    "add_cross_attention": ((False,), "only an encoder is computed"),
    "pruned_heads": (({}, []), "a model whose heads were pruned is not computed"),
    "quantization_config": (({},), "quantised weights are not read"),
    "attention_type": (("original_full",), "only full attention is computed"),
    "prenorm": ((False,), "only BERT's layers are computed, which are normalised after each sum"),
    "norm_first": ((False,), "only BERT's layers are computed, which are normalised after each sum"),
}
# Keys that only other models have, in configurations without model_type.
_OF_OTHERS = {
    "dim": "DistilBERT", "n_layers": "DistilBERT", "d_model": "XLNet or T5", "n_embd": "GPT-2",
    "num_hidden_groups": "ALBERT", "inner_group_num": "ALBERT", "generator_size": "ELECTRA",
    "summary_type": "ELECTRA or XLNet", "relative_attention": "DeBERTa", "max_relative_position": "NEZHA",
    "use_relative_position": "NEZHA", "rope_theta": "models with rotary positions",
    "rotary_emb_fraction": "models with rotary positions", "alibi_starting_size": "models with ALiBi",
    "global_attn_every_n_layers": "ModernBERT", "attention_window": "Longformer", "use_task_id": "ERNIE",
    "conv_kernel_size": "ConvBERT", "head_ratio": "ConvBERT", "q_groups": "SqueezeBERT",
    "use_bottleneck": "MobileBERT", "intra_bottleneck_size": "MobileBERT",
    "num_experts": "mixtures of experts",
}  # fmt: skip
# Keys of transformers' and Google's files that do not change what an encoder with a span head computes.
_NO_EFFECT = frozenset(
    """_attn_implementation _attn_implementation_autoset _commit_hash _name_or_path _num_labels
    architectures attn_implementation auto_map bad_words_ids begin_suppress_tokens bos_token_id
    chunk_size_feed_forward classifier_dropout cross_attention_hidden_size decoder_start_token_id
    directionality diversity_penalty do_sample dtype early_stopping embedding_size
    encoder_no_repeat_ngram_size eos_token_id exponential_decay_length_penalty finetuning_task
    forced_bos_token_id forced_eos_token_id gradient_checkpointing id2label is_encoder_decoder
    label2id language length_penalty max_length min_length model_name model_type name
    no_repeat_ngram_size num_beam_groups num_beams num_labels num_return_sequences output_attentions
    output_hidden_states output_past output_scores pad_token_id pooler_fc_size
    pooler_num_attention_heads pooler_num_fc_layers pooler_size_per_head pooler_type prefix
    problem_type remove_invalid_values repetition_penalty return_dict return_dict_in_generate
    sep_token_id suppress_tokens task_specific_params temperature tf_legacy_loss tie_encoder_decoder
    tie_word_embeddings tokenizer_class top_k top_p torch_dtype torchscript transformers_version
    typical_p use_bfloat16 use_cache xla_device""".split()
)


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
        """Read the known keys. ValueError: not a BERT, a BERT of another kind, or sizes that cannot be."""
        refuse_other_models(values)
        if "vocab_size" not in values:
            raise ValueError("vocab_size is missing; give a BERT configuration")
        found = {field.name: values[field.name] for field in dataclasses.fields(cls) if field.name in values}
        if "model_type" in values or "architectures" in values:
            found.setdefault("type_vocab_size", 2)  # transformers' default; Google's is 16
        for name, value in found.items():
            _check_type(name, value)
        config = cls(**found)
        size, heads = config.hidden_size, config.num_attention_heads
        if size % heads:
            raise ValueError(f"hidden_size {size} is not a multiple of num_attention_heads {heads}")
        return config

    @classmethod
    def from_file(cls, path: str) -> BertConfig:
        """Read a JSON file. ValueError: it is none (with the place), or not a BERT configuration."""
        return cls.from_dict(read_values(path))

    @property
    def gelu(self) -> str:
        """The form of gelu that hidden_act names: exact or tanh."""
        return GELUS[self.hidden_act]

    def with_gelu(self, form: str) -> BertConfig:
        """Set the form of gelu; hidden_act stays if it is a name of this form."""
        if form == self.gelu:
            return self
        return dataclasses.replace(self, hidden_act="gelu_new" if form == "tanh" else "gelu")

    def with_dropout(self, rate: float) -> BertConfig:
        """Set both rates of dropout; a negative rate changes nothing."""
        if rate < 0:
            return self
        return dataclasses.replace(self, hidden_dropout_prob=rate, attention_probs_dropout_prob=rate)


def read_values(path: str) -> dict[str, Any]:
    """Read a configuration's JSON. ValueError: it is none; the message has no path."""
    try:
        values = files.read_object(path, 4 << 20)
    except ValueError as error:
        advice = "" if ";" in str(error) else "; give a BERT configuration"
        raise ValueError(f"{error}{advice}") from None
    inner = values.get("model")  # the JSON that this program writes beside a checkpoint
    return inner if isinstance(inner, dict) and "files" in values else values


def refuse_other_models(values: Mapping[str, Any]) -> None:
    """Raise ValueError for a configuration of another model, or of a BERT that is computed otherwise."""
    kind, listed = values.get("model_type"), values.get("architectures")
    if kind not in (None, "bert"):
        raise ValueError(f"model_type is {kind!r:.60}; give the configuration of a bert")
    for name in listed if isinstance(listed, list) else ():
        if _OTHER.match(str(name)) or (kind is None and not _BERT.match(str(name))):
            raise ValueError(f"architectures is {listed!r:.100}; give the configuration of a bert")
    for key, kind in _OF_OTHERS.items():
        if values.get(key) not in (None, False):
            raise ValueError(f"{key} is a key of {kind}; give the configuration of a bert")
    width = values.get("embedding_size")
    if width not in (None, values.get("hidden_size", 768)):  # ALBERT, ELECTRA, MobileBERT
        raise ValueError(f"embedding_size {width!r:.20} is not hidden_size; give the configuration of a bert")
    for key, (computed, reason) in _COMPUTED.items():
        if values.get(key) is not None and values[key] not in computed:
            raise ValueError(f"{key} is {values[key]!r:.60}; {reason}; give another model")
    activation = values.get("hidden_act", "gelu")
    if not isinstance(activation, str) or activation not in GELUS:
        raise ValueError(f"hidden_act is {activation!r:.60}; expected one of {', '.join(GELUS)}")


def unknown_keys(values: Mapping[str, Any]) -> list[str]:
    """List keys that this program neither obeys nor knows to be without effect."""
    known = {field.name for field in dataclasses.fields(BertConfig)} | _NO_EFFECT | set(_COMPUTED)
    return sorted(str(key)[:60] for key, value in values.items() if key not in known and value is not None)


def _check_type(name: str, value: Any) -> None:
    """Refuse a value of a wrong type or out of range."""
    if name in _LARGEST:
        if type(value) is not int or not 1 <= value <= _LARGEST[name]:
            raise ValueError(f"{name} is {value!r:.40}; expected a whole number from 1 to {_LARGEST[name]}")
    elif name != "hidden_act":
        number = type(value) in (int, float) and math.isfinite(value)
        if not number or value < 0 or (name in _RATES and value >= 1):
            wanted = "0 to below 1" if name in _RATES else "0 or more"
            raise ValueError(f"{name} is {value!r:.40}; expected a number, {wanted}")
