"""Decide where a run starts: at its own newest checkpoint, else at init_checkpoint, else at new weights."""

from __future__ import annotations

import dataclasses
import hashlib
import os
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, Iterator, Mapping, Sequence

from bert.backend.base import Backend
from bert.checkpoints import index, store
from bert.checkpoints.store import Saved
from bert.config import BertConfig
from bert.errors import CheckpointError
from bert.evaluation import Standing
from bert.train_config import TrainConfig

_OTHER_RUN = (  # in a checkpoint's "data": what makes its weights and its steps those of another run
    "train_file", "vocabulary", "do_lower_case", "strip_accents", "tokenize_chinese_chars", "eval_share",
)  # fmt: skip
_READ: Mapping[str, Any] = MappingProxyType({  # of a checkpoint's JSON, with its type
    "model": dict, "config.rows_per_step": int, "config.steps_per_epoch": int, "init_checkpoint.path": str,
    "init_checkpoint.fingerprint": str, "scalars": dict, "loss": (int, float), "ranks": int,
})  # fmt: skip
_NOT_NUMERICS = ("save_checkpoints_steps", "keep_checkpoints", "display_loss_steps")


@dataclass(frozen=True)
class Origin:
    """What a training is made of beside weights and settings."""

    # What its rows were made from, by name; a file is {"name": ..., "sha256": ...}. Compared on resume.
    data: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    # Texts by file name that the output folder needs to predict with: configuration, vocabulary.
    files: Mapping[str, str] = dataclasses.field(default_factory=dict)
    # What else a checkpoint's JSON says, by name: how the model is asked, the preset. Not compared.
    about: Mapping[str, Any] = dataclasses.field(default_factory=dict)


@dataclass(frozen=True)
class Start:
    """Where a run starts; equal on all ranks."""

    step: int = 0
    prefix: str = ""  # of the run's own checkpoint; "": a new run
    scalars: dict[str, float] = dataclasses.field(default_factory=dict)
    loss: float = 0.0
    evaluation: dict[str, Any] = dataclasses.field(default_factory=dict)  # the fields of a Standing
    began: dict[str, str] = dataclasses.field(default_factory=dict)  # init_checkpoint: path and fingerprint
    notes: tuple[str, ...] = ()

    @property
    def standing(self) -> Standing:
        """What the evaluations up to here have shown."""
        return Standing(**self.evaluation)


NO_ORIGIN = Origin()


def decide(
    folder: str,
    model: BertConfig,
    config: TrainConfig,
    backend: Backend,
    init_checkpoint: str = "",
    origin: Origin = NO_ORIGIN,
) -> Start:
    """Let rank 0 examine the output folder, and share the result with all ranks.

    Raises:
        CheckpointError: the folder contains a run of another model, init_checkpoint or data; only another
            host than rank 0's has the run's checkpoint.
    """
    answer: dict[str, Any] = {}
    if backend.several_hosts:  # each may have a folder of its own
        answer["newest"] = store.newest_step(folder)
    if backend.rank == 0:
        try:
            answer["start"] = dataclasses.asdict(
                _look(folder, model, config, backend.size, init_checkpoint, origin)
            )
        except (CheckpointError, OSError) as error:
            answer["error"] = str(error)
    answers = backend.all_gather(answer)
    if "error" in answers[0]:
        raise CheckpointError(answers[0]["error"])
    start = Start(**dict(answers[0]["start"], notes=tuple(answers[0]["start"]["notes"])))
    if not backend.several_hosts:
        return start
    elsewhere = _elsewhere(folder, start, [one["newest"] for one in answers], backend.servers)
    return dataclasses.replace(start, notes=(*start.notes, *elsewhere))


def _elsewhere(folder: str, start: Start, newest: Sequence[int], servers: Sequence[str]) -> Iterator[str]:
    """Compare with what the other hosts have in their folders: only rank 0's host says where a run starts.

    newest: the newest checkpoint's step that each rank sees. One that rank 0 sees too, and has not taken, is
    damaged.

    Raises:
        CheckpointError: rank 0's host has no checkpoint, another host has one.
    """
    step = max(newest)
    if step <= newest[0]:
        return
    mine, other = servers[0], servers[newest.index(step)]
    if not start.prefix:
        raise CheckpointError(
            f"{folder}: no checkpoint on {mine}, the host of rank 0, but one of step {step} on {other};"
            f" copy it to {mine}, or put output_dir on a shared disk, or empty it on {other} for a new run"
        )
    yield f"{other} has a checkpoint of step {step} in {folder}; not used, as rank 0 is on {mine}"


