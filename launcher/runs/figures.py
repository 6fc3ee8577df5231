"""The figures that a run has reported: the metrics of its result.json."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path
from typing import Mapping, TypeVar

from launcher import foreign
from launcher.errors import ReadError
from launcher.typed_json import Value

T = TypeVar("T")


def metrics_of(run: Path) -> dict[str, float]:
    """Read the metrics of result.json; none when it is damaged."""
    with suppress(ReadError):
        return numbers(foreign.read_json(run / "result.json", foreign.DOCUMENT).get("metrics", {}))
    return {}


def unified(metrics: Mapping[str, T]) -> dict[str, T]:
    """Return metrics with SQuAD's exact match as `exact`; the script of version 1.1 says `exact_match`."""
    return {"exact" if name == "exact_match" else name: value for name, value in metrics.items()}


def exact_of(metrics: Mapping[str, float]) -> float | None:
    """Return the exact match of SQuAD; None: there is none."""
    return unified(metrics).get("exact")


def numbers(document: Value) -> dict[str, float]:
    """Return the members of an object that are numbers."""
    found: dict[str, float] = {}
    for name, value in document.members().items():
        with suppress(ReadError):
            found[name] = value.number()
    return found
