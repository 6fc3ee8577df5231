"""Keep a run's checkpoints in its output folder: written completely or not at all, verified before use.

A checkpoint is PREFIX.data-*, PREFIX.index and PREFIX.json, PREFIX = FOLDER/model.ckpt-STEP. The JSON is
written last and contains the sha256 of the others, so what a killed process leaves behind never counts as a
checkpoint.
"""

from __future__ import annotations

import glob
import hashlib
import json
import os
import re
import shutil
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, Callable, Iterator, Mapping

from bert.checkpoints import index
from bert.errors import CheckpointError
from bert.files import read_object

FORMAT = 1
_NAME = "model.ckpt-%d"
_DRAFT = ".saving-"  # + step: a folder of files that are being written, or moved to their places


@dataclass(frozen=True)
class Saved:
    """A checkpoint: its prefix and what its JSON says."""

    prefix: str
    facts: dict[str, Any]
    beside: tuple[str, ...] = ()  # paths of the files that the folder needs to predict with

    @property
    def step(self) -> int:
        """The steps that led to it."""
        return int(self.facts["step"])

    def artifact(self) -> dict[str, Any]:
        """Build the record that reports it to the launcher."""
        digests = {name: entry["sha256"] for name, entry in self.facts["files"].items()}
        folder = os.path.dirname(self.prefix)
        files = [*(os.path.join(folder, name) for name in digests), self.prefix + ".json", *self.beside]
        record = {"kind": "checkpoint", "step": self.step, "prefix": self.prefix}
        return dict(record, files=files, sha256=digests)


def newest(
    folder: str, lacks: Callable[[Mapping[str, Any]], str] | None = None
) -> tuple[Saved | None, list[str]]:
    """Find the newest undamaged checkpoint, and describe what is wrong with each newer one.

    lacks: names what the caller needs of a checkpoint's JSON and does not find; "" if all is there.
    """
    problems: list[str] = []
    for step in sorted(_steps(folder), reverse=True):
        prefix = prefix_of(folder, step)
        problem, facts = verify(prefix)
        lacking = lacks(facts) if lacks and not problem else ""
        if not (problem or lacking):
            return Saved(prefix, facts), problems
        problems.append(problem or f"{prefix}.json: damaged, {lacking} is not as it was written")
    return None, problems


def _steps(folder: str) -> Iterator[int]:
    for path in glob.glob(os.path.join(glob.escape(folder), "model.ckpt-*.json")):
        match = re.search(r"model\.ckpt-(\d+)\.json$", path)
        if match:
            yield int(match.group(1))


def newest_step(folder: str) -> int:
    """Return the step of the newest checkpoint in a folder, which may be damaged; 0: there is none."""
    return max(_steps(folder), default=0)


def foreign(folder: str) -> list[str]:
    """List the prefixes of TensorFlow checkpoints in the folder that this module did not write."""
    return [prefix for prefix in index.prefixes_in(folder) if not os.path.exists(prefix + ".json")]


def verify(prefix: str) -> tuple[str, dict[str, Any]]:
    """Compare a checkpoint's files with its JSON: ("" or the problem, the content of the JSON)."""
    try:
        facts = read_object(prefix + ".json")
        files = {str(name): str(entry["sha256"]) for name, entry in facts["files"].items()}
        int(facts["step"])
    except (ArithmeticError, AttributeError, LookupError, TypeError, ValueError):
        return f"{prefix}.json: damaged", {}
    for name, digest in files.items():
        path = os.path.join(os.path.dirname(prefix), name)
        try:
            if sha256(path) != digest:
                return f"{path}: damaged, its sha256 is not the one in {prefix}.json", {}
        except OSError as error:
            return f"{path}: {error.strerror}", {}
    return "", facts


def sha256(path: str) -> str:
    """Hash a file."""
    digest = hashlib.sha256()
    with open(path, "rb") as stream:
        for block in iter(lambda: stream.read(1 << 20), b""):
            digest.update(block)
    return digest.hexdigest()


