"""How a model is asked: the settings that have to be those of its training. Stdlib only.

A training writes them beside its checkpoints and into each PREFIX.json, an export into its config.json, there
under transformers' own key: `task_specific_params: {"squad": {...}}`.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Mapping

from bert.model_files import recorded_task

if TYPE_CHECKING:
    from squad.flags import SquadFlags

_CHOICES = {"word_split": ("google", "cjk", "auto"), "evaluation": ("squad", "cmrc")}


@dataclass(frozen=True)
class Task:
    """Lengths are in tokens; names and defaults are those of the flags."""

    max_seq_length: int = 384
    doc_stride: int = 128
    max_query_length: int = 64
    max_answer_length: int = 30
    n_best_size: int = 20
    version_2_with_negative: bool = False
    word_split: str = "auto"
    evaluation: str = "squad"  # whose rules score its answers
    threshold: float | None = None  # best null threshold of an evaluation; None: none was searched


NAMES = tuple(field.name for field in dataclasses.fields(Task))


def of_flags(flags: SquadFlags) -> Task:
    """Collect what the flags say; the threshold is found by an evaluation, later."""
    return Task(**{name: getattr(flags, name) for name in NAMES if name != "threshold"})


def to_json(task: Task) -> dict[str, Any]:
    """Return what is written: every setting that is known, by name."""
    return {name: value for name, value in dataclasses.asdict(task).items() if value is not None}


def read(checkpoint: str) -> Task:
    """Read how a checkpoint or export is asked; defaults where its files do not say.

    Raises:
        ValueError: a setting is damaged; the message names it.
    """
    return Task(**recorded(checkpoint))


def recorded(checkpoint: str) -> dict[str, Any]:
    """Return the settings that the files of a checkpoint or export say, by name. ValueError: as `read`."""
    said = recorded_task(checkpoint)
    return {name: _checked(name, said) for name in NAMES if said.get(name) is not None}


def _checked(name: str, said: Mapping[str, Any]) -> Any:
    value = said[name]
    if name == "version_2_with_negative":
        good = isinstance(value, bool)
    elif name in _CHOICES:
        good = value in _CHOICES[name]
    elif name == "threshold":
        good = type(value) in (int, float) and value == value
    else:
        good = type(value) is int and 1 <= value <= 1 << 20
    if not good:
        raise ValueError(f"task_specific_params.squad.{name} is {value!r:.40}, which is no such setting")
    return value
