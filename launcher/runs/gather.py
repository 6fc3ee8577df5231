"""Collect what the ranks made: checkpoints, predictions, and files by pattern.

launcher/runs/artifacts.py reads what the ranks report, launcher/runs/shelf.py places the files; the originals
stay. `manifest.json` beside the checkpoints holds sha256, size, rank and step of each file, `latest` the
newest prefix. Files of equal name and contents are one; those of another rank or folder whose name is taken
go into a folder `rank_N` beside it. What ranks of other hosts made is gathered there first, and here again.
"""

from __future__ import annotations

import os
import re
import shutil
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Iterator, Mapping, Sequence

from launcher.errors import LauncherError, ReadError
from launcher.run_dir import RunDir, write_atomic
from launcher.runs import artifacts, patterns
from launcher.runs.artifacts import FileSet
from launcher.runs.shelf import Item, Shelf

_RANK = re.compile(r"rank (\d+): ")
_MOST_NAMED = 10  # more of one kind and rank are counted


@dataclass(frozen=True)
class Gathered:
    """What was gathered.

    problems: what was reported or asked for and could not be had. notes: what `*` and `**` passed over.
    placed: the sets of files as they are placed.
    """

    checkpoint: str = ""  # path of the newest prefix
    predictions: tuple[str, ...] = ()
    files: tuple[str, ...] = ()  # by pattern
    metrics: Mapping[str, Any] | None = None
    problems: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()
    placed: artifacts.Artifacts = field(default_factory=artifacts.Artifacts)


@dataclass(frozen=True)
class Arrived:
    """What has come from hosts that share no disk with this one (launcher/hosts/files.py).

    staged: the folder of each host with the files of `reported`; they leave it for their place. files: those
    found by pattern, which are in place. hosts: the name of each rank's host, for the problems of any rank.
    elsewhere: files of ranks whose folders are here, on disks of their hosts; `reported` has them.
    """

    ranks: frozenset[int] = frozenset()
    reported: artifacts.Artifacts = field(default_factory=artifacts.Artifacts)
    files: tuple[str, ...] = ()
    problems: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()
    staged: tuple[Path, ...] = ()
    hosts: Mapping[int, str] = field(default_factory=dict)
    elsewhere: frozenset[tuple[int, str]] = frozenset()

    def brought(self, item: FileSet) -> bool:
        """Tell whether a rank's set of files is in `reported` already."""
        return any((item.rank, path) in self.elsewhere for path in item.files)

    def named(self, problem: str) -> str:
        """Let a problem say on which host its rank was."""
        found = _RANK.match(problem)
        host = self.hosts.get(int(found.group(1)), "") if found else ""
        return f"host {host}: {problem}" if host else problem


def gather(
    run: RunDir,
    ranks: Sequence[int],
    wanted: Sequence[str] = (),
    *,
    ended_well: bool = True,
    cwds: Mapping[int, str] | None = None,
    arrived: Arrived | None = None,
) -> Gathered:
    """Collect everything of a run; what cannot be collected becomes a problem, never an exception.

    wanted: patterns of files in the ranks' folders. ended_well: no rank was killed, perhaps within a line.
    cwds: where each rank was started (default: in its own folder). arrived: what other ranks made.
    """
    arrived = arrived or Arrived()
    problems, notes = list(arrived.problems), list(arrived.notes)
    reported = read_reports(run, ranks, cwds or {}, problems, ended_well).without(arrived.brought)
    reported = reported.joined(arrived.reported)
    checkpoints, latest = _checkpoints(run, reported.checkpoints, problems)
    predictions = _predictions(run, reported.predictions, problems)
    _remove(arrived.staged, problems)
    files = [path for rank in ranks for path in _by_patterns(run, rank, wanted, problems, notes)]
    return Gathered(
        latest,
        tuple(dict.fromkeys(path for item in predictions for path in item.files)),
        (*arrived.files, *files),
        reported.metrics or None,
        tuple(map(arrived.named, problems)),
        tuple(map(arrived.named, notes)),
        artifacts.Artifacts(checkpoints, predictions),
    )


def read_reports(
    run: RunDir, ranks: Sequence[int], cwds: Mapping[int, str], problems: list[str], ended_well: bool
) -> artifacts.Artifacts:
    """Read what ranks reported."""
    reported = artifacts.Artifacts()
    for rank in ranks:
        cwd = cwds.get(rank, str(run.rank_dir(rank)))
        problems += artifacts.read(run, rank, cwd, reported, ended_well)
    return reported


def _remove(staged: Sequence[Path], problems: Sequence[str]) -> None:
    """Remove the second names of files that are in their place; where some are not, all stay."""
    told = "\n".join(problems)
    for folder in staged:
        if str(folder) in told:
            continue
        shutil.rmtree(str(folder), ignore_errors=True)
        with suppress(OSError):  # an agent's own files are there on a shared disk
            folder.parent.rmdir()
            folder.parent.parent.rmdir()


