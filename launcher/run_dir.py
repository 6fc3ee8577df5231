"""The paths of a run folder, and the atomic writing of its files."""

from __future__ import annotations

import json
import os
import re
import shutil
import tempfile
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, Iterable, Iterator

from launcher.text import SCHEDULER

TORCH_ERROR = "torchelastic_error.json"  # what torch's @record writes, in the rank's folder


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
        with suppress(OSError):  # its folder may be gone
            os.unlink(name)
        raise


def write_output(path: Path, data: bytes) -> None:
    """Write to a place that a user has named; a link, device or FIFO is written to, and not replaced."""
    if path.is_symlink() or (path.exists() and not path.is_file()):
        path.write_bytes(data)
    else:
        write_atomic(path, data)


@contextmanager
def remove_on_error(path: Path) -> Iterator[None]:
    """Leave nothing half made: remove a file or folder when what follows fails."""
    try:
        yield
    except GeneratorExit:  # ExitStack.pop_all() has let it go: all went well
        raise
    except BaseException:
        shutil.rmtree(str(path), ignore_errors=True)
        with suppress(OSError):
            path.unlink()
        raise


def is_at(descriptor: int, path: str) -> bool:
    """Tell whether an open file is the one under a name."""
    with suppress(OSError):
        return os.path.samestat(os.fstat(descriptor), os.stat(path))
    return False


class AppendedFile:
    """A file to which lines are appended; an error costs lines, and `last_error` names it."""

    def __init__(self, path: Path) -> None:
        self._path, self._descriptor, self._torn = path, -1, False
        self.last_error = ""
        flags = os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK
        try:
            self._descriptor = os.open(str(path), flags, 0o600)
        except OSError as error:
            self.last_error = f"{path}: {error.strerror}"

    def append(self, text: str) -> None:
        """Append whole lines; after one that was cut off they begin on a new line."""
        if self._descriptor < 0:
            return
        data = (b"\n" if self._torn else b"") + text.encode("utf-8", "backslashreplace")
        try:
            self._torn = os.write(self._descriptor, data) < len(data)
        except OSError as error:
            self.last_error = f"{self._path}: {error.strerror}"

    def in_place(self) -> bool:
        """Tell whether the file that is written is the one under its name: nobody has removed or moved it."""
        return self._descriptor < 0 or is_at(self._descriptor, str(self._path))

    def close(self) -> None:
        """Close the file."""
        if self._descriptor >= 0:
            with suppress(OSError):
                os.close(self._descriptor)
        self._descriptor = -1


