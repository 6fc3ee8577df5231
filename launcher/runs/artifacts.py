"""What ranks report in artifacts.jsonl, one JSON object a line:

    {"kind": "checkpoint", "step": N, "prefix": P, "files": [...], "sha256": {file: hex}?}
    {"kind": "predictions", "files": [...]}
    {"kind": "metrics", "values": {name: number}}

A path that is not absolute is one in the folder where the rank was started, or else in the rank's own folder.
A line that is none of these is one problem and costs nothing else.
"""

from __future__ import annotations

import os
import re
from dataclasses import dataclass, field
from typing import Callable, Mapping, Tuple, Union

from launcher import foreign
from launcher.errors import MissingFileError, ReadError
from launcher.run_dir import RunDir
from launcher.typed_json import Value

_MOST_NAMED = 10  # problems of one rank; more are counted
Number = Union[int, float]
Folders = Tuple[str, str]


@dataclass(frozen=True)
class FileSet:
    """Files that a rank reports together: a checkpoint, or predictions (no prefix).

    complete: False where some could not be brought from the rank's host.
    """

    rank: int
    files: tuple[str, ...]
    prefix: str = ""
    step: int = 0
    sha256: Mapping[str, str] = field(default_factory=dict)  # as reported: by path or by name
    complete: bool = True

    def names(self) -> dict[str, str]:
        """Return the name of each file: below its prefix's folder as it is there, else its last part.

        >>> FileSet(0, ("/out/step-5/model.bin",), "/out/step-5").names()
        {'/out/step-5/model.bin': 'step-5/model.bin'}
        """
        base = os.path.dirname(self.prefix)
        names = {path: _below(base, path) or os.path.basename(path) for path in self.files}
        if len(set(names.values())) == len(names):
            return names
        base = os.path.commonpath(self.files)
        return {path: os.path.relpath(path, base) for path in self.files}


def _below(folder: str, path: str) -> str:
    return os.path.relpath(path, folder) if folder and path.startswith(folder.rstrip("/") + "/") else ""


@dataclass
class Artifacts:
    """What the ranks of a run report."""

    checkpoints: list[FileSet] = field(default_factory=list)
    predictions: list[FileSet] = field(default_factory=list)
    metrics: dict[str, Number] = field(default_factory=dict)

    def without(self, unwanted: Callable[[FileSet], bool]) -> Artifacts:
        """Return all but some sets of files."""
        lists = (
            [item for item in items if not unwanted(item)] for items in (self.checkpoints, self.predictions)
        )
        checkpoints, predictions = lists
        return Artifacts(checkpoints, predictions, self.metrics)

    def joined(self, other: Artifacts) -> Artifacts:
        """Return these and others together."""
        checkpoints, predictions = self.checkpoints + other.checkpoints, self.predictions + other.predictions
        return Artifacts(checkpoints, predictions, {**other.metrics, **self.metrics})


def read(run: RunDir, rank: int, cwd: str, found: Artifacts, ended_well: bool) -> list[str]:
    """Add what a rank reported; return the problems. A last line is cut off when the rank is killed.

    cwd: where the rank was started.
    """
    path = run.artifacts(rank)
    try:
        lines = foreign.read_of_rank(path, foreign.DOCUMENT).split(b"\n")
    except MissingFileError:
        return []
    except ReadError as error:
        return [f"rank {rank}: {error}"]
    problems, folders = [], (cwd, str(path.parent))
    for number, line in enumerate(lines, 1):
        cut_off = number == len(lines) and not ended_well
        try:
            if line.strip():
                _add(foreign.parse_json(line, f"artifacts.jsonl line {number}"), rank, folders, found)
        except ReadError as error:
            problems += [] if cut_off else [f"rank {rank}: {error}"]
    if len(problems) > _MOST_NAMED:
        more = f"rank {rank}: artifacts.jsonl: {len(problems) - _MOST_NAMED} more lines like these"
        problems[_MOST_NAMED:] = [more]
    return problems


def _add(record: Value, rank: int, folders: Folders, found: Artifacts) -> None:
    kind = record.get("kind").text()
    if kind == "checkpoint":
        found.checkpoints.append(_checkpoint(record, rank, _base(record, folders)))
    elif kind == "predictions":
        found.predictions.append(FileSet(rank, _files(record, _base(record, folders))))
    elif kind == "metrics":
        members = record.members()
        values = members["values"].members() if "values" in members else members
        found.metrics.update({name: number(value) for name, value in values.items() if name != "kind"})
    else:
        record.get("kind").refuse(f"{kind!r:.60}", "checkpoint, predictions or metrics")


def _checkpoint(record: Value, rank: int, folder: str) -> FileSet:
    prefix, step, files = record.get("prefix"), record.get("step").whole(), _files(record, folder)
    if not files:
        record.get("files").refuse("an empty list", "the files of the checkpoint")
    digests = {}
    for name, value in (record.get("sha256").members() if record.get("sha256").value else {}).items():
        digests[name] = digests[os.path.normpath(os.path.join(folder, name))] = _digest(value)
    return FileSet(rank, files, _path(prefix, folder), step, digests)


def _base(record: Value, folders: Folders) -> str:
    """Return the folder of a record's relative paths: the first that holds one of its files."""
    for folder in folders:
        if any(os.path.lexists(path) for path in _files(record, folder)):
            return folder
    return folders[0]


def _digest(value: Value) -> str:
    text = value.text().lower()
    if not re.fullmatch("[0-9a-f]{64}", text):
        value.refuse("no sha256", "64 hexadecimal digits")
    return text


def _files(record: Value, folder: str) -> tuple[str, ...]:
    return tuple(dict.fromkeys(_path(item, folder) for item in record.get("files").items()))


def _path(value: Value, folder: str) -> str:
    """Return a path that the system takes, absolute and without `..`."""
    text = value.text()
    if not os.path.basename(text.rstrip("/")) or "\0" in text or re.search("[\ud800-\udfff]", text):
        value.refuse("no path", "the path of a file")
    return os.path.normpath(os.path.join(folder, text))


def number(value: Value) -> Number:
    """Return a number as it is written. ReadError: it is none, or out of a float's range."""
    found = value.number()
    return value.whole() if type(value.value) is int else found
