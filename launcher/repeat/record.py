"""repeat.json: a job, the seeds, and how far each has come; the folder of a repeat, found again and held."""

from __future__ import annotations

import hashlib
import json
import os
import time
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any, Iterator, Mapping, Sequence

from launcher import foreign, typed_json
from launcher.config.job import text_of
from launcher.errors import LauncherError, ReadError, UsageError
from launcher.masking import MASK, mask, mask_text
from launcher.plan.devices import parse_devices
from launcher.run_dir import RunDir, write_atomic
from launcher.runs import launcher_record

NAME = "repeat.json"
JOB = "job.yaml"
WAITING, RUNNING, FINISHED, FAILED, INTERRUPTED = "waiting", "running", "finished", "failed", "interrupted"


@dataclass(frozen=True)
class Command:
    """What was typed. A relative path of it starts in `cwd`; secrets are masked in the record."""

    job: str
    overrides: tuple[str, ...]
    seeds: tuple[int, ...]
    devices: str
    each: int
    cwd: str

    def key(self) -> str:
        """Return what tells one repeat from another: the same command, of the same file's contents."""
        told = dict(self.masked(), text=mask_text(text_of(self.job)))
        return hashlib.sha256(json.dumps(told, sort_keys=True).encode()).hexdigest()

    def masked(self) -> dict[str, Any]:
        """Return the command as it may be written."""
        return dict(asdict(self), overrides=mask(list(self.overrides)))


@dataclass
class SeedRun:
    """One seed: its state, and what came of its last start. seconds: of all its starts together."""

    seed: int
    state: str = WAITING
    devices: list[int] = field(default_factory=list)
    exit_code: int | None = None
    seconds: float = 0.0
    starts: int = 0


@dataclass
class Repeat:
    """A repeat and its folder; the runs' folders are in it, and the output of each launch as seed-N.log."""

    folder: Path
    name: str  # of the job
    command: Command
    runs: list[SeedRun]
    key: str = ""
    begun: float = 0.0
    state: str = RUNNING
    inputs: dict[str, Any] = field(default_factory=dict)  # hashes of files and code before the first run

    def run_id(self, seed: int) -> str:
        """Return the name of a seed's run folder; no other run on this host has it.

        One that is there already keeps its name when the repeat's folder is renamed.
        """
        made = sorted(path.name for path in self.folder.glob(f"seed-{seed}-*"))
        name = f"seed-{seed}-{self.folder.name[-20:]}"
        return name if name in made or not made else made[0]

    def run_folder(self, seed: int) -> Path:
        return self.folder / self.run_id(seed)

    def log(self, seed: int) -> Path:
        return self.folder / f"seed-{seed}.log"

    def save(self) -> None:
        """Write repeat.json. LauncherError: it cannot be written."""
        document = {
            "version": 1, "job": self.name, "key": self.key, "begun": self.begun, "state": self.state,
            "inputs": self.inputs,
            "command": self.command.masked(), "runs": [asdict(run) for run in self.runs],
        }  # fmt: skip
        write(self.folder / NAME, document)


def write(path: Path, document: Any, **how: Any) -> None:
    """Write a JSON document. how: as json.dumps takes it. LauncherError: it cannot be written."""
    text = json.dumps(document, **{"indent": 2, **how}) + "\n"
    try:
        write_atomic(path, text.encode())
    except OSError as error:
        what = f"{path}: cannot be written: {error.strerror}"
        raise LauncherError(f"{what}; once it can, --resume goes on") from None


def make(command: Command, name: str, runs_dir: Path) -> Repeat:
    """Make the folder of a new repeat, mode 0700. UsageError: it cannot be made."""
    stamp = f"{time.strftime('%Y%m%d-%H%M%S')}-{os.urandom(2).hex()}"  # 20 letters, see run_id
    folder = runs_dir / f"repeat-{name}-{stamp}"
    made = Repeat(
        folder, name, command, [SeedRun(seed) for seed in command.seeds], command.key(), time.time()
    )
    try:
        folder.mkdir(mode=0o700, parents=True)
        write_atomic(folder / JOB, mask_text(text_of(command.job)).encode())
        made.save()
    except OSError as error:
        raise UsageError(f"runs_dir: {folder}: {error.strerror}") from None
    return made


