"""Collect what the ranks made: checkpoints, predictions, and files by pattern.

A rank reports what it made in artifacts.jsonl, one JSON object a line:

    {"kind": "checkpoint", "step": N, "prefix": P, "files": [...], "sha256": {file: hex}?}
    {"kind": "predictions", "files": [...]}
    {"kind": "metrics", "values": {name: number}}

Files are linked where the file system allows it and copied where not; the originals stay. `manifest.json`
beside the checkpoints holds sha256, size, rank and step of each file, `latest` the newest prefix.
"""

from __future__ import annotations

import glob
import hashlib
import json
import os
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Dict, Iterable, Iterator, Mapping, Sequence

from launcher.run_dir import RunDir, write_atomic

Record = Dict[str, Any]


@dataclass(frozen=True)
class Gathered:
    """What was gathered; `problems` names files that a rank reported and that are missing or damaged."""

    checkpoint: str = ""  # path of the newest prefix
    predictions: tuple[str, ...] = ()
    files: tuple[str, ...] = ()  # by pattern
    metrics: Mapping[str, Any] | None = None
    problems: tuple[str, ...] = ()


def gather(run: RunDir, ranks: Sequence[int], patterns: Sequence[str] = ()) -> Gathered:
    """Collect everything of a run; a file that cannot be collected becomes a problem, never an exception."""
    problems: list[str] = []
    records = [(rank, record) for rank in ranks for record in _records(run, rank, problems)]
    checkpoint = _checkpoints(run, records, problems)
    predictions = _predictions(run, records, problems)
    files = [path for rank in ranks for path in _by_pattern(run, rank, patterns, problems)]
    metrics: dict[str, Any] = {}
    for _, record in records:
        if record["kind"] == "metrics":
            metrics.update(record.get("values") or {k: v for k, v in record.items() if k != "kind"})
    return Gathered(checkpoint, tuple(predictions), tuple(files), metrics or None, tuple(problems))


def _records(run: RunDir, rank: int, problems: list[str]) -> Iterator[Record]:
    """Read what a rank reported; a line that was cut off when it died is skipped."""
    try:
        lines = run.artifacts(rank).read_bytes().splitlines()
    except FileNotFoundError:
        return
    except OSError as error:
        problems.append(f"rank {rank}: {run.artifacts(rank)}: {error.strerror}")
        return
    for line in lines:
        try:
            record = json.loads(line.decode())
        except ValueError:
            continue
        if isinstance(record, dict) and isinstance(record.get("kind"), str):
            yield record


def _checkpoints(run: RunDir, records: Iterable[tuple[int, Record]], problems: list[str]) -> str:
    """Link the files of the checkpoints that still exist; keep_checkpoints has removed older ones."""
    newest = {str(r["prefix"]): (rank, r) for rank, r in records if r["kind"] == "checkpoint"}
    found = sorted(newest.values(), key=lambda item: int(item[1]["step"]))
    manifest: list[Record] = []
    latest = ""
    for number, (rank, record) in enumerate(found):
        files = [str(path) for path in record["files"]]
        if number < len(found) - 1 and not all(map(os.path.exists, files)):
            continue
        entries = [_take(path, run.checkpoints, rank, record, problems) for path in files]
        manifest.extend(entry for entry in entries if entry)
        if all(entries):
            latest = os.path.basename(str(record["prefix"]))
    if manifest:
        run.write_json(run.checkpoints / "manifest.json", {"files": manifest, "latest": latest})
    if latest:
        write_atomic(run.checkpoints / "latest", (latest + "\n").encode())
    return str(run.checkpoints / latest) if latest else ""


def _take(
    path: str, folder: Path, rank: int, record: Mapping[str, Any], problems: list[str]
) -> Record | None:
    """Link a file into a folder and describe it; None if it is missing or not what its rank wrote."""
    target = folder / os.path.basename(path)
    reported = (record.get("sha256") or {}).get(os.path.basename(path))
    try:
        digest = _sha256(path)
        if reported and digest != reported:
            problems.append(f"rank {rank}: {path}: sha256 differs from the one that the rank reported")
            return None
        _link(path, target)
        size = target.stat().st_size
    except OSError as error:
        problems.append(f"rank {rank}: {path}: {error.strerror}")
        return None
    return {"name": target.name, "sha256": digest, "size": size, "rank": rank, "step": record.get("step")}


def _sha256(path: str) -> str:
    digest = hashlib.sha256()
    with open(path, "rb") as stream:
        for block in iter(lambda: stream.read(1 << 20), b""):
            digest.update(block)
    return digest.hexdigest()


def _link(path: str, target: Path) -> None:
    """Make `target` a second name of the file, or a copy on another file system, atomically."""
    if target.exists() and os.path.samefile(path, str(target)):
        return
    fresh = target.with_name(f".{target.name}.new")
    fresh.parent.mkdir(parents=True, exist_ok=True)
    if fresh.exists():
        fresh.unlink()
    try:
        os.link(path, str(fresh))
    except OSError:
        shutil.copyfile(path, str(fresh))
    os.replace(str(fresh), str(target))


def _predictions(run: RunDir, records: Iterable[tuple[int, Record]], problems: list[str]) -> list[str]:
    taken = []
    for rank, record in records:
        for path in record.get("files", ()) if record["kind"] == "predictions" else ():
            if _take(str(path), run.predictions, rank, record, problems):
                taken.append(str(run.predictions / os.path.basename(str(path))))
    return taken


def _by_pattern(run: RunDir, rank: int, patterns: Sequence[str], problems: list[str]) -> Iterator[str]:
    """Link a rank's files into gathered/rank_N, below the path that they have in the rank's folder."""
    folder = run.rank_dir(rank)
    for pattern in patterns:
        for path in sorted(glob.glob(os.path.join(glob.escape(str(folder)), pattern), recursive=True)):
            relative = os.path.relpath(path, str(folder))
            if not os.path.isfile(path) or relative.startswith(os.pardir):
                continue
            target = run.gathered / (f"rank_{rank}") / relative
            try:
                _link(path, target)
            except OSError as error:
                problems.append(f"rank {rank}: {path}: {error.strerror}")
                continue
            yield str(target)