def _look(
    folder: str, model: BertConfig, config: TrainConfig, ranks: int, init_checkpoint: str, origin: Origin
) -> Start:
    os.makedirs(folder, exist_ok=True)
    store.clean(folder)
    saved, problems = store.newest(folder, _lacks)
    notes = [f"{problem}; using the one before" for problem in problems]
    if saved is None:
        if problems:
            raise CheckpointError(
                f"{problems[0]}; no other checkpoint is left; empty the folder to start a new run"
            )
        others = store.foreign(folder)
        if others:
            notes.append(
                f"{others[-1]}: not written by this program, so not resumed; to start from it, give it as"
                " init_checkpoint"
            )
        began = {"path": init_checkpoint, "fingerprint": fingerprint(init_checkpoint)}
        return Start(began=began, notes=tuple(notes))
    _check(folder, saved, model, config, init_checkpoint)
    _check_data(folder, saved, origin.data)
    step, moved = position(saved, config)
    notes.append(f"resuming {saved.prefix} at step {step} of {config.num_train_steps}{moved}")
    if init_checkpoint and not _is_own(saved, init_checkpoint):
        notes.append(f"init_checkpoint {init_checkpoint}: this run started from it; it is not loaded again")
    notes += [*_changes(saved, config, ranks), *_data_changes(saved, origin.data)]
    held, standing = saved.facts, Standing.read(saved.facts)
    gone = config.keep_best and standing.best
    if gone and not os.path.exists(store.prefix_of(folder, standing.best_step) + ".json"):
        notes.append(f"the best checkpoint, of step {standing.best_step}, is gone; the rest is compared anew")
        standing = dataclasses.replace(standing, best={}, best_step=0)
    return Start(
        step, saved.prefix, held["scalars"], held["loss"], dataclasses.asdict(standing),
        held["init_checkpoint"], tuple(notes),
    )  # fmt: skip


def _lacks(facts: Mapping[str, Any]) -> str:
    """Name what is read of a checkpoint's JSON and is not there, or of another type; "" if all is there."""
    for path, kind in _READ.items():
        value: Any = facts
        for name in path.split("."):
            value = value.get(name) if isinstance(value, dict) else None
        if not isinstance(value, kind):
            return path
    numbers = all(isinstance(value, (int, float)) for value in facts["scalars"].values())
    return "" if numbers and Standing.is_one(facts.get("evaluation")) else "scalars or evaluation"


def _check(folder: str, saved: Saved, model: BertConfig, config: TrainConfig, init_checkpoint: str) -> None:
    """Refuse to resume another run."""
    advice = "give another output_dir, or empty it"
    frozen = saved.facts["config"].get("freeze_embeddings", False)
    if frozen != config.freeze_embeddings:  # it has slots for other variables
        raise CheckpointError(
            f"{folder} contains a run with freeze_embeddings {frozen}; give the same, or another output_dir"
        )
    was, now = saved.facts["model"], dataclasses.asdict(model)
    del now["hidden_act"]  # the form of gelu is compared as a setting: config.gelu
    for name in now:
        if was.get(name, now[name]) != now[name]:
            difference = f"{name} {was[name]}, now {now[name]}"
            raise CheckpointError(f"{folder} contains a run of another model ({difference}); {advice}")
    began = saved.facts["init_checkpoint"]
    if not init_checkpoint or _is_own(saved, init_checkpoint):
        return
    if fingerprint(init_checkpoint) != began["fingerprint"]:
        origin = began["path"] or "new weights"
        raise CheckpointError(
            f"{folder} contains a run at step {saved.step} that started from {origin}, not from"
            f" {init_checkpoint}; {advice}"
        )


def _is_own(saved: Saved, init_checkpoint: str) -> bool:
    """Tell whether the checkpoint given to start from is the one that is resumed."""
    return os.path.realpath(init_checkpoint) == os.path.realpath(saved.prefix)