class RunDir:
    """The paths in one run folder (layout: docs/reference.md, "The run folder")."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.earlier = 0  # attempts of this run by earlier launchers
        self._identity = (0, 0)

    @classmethod
    def create(cls, path: Path, ranks: Iterable[int]) -> RunDir:
        """Make the folder tree of this host's ranks with mode 0700. FileExistsError: it exists already."""
        path.parent.mkdir(parents=True, exist_ok=True)
        path.mkdir(mode=0o700)
        with remove_on_error(path):
            run = cls(path)
            run._fill(ranks)
        return run

    @classmethod
    def reopen(cls, path: Path, ranks: Iterable[int]) -> RunDir:
        """Make what the folder of an earlier run, or of a job in a queue, lacks."""
        run = cls(path)
        run._fill(ranks)
        return run

    def _fill(self, ranks: Iterable[int]) -> None:
        for folder in (self.logs, self.checkpoints, *map(self.rank_dir, ranks)):
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        self._identity = self._here()

    def in_place(self) -> bool:
        """Tell whether the folder that `create` made is under its name, neither moved nor removed."""
        with suppress(OSError):
            return self._here() == self._identity
        return False

    def _here(self) -> tuple[int, int]:
        about = os.stat(str(self.path))  # a folder that was moved to another disk may be linked here
        return about.st_dev, about.st_ino

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
    def record(self) -> Path:
        """The file that names the process which runs this (launcher/runs/launcher_record.py)."""
        return self.path / "launcher.json"

    @property
    def events(self) -> Path:
        return self.path / "events.jsonl"

    @property
    def result(self) -> Path:
        return self.path / "result.json"

    @property
    def provenance(self) -> Path:
        """What the run is made of, written some seconds after its start; result.json has it at the end."""
        return self.path / "provenance.json"

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
        return self.logs / f"{_stem(rank)}.log"

    def index(self, rank: int) -> Path:
        return self.logs / f"{_stem(rank)}.index"

    def rank_dir(self, rank: int) -> Path:
        return self.path / "ranks" / rank_folder(rank)

    def ranks(self) -> list[int]:
        """List the ranks that have a folder, which is all that is known of them without a plan."""
        with suppress(OSError):
            names = os.listdir(str(self.path / "ranks"))
            return sorted(int(name) for name in names if re.fullmatch("[0-9]{1,7}", name))
        return []

    def error(self, rank: int) -> Path:
        return self.rank_dir(rank) / "error.json"

    def thread_error(self, rank: int) -> Path:
        return self.rank_dir(rank) / "thread_error.json"

    def torch_error(self, rank: int) -> Path:
        return self.rank_dir(rank) / TORCH_ERROR

    def heartbeat(self, rank: int) -> Path:
        return self.rank_dir(rank) / "heartbeat.json"

    def metrics(self, rank: int) -> Path:
        return self.rank_dir(rank) / "metrics.jsonl"

    def artifacts(self, rank: int) -> Path:
        return self.rank_dir(rank) / "artifacts.jsonl"

    def write_json(self, path: Path, value: Any) -> None:
        """Write one JSON document atomically; numbers that JSON does not have (NaN, infinity) become null."""
        try:
            text = json.dumps(value, indent=2, allow_nan=False)
        except ValueError:
            text = json.dumps(json.loads(json.dumps(value), parse_constant=lambda name: None), indent=2)
        write_atomic(path, (text + "\n").encode())


def _stem(rank: int) -> str:
    return rank_folder(rank) if rank == SCHEDULER else f"rank_{rank}"


def rank_folder(rank: int) -> str:
    """Return the name of a rank's folder."""
    return "scheduler" if rank == SCHEDULER else str(rank)


def host_folder(name: str) -> str:
    """Return the name of a host's folder; the name of a host may come from anywhere.

    >>> host_folder("node-1.site"), host_folder("../a b")
    ('node-1.site', '_.._a_b')
    """
    plain = re.sub(r"[^A-Za-z0-9_.-]", "_", name)
    return plain if re.match("[A-Za-z0-9_]", plain) else "_" + plain


class HostRunDir(RunDir):
    """One host's part of a run on several: hosts/NAME in the run folder, and its ranks' folders beside.

    Where no disk is shared, it is all that this host has of the run folder.
    """

    def __init__(self, path: Path, name: str) -> None:
        super().__init__(path)
        self.own = path / "hosts" / host_folder(name)

    @classmethod
    def make(cls, path: Path, name: str, ranks: Iterable[int]) -> HostRunDir:
        """Make the folders of this host and its ranks; what is there of the run, or an attempt, stays."""
        run = cls(path, name)
        path.parent.mkdir(parents=True, exist_ok=True)
        for folder in (path, path / "ranks", path / "hosts", run.own, run.logs, *map(run.rank_dir, ranks)):
            folder.mkdir(mode=0o700, exist_ok=True)
        run._identity = run._here()
        return run

    @property
    def plan(self) -> Path:
        return self.own / "plan.json"

    @property
    def record(self) -> Path:
        return self.own / "launcher.json"

    @property
    def events(self) -> Path:
        return self.own / "events.jsonl"

    @property
    def logs(self) -> Path:
        return self.own / "logs"


def opened(path: Path) -> RunDir:
    """Return the run folder at a path: the whole run, or the one host's part that is there without a plan."""
    if not os.path.lexists(str(path / "plan.json")):
        with suppress(OSError):
            names = [name for name in os.listdir(str(path / "hosts")) if (path / "hosts" / name).is_dir()]
            if len(names) == 1:
                return HostRunDir(path, names[0])
    return RunDir(path)
