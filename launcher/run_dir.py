"""The paths of a run folder, and the atomic writing of its files."""

from __future__ import annotations

import json
import os
import tempfile
from pathlib import Path
from typing import Any, Iterable


def write_atomic(path: Path, data: bytes) -> None:
    """Write a file so that a reader sees all of the old bytes or all of the new ones."""
    handle, name = tempfile.mkstemp(dir=str(path.parent), prefix=f".{path.name}.")
    try:
        with os.fdopen(handle, "wb") as stream:
            stream.write(data)
            stream.flush()
            os.fsync(stream.fileno())
        os.replace(name, str(path))
    except BaseException:
        os.unlink(name)
        raise


class RunDir:
    """The paths in one run folder (layout: docs/reference.md, "The run folder")."""

    def __init__(self, path: Path) -> None:
        self.path = path

    @classmethod
    def create(cls, path: Path, ranks: Iterable[int]) -> RunDir:
        """Make the folder tree of this host's ranks with mode 0700. FileExistsError: it exists already."""
        path.parent.mkdir(parents=True, exist_ok=True)
        path.mkdir(mode=0o700)
        run = cls(path)
        for folder in (run.logs, run.checkpoints, *map(run.rank_dir, ranks)):
            folder.mkdir(mode=0o700, parents=True)
        return run

    @property
    def plan(self) -> Path:
        return self.path / "plan.json"

    @property
    def rank_table(self) -> Path:
        return self.path / "rank_table.json"

    @property
    def job_yaml(self) -> Path:
        return self.path / "train.yaml"

    @property
    def events(self) -> Path:
        return self.path / "events.jsonl"

    @property
    def result(self) -> Path:
        return self.path / "result.json"

    @property
    def report(self) -> Path:
        return self.path / "report.txt"

    @property
    def logs(self) -> Path:
        return self.path / "logs"

    @property
    def launcher_log(self) -> Path:
        return self.logs / "launcher.log"

    @property
    def checkpoints(self) -> Path:
        return self.path / "checkpoints"

    @property
    def predictions(self) -> Path:
        return self.path / "predictions"

    @property
    def gathered(self) -> Path:
        return self.path / "gathered"

    def log(self, rank: int) -> Path:
        return self.logs / f"rank_{rank}.log"

    def index(self, rank: int) -> Path:
        return self.logs / f"rank_{rank}.index"

    def rank_dir(self, rank: int) -> Path:
        return self.path / "ranks" / str(rank)

    def error(self, rank: int) -> Path:
        return self.rank_dir(rank) / "error.json"

    def thread_error(self, rank: int) -> Path:
        return self.rank_dir(rank) / "thread_error.json"

    def heartbeat(self, rank: int) -> Path:
        return self.rank_dir(rank) / "heartbeat.json"

    def artifacts(self, rank: int) -> Path:
        return self.rank_dir(rank) / "artifacts.jsonl"

    def write_json(self, path: Path, value: Any) -> None:
        """Write one JSON document atomically."""
        write_atomic(path, (json.dumps(value, indent=2) + "\n").encode())
