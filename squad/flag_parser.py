"""Read a command line: spellings, types, and flags that are known but not used. Stdlib only."""

from __future__ import annotations

import difflib
from typing import Any, Mapping, Optional, Sequence, Tuple

Finding = Tuple[str, str]  # (flag, what is wrong and what to do); in a note: (flag, what is done instead)
Kinds = Mapping[str, Any]  # type of each flag's value
Choices = Mapping[str, Sequence[str]]  # allowed values of the flags that have such

# Flags of the original script's successor: the flag used instead, and the difference.
ALIASES: dict[str, tuple[str, str]] = {
    "use_fast_gelu": (
        "npu_bert_fused_gelu",
        "an NPU uses its gelu (npu_bert_fused_gelu), which is not the same operation as its fast_gelu",
    ),
    "npu_bert_npu_dropout_v3": (
        "npu_bert_npu_dropout",
        "an NPU uses its dropout (npu_bert_npu_dropout), which is not the same operation as its dropout_v3",
    ),
}
# Errors unless they are switched off: they request something that this program lacks.
REFUSED: dict[str, str] = {
    "horovod": "start the program with npu-launch; ranks come from the rank table",
    "use_trt": "TensorRT is for NVIDIA GPUs; use `npu-launch export` for a SavedModel",
    "use_xla": "there is no XLA for this backend; leave the flag out",
    "export_triton": "use `npu-launch export` for a SavedModel",
    "npu_bert_tail_optimize": "leave it out; the all-reduce runs during the backward pass (hcom_parallel)",
    "use_fp16_cls": "leave it out; --precision_mode sets what is computed in half precision",
    "npu_bert_use_fused_adam_momentum": "leave it out; give --optimizer_type=adam or adamw",
    "npu_bert_use_fused_lamb_momentum": "leave it out; give --optimizer_type=lamb",
}
# Notes, whatever their value: what happens instead.
UNUSED: dict[str, str] = {"dllog_path": "metrics are written to metrics.jsonl in the rank's folder"}
UNUSED.update(
    {
        "triton_" + name: "nothing is exported for Triton; use `npu-launch export` for a SavedModel"
        for name in (
            "model_name", "model_version", "server_url", "model_overwrite",
            "max_batch_size", "dyn_batching_delay", "engine_count",
        )
    }
)  # fmt: skip


def read(
    argv: Sequence[str], kinds: Kinds, choices: Choices
) -> tuple[dict[str, Any], list[Finding], list[Finding]]:
    """Read a command line: (values by flag, what is wrong, notes)."""
    values: dict[str, Any] = {}
    findings: list[Finding] = []
    notes: list[Finding] = []
    aliased: dict[str, tuple[str, str]] = {}
    for name, text in _pairs(argv, kinds, findings):
        target, difference = ALIASES.get(name, (name, ""))
        try:
            if target in kinds:
                values[target] = _convert(kinds[target], choices.get(target, ()), text)
            elif name not in UNUSED:
                _refuse(name, text, kinds)
        except ValueError as error:
            findings.append((name, str(error)))
        if name in UNUSED:
            notes.append((name, "has no effect; " + UNUSED[name]))
        elif difference:
            aliased[name] = (target, difference)
    notes += [(name, difference) for name, (target, difference) in aliased.items() if values.get(target)]
    return values, findings, notes


def _pairs(argv: Sequence[str], kinds: Kinds, findings: list[Finding]) -> list[tuple[str, str | None]]:
    """Split a command line into (flag, text); text is None for a flag without value."""
    pairs: list[tuple[str, str | None]] = []
    rest = list(argv)
    while rest:
        word = rest.pop(0)
        if not word.startswith("--"):
            findings.append((word, "not a flag; write --name=value"))
            continue
        name, equals, value = word[2:].partition("=")
        text: str | None = value if equals else None
        if (
            text is None
            and name.startswith("no")
            and not _is_known(name, kinds)
            and _is_known(name[2:], kinds)
        ):
            name, text = name[2:], "False"
        if text is None and rest and not rest[0].startswith("--"):
            text = rest.pop(0)
        pairs.append((name, text))
    return pairs


def _is_known(name: str, kinds: Kinds) -> bool:
    return name in kinds or name in ALIASES or name in REFUSED or name in UNUSED


def _refuse(name: str, text: str | None, kinds: Kinds) -> None:
    """Raise ValueError for a flag that is unknown, or refused and not switched off."""
    if name in REFUSED:
        if (text or "").lower() in ("false", "0"):
            return
        raise ValueError(f"not supported; {REFUSED[name]}")
    near = difflib.get_close_matches(name, kinds, n=1)
    raise ValueError(f"unknown flag; did you mean {near[0]}?" if near else "unknown flag; see --help")


_PLAIN: dict[Any, Any] = {Optional[bool]: bool, Optional[float]: float}
BOOLEANS = {
    **dict.fromkeys(("true", "t", "1", "yes"), True),
    **dict.fromkeys(("false", "f", "0", "no"), False),
}


def _convert(kind: Any, choices: Sequence[str], text: str | None) -> Any:
    """Convert a flag's text to its type; the choice beside a number is None. ValueError: what to give."""
    kind = _PLAIN.get(kind, kind)
    if kind is bool:
        if text is None:
            return True
        if text.lower() not in BOOLEANS:
            raise ValueError(f"{text!r} is not a boolean; give True or False")
        return BOOLEANS[text.lower()]
    if text is None:
        raise ValueError("needs a value")
    if kind in (int, float):
        if text in choices:
            return None
        try:
            return kind(text)
        except ValueError:
            noun = "an integer" if kind is int else "a number"
            raise ValueError(f"{text!r} is not {' or '.join([noun, *choices])}") from None
    if choices and text not in choices:
        raise ValueError(f"{text!r} is none of {', '.join(choices)}")
    return text