def save(
    folder: str,
    step: int,
    write: Callable[[str], object],
    facts: dict[str, Any],
    keep: int,
    beside: tuple[str, ...] = (),
    best: int = 0,
) -> Saved:
    """Write a checkpoint, whose files `write(prefix)` makes; remove all but the `keep` newest and `best`."""
    draft = os.path.join(folder, f"{_DRAFT}{step}")
    shutil.rmtree(draft, ignore_errors=True)
    os.makedirs(draft)
    write(os.path.join(draft, _NAME % step))
    files = {
        name: {"sha256": sha256(os.path.join(draft, name)), "bytes": _flushed(os.path.join(draft, name))}
        for name in sorted(os.listdir(draft))
    }
    facts = dict(facts, format=FORMAT, step=step, files=files)
    prefix = prefix_of(folder, step)
    with suppress(FileNotFoundError):  # left by a damaged checkpoint of this step
        os.unlink(prefix + ".json")
    for name in files:
        os.replace(os.path.join(draft, name), os.path.join(folder, name))
    write_atomic(prefix + ".json", json.dumps(facts, indent=1))
    # The file in which tf.train.latest_checkpoint, and so google-research/bert, looks.
    write_atomic(os.path.join(folder, "checkpoint"), f'model_checkpoint_path: "{_NAME % step}"\n')
    os.rmdir(draft)
    prune(folder, keep, best)
    return Saved(prefix, facts, beside)


def amend(prefix: str, values: Mapping[str, Any]) -> None:
    """Add values to a checkpoint's JSON, or replace those of the same name, atomically.

    Raises:
        CheckpointError: the checkpoint has no JSON that can be read and written.
    """
    path = prefix + ".json"
    try:
        write_atomic(path, json.dumps(dict(read_object(path), **values), indent=1))
    except OSError as error:
        raise CheckpointError(f"{path}: {error.strerror}") from None
    except ValueError as error:
        raise CheckpointError(f"{path}: {error}") from None


def write_beside(folder: str, files: Mapping[str, str]) -> tuple[str, ...]:
    """Write the files that predicting from the folder needs; return their paths.

    Raises:
        CheckpointError: the folder cannot be written.
    """
    paths = {name: os.path.join(folder, name) for name in files}
    try:
        for name, path in paths.items():
            if not _holds(path, files[name]):
                write_atomic(path, files[name])
    except OSError as error:
        raise CheckpointError(f"{error.filename or folder}: {error.strerror}") from None
    return tuple(paths.values())


def _holds(path: str, text: str) -> bool:
    with suppress(OSError, ValueError):
        if os.path.isfile(path):
            with open(path, encoding="utf-8") as stream:
                return stream.read(len(text) + 1) == text
    return False


def _flushed(path: str) -> int:
    """Flush a file to the disk; return its size."""
    with open(path, "rb") as stream:
        os.fsync(stream.fileno())
        return os.fstat(stream.fileno()).st_size


def write_atomic(path: str, text: str) -> None:
    """Replace a file atomically."""
    with open(path + ".tmp", "w", encoding="utf-8") as stream:
        stream.write(text)
        stream.flush()
        os.fsync(stream.fileno())
    os.replace(path + ".tmp", path)


def prune(folder: str, keep: int, best: int = 0) -> None:
    """Remove all checkpoints but the `keep` newest and that of the step `best`."""
    for step in sorted(_steps(folder))[: -max(keep, 1)]:
        if step != best:
            _remove(prefix_of(folder, step))


def prefix_of(folder: str, step: int) -> str:
    """Name the checkpoint of a step."""
    return os.path.join(folder, _NAME % step)


def kept(folder: str) -> list[str]:
    """List the checkpoints in a folder, which may be damaged: their prefixes, the newest last."""
    return [prefix_of(folder, step) for step in sorted(_steps(folder))]


def clean(folder: str) -> None:
    """Remove what a process that was killed while saving has left behind."""
    for draft in glob.glob(os.path.join(glob.escape(folder), _DRAFT + "*")):
        prefix = prefix_of(folder, int(draft.rpartition("-")[2]))
        if not os.path.exists(prefix + ".json"):
            _remove(prefix)
        shutil.rmtree(draft, ignore_errors=True)


def _remove(prefix: str) -> None:
    """Remove a checkpoint, its JSON first: without it the rest does not count as a checkpoint."""
    for path in [prefix + ".json", *sorted(glob.glob(glob.escape(prefix) + ".*"))]:
        with suppress(FileNotFoundError):
            os.unlink(path)
