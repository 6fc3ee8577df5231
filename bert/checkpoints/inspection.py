"""Compare a checkpoint with a configuration by names, types and shapes alone. Stdlib only."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Iterator, Mapping

from bert import names
from bert.checkpoints import index
from bert.checkpoints.headers import Entry, Shape
from bert.config import BertConfig

_FLOATS = ("F64", "F32", "F16", "BF16")
_WORDS = "bert/embeddings/word_embeddings"
_OTHERS = re.compile(
    r"(?:^|[./])(roberta|xlm_roberta|distilbert|electra|albert|deberta|mobilebert|camembert|xlnet|mpnet|"
    r"longformer|nezha|ernie|gpt2?|t5)[./]"
)
# Parts of names that other models, or other forms of a BERT, have: what they are.
_PARTS = (
    ("_CHECKPOINTABLE_OBJECT_GRAPH", "a TensorFlow 2 object checkpoint"),
    ("/.ATTRIBUTES/VARIABLE_VALUE", "a TensorFlow 2 object checkpoint"),
    ("lora_A", "an adapter (LoRA), not a whole model"),
    ("inner_group", "an ALBERT"),
    ("distance_embedding", "a BERT with relative positions (position_embedding_type)"),
    ("crossattention", "a decoder with cross-attention"),
    ("relative_attention_bias", "a model with relative positions"),
    ("rel_embeddings", "a DeBERTa"),
    ("rotary_emb", "a model with rotary positions"),
    ("embeddings_project", "an ELECTRA"),
    ("discriminator_predictions", "an ELECTRA"),
    ("generator_predictions", "an ELECTRA"),
    ("generator_lm_head", "an ELECTRA"),
    ("embedding_hidden_mapping_in", "an ALBERT"),
    ("embedding_transformation", "a MobileBERT"),
    ("key_conv_attn_layer", "a ConvBERT"),
    ("lm_head.layer_norm", "a RoBERTa"),
)
_INNER = ("bert/encoder/", "bert/embeddings/", "bert.encoder.", "bert.embeddings.")
_OURS = re.compile("/(kernel|bias|gamma|beta|[a-z_]+_embeddings)$")
_BUFFERS = ("position_ids", "token_type_ids")  # of transformers, which are no weights
_ADVICE = {
    "a TensorFlow 2 object checkpoint": "write it with transformers, as safetensors",
    "an adapter (LoRA), not a whole model": "merge it into its model first",
}


@dataclass(frozen=True)
class Inspection:
    """How a checkpoint fits; no problems: it can be loaded."""

    problems: tuple[str, ...]
    notes: tuple[str, ...] = ()
    has_head: bool = True  # it can answer without being trained


def inspect(path: str, config: BertConfig) -> Inspection:
    """Compare a checkpoint with a configuration. OSError, ValueError: there is none, or it is damaged."""
    held = index.entries(path)
    shapes = names.to_google({name: entry.shape for name, entry in held.items()})
    foreign = _foreign(held, shapes)
    if foreign:
        return Inspection((foreign,))
    problems = [*names.differences(shapes, config), *_unreadable(held, config)]
    wrapped = sorted({names.wrapper(name) for name in held} - {""})
    notes = [f"its names begin with {wrapped[0]!r}, which is left out"] if wrapped else []
    return Inspection(tuple(problems), tuple(notes), all(name in shapes for name in names.HEAD))


def _foreign(held: Mapping[str, Entry], shapes: Mapping[str, Shape]) -> str:
    """Describe a checkpoint that is no BERT of this program's kind; "" if it is one."""
    for part, kind in _PARTS:
        if any(part in name for name in held):
            return f"is {kind}; {_ADVICE.get(kind, 'give the weights of a BERT')}"
    if _WORDS in shapes:
        more = sorted(filter(_is_more, held))
        kind = "which a BERT does not have; give the weights of a BERT"
        return f"holds {more[0]:.80}{' and more' if len(more) > 1 else ''}, {kind}" if more else ""
    others = sorted({match.group(1) for match in map(_OTHERS.search, held) if match})
    if others:
        return f"holds the variables of {others[0]}; give the weights of a BERT"
    shown = [f"{name:.80}" for name in sorted(held)[:3]]
    listed = f"{', '.join(shown)}{', ...' if len(held) > 3 else ''}" if shown else "nothing"
    return f"lacks {_WORDS}, the first variable of a BERT; it holds {listed}; give the weights of a BERT"


def _is_more(name: str) -> bool:
    """Tell whether a variable of the encoder or the embeddings is none of BERT's, so is not computed."""
    if "/" in name:
        parts = name.split("/")  # an optimizer's are named by what they belong to, and a suffix
        above = ["/".join(parts[:count]) for count in range(3, len(parts) + 1)]
        return name.startswith(_INNER) and not any(names.to_hf(one)[0] and _OURS.search(one) for one in above)
    short = name[len(names.wrapper(name)) :]
    short = "bert." + short if short.startswith(("encoder.", "embeddings.")) else short
    return (
        short.startswith(_INNER) and not short.endswith(_BUFFERS) and not _OURS.search(names.from_hf(name)[0])
    )


def _unreadable(held: Mapping[str, Entry], config: BertConfig) -> Iterator[str]:
    """Find variables of the model whose values are no floating-point numbers, as in quantised models."""
    wanted = names.shapes(config)
    for name, entry in held.items():
        google = name if "/" in name else names.from_hf(name)[0]
        if google in wanted and entry.type not in _FLOATS:
            yield f"{name} has values of type {entry.type}; give weights in {', '.join(_FLOATS)}"
            return
