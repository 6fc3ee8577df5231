"""One look at a run: what it is, how far each rank is. None stands for what is not known."""

from __future__ import annotations

from dataclasses import asdict, dataclass, fields
from typing import Any, Sequence

SCHEMA = 1  # of the JSON document; fields may be added, none changes its meaning


@dataclass(frozen=True)
class RankView:
    """A rank. Shares are parts of the time that its counters account for, between two looks."""

    rank: int
    host: str | None = None
    device: int | None = None
    state: str = "waiting"  # running, finished, lost, ...: as result.json has it once the run has ended
    phase: str | None = None
    step: int | None = None
    beat_age: float | None = None  # seconds
    examples_per_second: float | None = None
    own: float | None = None
    wait: float | None = None
    input: float | None = None
    save: float | None = None
    loss: float | None = None  # its own share where it tells that, else that of all ranks
    cpu: float | None = None  # per cent of one core, its child processes included
    memory: int | None = None  # bytes resident, likewise
    npu: int | None = None  # per cent
    npu_memory: int | None = None  # MB of HBM in use
    npu_memory_total: int | None = None
    temperature: int | None = None  # degrees C
    power: float | None = None  # W
    line_age: float | None = None  # seconds since it last wrote a line


@dataclass(frozen=True)
class RunView:
    """A run. missing: a sentence for each part that is not there, or not as it should be."""

    run: str
    path: str
    state: str
    over: bool = False  # nothing more is to come
    job: str | None = None  # in a queue
    hosts: tuple[str, ...] = ()
    attempt: int = 1
    elapsed: float | None = None  # seconds
    exit_code: int | None = None
    failure: str | None = None  # which rank failed first, and why
    step: int | None = None  # the least of the ranks'
    total_steps: int | None = None
    steps_per_second: float | None = None
    eta: float | None = None  # seconds
    loss: float | None = None
    losses: tuple[float, ...] = ()  # over the whole run, thinned out
    examples_per_second: float | None = None  # of all ranks
    best_examples_per_second: float | None = None
    straggler: str | None = None  # the last verdict
    alerts: tuple[str, ...] = ()  # the last ones
    ranks: tuple[RankView, ...] = ()
    missing: tuple[str, ...] = ()


def document(views: Sequence[RunView], now: float) -> dict[str, Any]:
    """Return the JSON document of `top --json`."""
    return {"schema": SCHEMA, "time": now, "runs": [asdict(view) for view in views]}


def names(of: type) -> list[str]:
    """List the keys of a part of the document."""
    return [field.name for field in fields(of)]
