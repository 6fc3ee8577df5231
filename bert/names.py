"""Names of BERT's variables: Google's, HF's, NVIDIA's; and which a configuration requires. Stdlib only."""

from __future__ import annotations

import re
from typing import Iterator, Mapping, Tuple

from bert.config import BertConfig

Shape = Tuple[int, ...]
HEAD = ("cls/squad/output_weights", "cls/squad/output_bias")
POOLER = ("bert/pooler/dense/kernel", "bert/pooler/dense/bias")
MOMENTS = ("/adam_m", "/adam_v")  # of this program, as Google's
_SLOTS = (*MOMENTS, "/lamb_m", "/lamb_v", "/m", "/v", "/Adam", "/Adam_1", "/Momentum")
_COUNTERS = ("loss_scale", "beta1_power", "beta2_power")
_WRAPPER = re.compile(r"(?:module\.|model\.|_orig_mod\.)+")
_LAYER = (
    ("attention.self.query.", "attention/self/query/"),
    ("attention.self.key.", "attention/self/key/"),
    ("attention.self.value.", "attention/self/value/"),
    ("attention.output.dense.", "attention/output/dense/"),
    ("attention.output.LayerNorm.", "attention/output/LayerNorm/"),
    ("intermediate.dense.", "intermediate/dense/"),
    ("output.dense.", "output/dense/"),
    ("output.LayerNorm.", "output/LayerNorm/"),
)
_TOP = {
    "embeddings.word_embeddings.weight": "bert/embeddings/word_embeddings",
    "embeddings.position_embeddings.weight": "bert/embeddings/position_embeddings",
    "embeddings.token_type_embeddings.weight": "bert/embeddings/token_type_embeddings",
    "embeddings.LayerNorm.weight": "bert/embeddings/LayerNorm/gamma",
    "embeddings.LayerNorm.bias": "bert/embeddings/LayerNorm/beta",
    "embeddings.LayerNorm.gamma": "bert/embeddings/LayerNorm/gamma",
    "embeddings.LayerNorm.beta": "bert/embeddings/LayerNorm/beta",
    "pooler.dense.weight": "bert/pooler/dense/kernel",
    "pooler.dense.bias": "bert/pooler/dense/bias",
    "qa_outputs.weight": HEAD[0],
    "qa_outputs.bias": HEAD[1],
}


def wrapper(name: str) -> str:
    """Return what wrappers put before a name: DataParallel's module., Lightning's model., torch.compile's."""
    match = _WRAPPER.match(name)
    return match.group() if match else ""


def from_hf(name: str) -> tuple[str, bool]:
    """Translate an HF name: (Google's name, transposed); ("", False) if BERT has no such variable."""
    short = name[len(wrapper(name)) :]
    short = short[5:] if short.startswith("bert.") else short
    if short in _TOP:
        return _TOP[short], short == "pooler.dense.weight"
    match = re.match(r"encoder\.layer\.(\d+)\.(.*\.)(\w+)$", short)
    if not match:
        return "", False
    for theirs, ours in _LAYER:
        if match.group(2) == theirs:
            norm = "LayerNorm" in ours
            leaf = {"weight": "gamma" if norm else "kernel", "bias": "beta" if norm else "bias"}
            last = leaf.get(match.group(3), match.group(3))
            return f"bert/encoder/layer_{match.group(1)}/{ours}{last}", last == "kernel"
    return "", False


def to_hf(name: str) -> tuple[str, bool]:
    """Translate Google's name: (HF's in BertForQuestionAnswering, transposed); ("", False) if HF has none."""
    for theirs, ours in _TOP.items():
        if ours == name and not theirs.endswith((".gamma", ".beta")):
            return (theirs if name in HEAD else "bert." + theirs), name == POOLER[0]
    match = re.match(r"bert/encoder/layer_(\d+)/(.*/)(\w+)$", name)
    for theirs, ours in _LAYER if match else ():
        if match and match.group(2) == ours:
            leaf = {"gamma": "weight", "kernel": "weight"}.get(match.group(3), "bias")
            found = f"bert.encoder.layer.{match.group(1)}.{theirs}{leaf}"
            return found, match.group(3) == "kernel"
    return "", False


def is_slot(name: str) -> bool:
    """Tell whether a variable is an optimizer's, or its counter."""
    return name == "global_step" or name.endswith(_SLOTS) or name.startswith(_COUNTERS)


def to_google(held: Mapping[str, Shape]) -> dict[str, Shape]:
    """Name a checkpoint's shapes as Google does; names that already are Google's stay."""
    result: dict[str, Shape] = {}
    for name, shape in held.items():
        if "/" in name or name == "global_step":
            result[name] = shape
            continue
        google, transposed = from_hf(name)
        if google:
            result[google] = shape[::-1] if transposed else shape
    return result


def shapes(config: BertConfig, pooler: bool = False) -> dict[str, Shape]:
    """List every variable of the span model with its shape."""
    hidden, inner = config.hidden_size, config.intermediate_size
    result: dict[str, Shape] = {
        "bert/embeddings/word_embeddings": (config.vocab_size, hidden),
        "bert/embeddings/token_type_embeddings": (config.type_vocab_size, hidden),
        "bert/embeddings/position_embeddings": (config.max_position_embeddings, hidden),
        "bert/embeddings/LayerNorm/gamma": (hidden,),
        "bert/embeddings/LayerNorm/beta": (hidden,),
        HEAD[0]: (2, hidden),
        HEAD[1]: (2,),
    }
    for layer in range(config.num_hidden_layers):
        prefix = f"bert/encoder/layer_{layer}/"
        for _, ours in _LAYER:
            if "LayerNorm" in ours:
                result[prefix + ours + "gamma"] = result[prefix + ours + "beta"] = (hidden,)
                continue
            rows = inner if ours == "output/dense/" else hidden
            columns = inner if ours == "intermediate/dense/" else hidden
            result[prefix + ours + "kernel"], result[prefix + ours + "bias"] = (rows, columns), (columns,)
    if pooler:
        result[POOLER[0]], result[POOLER[1]] = (hidden, hidden), (hidden,)
    return result


def differences(held: Mapping[str, Shape], config: BertConfig) -> Iterator[str]:
    """Describe where a checkpoint does not fit the configuration; a missing head is allowed."""
    missing: list[str] = []
    for name, shape in shapes(config).items():
        if name not in held:
            if name not in HEAD:
                missing.append(name)
        elif tuple(held[name]) != shape:
            more = _padding(tuple(held[name]), shape) if name.endswith("word_embeddings") else ""
            yield f"{name} has shape {list(held[name])}, the configuration says {list(shape)}{more}"
    layers = {int(m.group(1)) for m in (re.match(r"bert/encoder/layer_(\d+)/", n) for n in held) if m}
    if layers and len(layers) > config.num_hidden_layers:
        yield f"holds {len(layers)} layers, the configuration says {config.num_hidden_layers}"
    if missing:
        fewer = len(layers) < config.num_hidden_layers
        more = f"; it has {len(layers)} layers, not {config.num_hidden_layers}" if fewer else ""
        yield f"lacks {len(missing)} variables that the configuration requires, first {missing[0]}{more}"


def _padding(held: Shape, wanted: Shape) -> str:
    """Advise on a table that was padded after its configuration was written, such as 30528 for 30522."""
    if len(held) == 2 and held[1:] == wanted[1:] and 0 < held[0] - wanted[0] < 1024:
        return f"; if the last rows are padding, set its vocab_size to {held[0]}"
    return ""