def _checkpoints(run: RunDir, sets: Sequence[FileSet], problems: list[str]) -> tuple[list[FileSet], str]:
    """Place the checkpoints that still exist, as keep_checkpoints has removed older ones; find the newest."""
    last = {(item.rank, item.prefix): item for item in sets}  # a prefix may be reported again
    found = sorted(last.values(), key=lambda item: (item.step, item.rank))
    shelf = Shelf(run.path, run.checkpoints, reserved=("manifest.json", "latest"))
    manifest: list[dict[str, Any]] = []
    placed: list[FileSet] = []
    for item in found:
        if item.step < found[-1].step and not all(map(os.path.lexists, item.files)):
            continue
        entries, base = _place(run, shelf, item, problems)
        manifest += entries
        placed.append(_as_placed(run.checkpoints, item, entries, base))
    latest: dict[int, str] = {}  # by step; the first rank's
    for item in placed:
        if item.complete:
            latest.setdefault(item.step, item.prefix)
    newest = latest[max(latest)] if latest else ""
    _describe(run, manifest, os.path.relpath(newest, str(run.checkpoints)) if newest else "", problems)
    return placed, newest


def _as_placed(folder: Path, item: FileSet, entries: Sequence[Mapping[str, Any]], base: str) -> FileSet:
    digests = {str(folder / entry["name"]): entry["sha256"] for entry in entries}
    prefix = str(folder / base / os.path.basename(item.prefix)) if item.prefix else ""
    whole = item.complete and len(entries) == len(item.files)
    return FileSet(item.rank, tuple(digests), prefix, item.step, digests, whole)


def _describe(run: RunDir, manifest: list[dict[str, Any]], latest: str, problems: list[str]) -> None:
    """Write manifest.json and latest."""
    try:
        if manifest:
            run.write_json(run.checkpoints / "manifest.json", {"files": manifest, "latest": latest})
        if latest:
            write_atomic(run.checkpoints / "latest", (latest + "\n").encode())
    except OSError as error:
        problems.append(f"{run.checkpoints}: {error.strerror}")


def _place(
    run: RunDir, shelf: Shelf, reported: FileSet, problems: list[str]
) -> tuple[list[dict[str, Any]], str]:
    """Place files that were reported together in one folder of a shelf; describe those that are there."""
    rank = reported.rank
    items: list[Item] = []
    for path, name in reported.names().items():
        with _named(problems, rank, path):
            items.append(_checked(shelf, reported, path, name))
    base = None
    with _named(problems, rank, str(run.path)):
        base = shelf.choose(items, f"rank_{rank}")
    entries = []
    for item in items if base is not None else ():
        with _named(problems, rank, item.path):
            described = {"name": shelf.put(item, base or ""), "sha256": shelf.digest(item), "size": item.size}
            entries.append({**described, "rank": rank, "step": reported.step})
    return entries, base or ""


def _checked(shelf: Shelf, reported: FileSet, path: str, name: str) -> Item:
    """Look at a reported file. ReadError: it is not what its rank wrote."""
    item = shelf.examine(path, name)
    expected = next((reported.sha256[key] for key in (path, name) if key in reported.sha256), "")
    if expected and shelf.digest(item) != expected:
        raise ReadError(f"{path}: sha256 differs from the one that the rank reported")
    return item


@contextmanager
def _named(problems: list[str], rank: int, path: str) -> Iterator[None]:
    """Let an error of a file be a problem of its rank."""
    try:
        yield
    except LauncherError as error:
        problems.append(f"rank {rank}: {error}")
    except OSError as error:
        problems.append(f"rank {rank}: {path}: {error.strerror or error}")


def _predictions(run: RunDir, sets: Sequence[FileSet], problems: list[str]) -> list[FileSet]:
    shelf = Shelf(run.path, run.predictions)
    placed: list[FileSet] = []
    for item in {(item.rank, item.files): item for item in sets}.values():  # each evaluation reports them
        entries, base = _place(run, shelf, item, problems)
        placed.append(_as_placed(run.predictions, item, entries, base))
    return placed


def _by_patterns(
    run: RunDir, rank: int, wanted: Sequence[str], problems: list[str], notes: list[str]
) -> Iterator[str]:
    """Place a rank's files in gathered/rank_N, below the path that they have in the rank's folder."""
    folder = run.rank_dir(rank)
    if wanted and os.path.realpath(str(folder)) != os.path.join(
        os.path.realpath(str(run.path)), "ranks", str(rank)
    ):
        problems.append(f"rank {rank}: {folder}: a link (expected a folder); nothing of it is gathered")
        return
    found = sorted({match for pattern in wanted for match in patterns.find(str(folder), pattern)})
    shelf = Shelf(run.path, run.gathered / f"rank_{rank}")
    refused: list[str] = []
    for match in found:
        if match.problem:
            refused.append(f"rank {rank}: {match.path}: {match.problem}")
        if match.problem or match.note:
            continue
        with _named(refused, rank, match.path):
            item = shelf.examine(str(folder / match.path), match.path)
            shelf.choose([item], spare="")
            yield str(run.gathered / f"rank_{rank}" / shelf.put(item, ""))
    problems += _shortened(refused, f"rank {rank}: ")
    for note in sorted({match.note for match in found} - {""}):
        paths = [match.path for match in found if match.note == note]
        notes.append(f"rank {rank}: {note}: {', '.join(_shortened(paths, ''))}")


def _shortened(texts: Sequence[str], start: str) -> list[str]:
    more = [f"{start}{len(texts) - _MOST_NAMED} more"] if len(texts) > _MOST_NAMED else []
    return [*texts[:_MOST_NAMED], *more]