def _check_data(folder: str, saved: Saved, data: Mapping[str, Any]) -> None:
    """Refuse to resume with other data, whose rows would be read from the middle of an epoch."""
    differences = list(_differences(saved, {name: data[name] for name in _OTHER_RUN if name in data}))
    if differences:
        raise CheckpointError(
            f"{folder} contains a run at step {saved.step} of other data: {'; '.join(differences)}; give"
            f" another output_dir, or empty it; to train its weights on, give {saved.prefix} as"
            " init_checkpoint and another output_dir"
        )


def _data_changes(saved: Saved, data: Mapping[str, Any]) -> list[str]:
    """List what differs in the making of the rows."""
    if data and not saved.facts.get("data"):
        return ["the checkpoint does not say from which data it was trained, so the data is not compared"]
    return list(_differences(saved, {name: data[name] for name in data if name not in _OTHER_RUN}))


def _differences(saved: Saved, data: Mapping[str, Any]) -> Iterator[str]:
    held = saved.facts.get("data")
    was = held if isinstance(held, dict) else {}
    for name, value in data.items():
        if name in was and _identity(was[name]) != _identity(value):
            yield f"{name} is {_shown(value)} now, was {_shown(was[name])}"


def _identity(value: Any) -> Any:
    """Return what makes a value the same: of a file its hash, whatever its name."""
    return value.get("sha256") if isinstance(value, dict) else value


def _shown(value: Any) -> str:
    if isinstance(value, dict):
        return f"{value.get('name')} (sha256 {value.get('sha256', '')!s:.12})"
    return str(value)


def fingerprint(path: str) -> str:
    """Hash the first megabyte of a checkpoint's index or file; a TensorFlow index holds each tensor's CRC."""
    found = index.find(path) or (path if path.endswith(".onnx") and os.path.isfile(path) else "")
    if not found:
        return ""
    with open(found, "rb") as stream:
        return hashlib.sha256(stream.read(1 << 20)).hexdigest()


def position(saved: Saved, config: TrainConfig) -> tuple[int, str]:
    """Find the step at which the data continues: (step, text to show).

    If steps have another size now, because of other ranks or settings, the rows already read decide.
    """
    rows, epoch = saved.facts["config"]["rows_per_step"], saved.facts["config"]["steps_per_epoch"]
    if (rows, epoch) == (config.rows_per_step, config.steps_per_epoch) or not (rows and config.rows_per_step):
        return saved.step, ""
    whole, index = divmod(saved.step, epoch)
    steps, again = divmod(index * rows, config.rows_per_step)
    text = f" (step {saved.step} of {rows} rows; a step has {config.rows_per_step} rows now"
    text += f", so {again} rows are read again)" if again else ")"
    return whole * config.steps_per_epoch + min(steps, config.steps_per_epoch), text


def _changes(saved: Saved, config: TrainConfig, ranks: int) -> list[str]:
    """List the settings that differ from those of the run so far."""
    was, now = saved.facts["config"], dataclasses.asdict(config)
    names = [name for name in now if name not in _NOT_NUMERICS and was.get(name, now[name]) != now[name]]
    lines = [f"{name} is {now[name]} now, was {was[name]}" for name in names]
    if saved.facts["ranks"] != ranks:
        lines.append(f"{ranks} ranks now, were {saved.facts['ranks']}")
    return lines


def facts(
    model: BertConfig,
    config: TrainConfig,
    ranks: int,
    start: Start,
    scalars: dict[str, float],
    loss: float,
    origin: Origin,
) -> dict[str, Any]:
    """Collect what a checkpoint's JSON says about the run."""
    return {
        **origin.about,
        "model": dataclasses.asdict(model),
        "config": dataclasses.asdict(config),
        "data": dict(origin.data),
        "ranks": ranks,
        "init_checkpoint": start.began,
        "scalars": scalars,
        "loss": loss,
    }


def finished(start: Start, config: TrainConfig) -> str | None:
    """Return a message if there is nothing left to train, else None."""
    standing = start.standing
    if start.prefix and standing.over(config):
        why = standing.why_over(config)
        return f"{start.prefix}: the training ended early at step {start.step}, as {why}; nothing to do"
    if start.step < config.num_train_steps or (standing.pending and config.eval_steps):
        return None
    return (
        f"{start.prefix} is already trained to step {start.step} of {config.num_train_steps}; nothing to do"
    )