def find_unfinished(command: Command, runs_dir: Path) -> Repeat | None:
    """Find the newest repeat of the same command that has not finished."""
    key = command.key()
    for path in sorted(
        runs_dir.glob(f"repeat-*/{NAME}"), key=lambda path: path.parent.name[-20:], reverse=True
    ):
        try:
            found = read(path.parent)
        except ReadError:
            continue
        if found.key == key and found.state != FINISHED:
            return replace(found, command=command)  # with its secrets
    return None


def read(folder: Path) -> Repeat:
    """Read the repeat of a folder. ReadError: there is none, or its record is damaged."""
    value = foreign.read_json(folder / NAME, foreign.DOCUMENT)
    typed = value.get("command").fields(Command)
    command = Command(
        typed["job"].text(), typed["overrides"].texts(), typed["seeds"].wholes(), typed["devices"].text(),
        typed["each"].whole(), typed["cwd"].text(),
    )  # fmt: skip
    runs = [_run(item) for item in value.get("runs").items()]
    if tuple(run.seed for run in runs) != command.seeds or not runs:
        value.get("runs").refuse("not a run for each seed", "the seeds of the command")
    texts = [value.get(name).text() for name in ("job", "key", "state")]
    begun = value.get("begun").number()
    inputs = value.get("inputs", {}).members()
    hashed = {name: inputs[name].value for name in inputs}
    return Repeat(folder, texts[0], command, runs, texts[1], begun, texts[2], hashed)


def _run(value: typed_json.Value) -> SeedRun:
    typed = value.fields(SeedRun)
    code = typed["exit_code"]
    return SeedRun(
        typed["seed"].whole(), typed["state"].text(), list(typed["devices"].wholes()),
        None if code.value is None else code.whole(), typed["seconds"].number(), typed["starts"].whole(),
    )  # fmt: skip


def reopen(folder: Path) -> Repeat:
    """Read a repeat that is to go on, with its job file: the original while it is the same, else the copy.

    Raises:
        UsageError: there is no repeat, or a secret of its command is needed, which is not written anywhere.
    """
    try:
        found = read(folder)
    except ReadError as error:
        raise UsageError(f"--resume: {error}; give the folder of a repeat") from None
    command = found.command
    again = f"give the same command again in {command.cwd}, which finds this folder"
    if any(MASK in word for word in command.overrides):
        raise UsageError(f"--resume: {folder}: a secret on its command line is not kept; {again}")
    try:
        os.chdir(command.cwd)
    except OSError as error:
        raise UsageError(f"--resume: {command.cwd}: {error.strerror}; its paths start there") from None
    if not _same(command, found.key):
        copy = found.folder / JOB
        if MASK in text_of(str(copy)):
            raise UsageError(
                f"--resume: {command.job}: gone or changed, and its copy has no secrets; {again}"
            )
        found.command = replace(command, job=str(copy))
    return found


def _same(command: Command, key: str) -> bool:
    try:
        return command.key() == key
    except UsageError:  # it is gone
        return False


@contextmanager
def held(repeat: Repeat) -> Iterator[None]:
    """Hold a repeat meanwhile. UsageError: another process has it."""
    run = RunDir(repeat.folder)
    launcher = launcher_record.find(run)
    if launcher.process:
        raise UsageError(
            f"{repeat.folder}: goes on in process {launcher.process.pid}; wait for it, or end it"
        )
    if launcher.where and repeat.state == RUNNING:
        todo = "end it there, or remove launcher.json"
        raise UsageError(f"{repeat.folder}: may go on {launcher.where}; {todo}")
    with launcher_record.recorded(run):
        yield


def seeds_of(text: str) -> tuple[int, ...]:
    """Read `1-5` or `1,3,7`. UsageError: names the part that is invalid."""
    return parse_devices(text, "--seeds", "seed")


def with_output(args: Mapping[str, Any], seed: int) -> Sequence[str]:
    """Give each seed an output folder of its own where the job names one for all."""
    folder = str(args.get("output_dir") or "")
    return [f"output_dir={os.path.join(folder, f'seed-{seed}')}"] if os.path.isabs(folder) else []
