"""Find runs by name, path or prefix, and say what state they are in.

Whatever is wrong with the files of a run costs that run a line; the others are listed as they are.
"""

from __future__ import annotations

import os
from contextlib import suppress
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, Callable, Mapping, NamedTuple, TypeVar

from launcher import foreign
from launcher.errors import LauncherError, MissingFileError, ReadError, UsageError
from launcher.heartbeat import Beat, read_beat
from launcher.masking import mask
from launcher.plan.model import Plan
from launcher.process import procfs
from launcher.run_dir import HostRunDir, RunDir, opened
from launcher.runs import launcher_record, remote, submitted
from launcher.runs.processes import ProcessTable, RunProcess
from launcher.runs.slurm_jobs import is_over
from launcher.text import SCHEDULER

T = TypeVar("T")


def resolve(run: str = "", runs_dir: str = "runs") -> RunDir:
    """Find a run folder: a path, a name in `runs_dir`, or a prefix that only one name has; "": the latest.

    So is "last", where no run's name begins so.

    Raises:
        UsageError: there is no such run, or there are several; similar names are listed.
    """
    base = Path(runs_dir)
    path = Path(run) if run and is_run(Path(run)) else base / (run or "latest")
    if is_run(path):
        return opened(path.resolve())
    names = [found.path.name for found in all_runs(runs_dir)]
    if not run:
        raise UsageError(_no_latest(base, names))
    fits = [name for name in names if name.startswith(run)]
    if len(fits) == 1:
        return opened((base / fits[0]).resolve())
    if fits:
        raise UsageError(f"{run} fits {len(fits)} runs: {_some(fits)}; give more of the name")
    if run == "last":
        return resolve("", runs_dir)
    for there in (path for path in (Path(run), base / run) if path.is_dir()):
        raise UsageError(f"{there}: {_no_run(there)}; {base} has {_some(names) or 'none'}")
    raise UsageError(f"{run}: no such run; {base} has {_some(names) or 'none'}")


def _no_run(folder: Path) -> str:
    """Say why a folder is no run's."""
    try:
        what = "a folder without plan.json" if os.listdir(str(folder)) else "an empty folder"
    except OSError as error:
        return str(error.strerror)
    return f"{what} (expected that of a run)"


def _no_latest(base: Path, names: list[str]) -> str:
    link = base / "latest"
    if names and os.path.islink(str(link)):
        target = os.readlink(str(link))
        return f"{link}: a link to {target}, where no run is; name one of {_some(names)}"
    if names:
        return f"{base}: no run is the latest; name one of {_some(names)}"
    why = "" if base.is_dir() else " (no such folder)"
    return f"{base}: no run yet{why}; start one by npu-launch JOB.yaml, or give RUN as a path, or --runs-dir"


def _some(names: list[str], most: int = 4) -> str:
    return ", ".join(names[-most:]) + (", ..." if len(names) > most else "")


def is_run(path: Path) -> bool:
    """Say whether a folder is a run folder."""
    isdir, inside = os.path.isdir, str(path) + os.sep
    others = isdir(inside + "logs") or isdir(inside + "hosts")  # hosts: of one that ran on several
    made = os.path.isfile(inside + "plan.json") or os.path.isfile(inside + submitted.FILE)
    return made or (others and isdir(inside + "ranks"))


def all_runs(runs_dir: str = "runs") -> list[RunDir]:
    """List the run folders in a folder, oldest first; the link `latest` is not listed twice.

    One that may not be looked into is listed, too.
    """
    base = os.path.realpath(runs_dir)
    try:
        with os.scandir(base) as entries:
            names = [entry.name for entry in entries if entry.is_dir(follow_symlinks=False)]
    except OSError:
        return []
    paths = [os.path.join(base, name) for name in names]
    found = [path for path in paths if not os.access(path, os.X_OK) or is_run(Path(path))]
    return [opened(Path(path)) for path in sorted(found, key=_started)]


def _started(path: str) -> tuple[float, str]:
    for made in (os.path.join(path, "plan.json"), path):
        try:
            return os.lstat(made).st_mtime, os.path.basename(path)
        except OSError:
            continue
    return 0.0, os.path.basename(path)


def read_json(path: Path) -> dict[str, Any]:
    """Read a JSON object; return an empty one when it is missing or damaged."""
    with suppress(ReadError):
        return foreign.read_object(path)
    return {}


def provenance_of(run: RunDir) -> dict[str, Any]:
    """Return what a run was made of; of one without a result what was found soon after its start."""
    found = read_json(run.result).get("provenance")
    if found and isinstance(found, dict):
        return found
    return dict(mask(read_json(run.provenance)))  # a rank may have written something else there


def read_plan(run: RunDir) -> Plan:
    """Read the plan of a run. ReadError: it is missing, damaged, or of another version."""
    try:
        data = foreign.read_bytes(run.plan, foreign.DOCUMENT)
        return Plan.from_json(data.decode())
    except UnicodeDecodeError:
        raise ReadError(f"{run.path.name}: plan.json: not UTF-8; the file is damaged") from None
    except ReadError as error:
        raise ReadError(f"{run.path.name}: {_within(run, error)}") from None


def _within(run: RunDir, error: ReadError) -> str:
    """Return an error's text with the path as it is within the run folder."""
    text, folder = str(error), f"{run.path}{os.sep}"
    return text[len(folder) :] if text.startswith(folder) else text


def known_plan(run: RunDir) -> Plan | None:
    """Read the plan of a run; None when it cannot be read."""
    try:
        return read_plan(run)
    except ReadError:
        return None


class Outline(NamedTuple):
    """What a list of runs needs of a plan, of whatever version."""

    run_id: str
    run_dir: str  # as it was at the start
    devices: Mapping[int, int]  # of each rank


def read_outline(run: RunDir) -> Outline:
    """Read the outline of a plan. ReadError: it is damaged; MissingFileError: there is none."""
    plan = foreign.read_json(run.plan, foreign.DOCUMENT)
    devices = {item.get("rank").whole(): item.get("device_id").whole() for item in plan.get("ranks").items()}
    run_id, run_dir = plan.get("run_id", "").text(), plan.get("run_dir", "").text()
    return Outline(run_id or run.path.name, run_dir, devices)


def run_id(run: RunDir) -> str:
    """Return the id by which a run's processes are found: the plan's, as the folder may have been renamed."""
    return _outline(run, []).run_id


def _outline(run: RunDir, problems: list[str]) -> Outline:
    return _or_named(read_outline, run, problems) or Outline(run.path.name, "", {})


def _or_named(read: Callable[[RunDir], T], run: RunDir, problems: list[str]) -> T | None:
    """Read something of a run; None when it is not there, or damaged, which becomes a problem."""
    try:
        return read(run)
    except MissingFileError:
        return None
    except ReadError as error:
        problems.append(_within(run, error))
        return None


def marks(run: RunDir, outline: Outline | None = None) -> tuple[str, frozenset[str]]:
    """Return the run id and the folders; the environment of the run's processes names it and one of them.

    The plan names the folder of the start: it counts once that is gone, after a renaming, not for a copy.
    """
    outline = outline or _outline(run, [])
    folders = {str(run.path)}
    if outline.run_dir and _is_gone(outline.run_dir):
        folders.add(outline.run_dir)
    return outline.run_id, frozenset(folders)


def host_of(run: RunDir) -> str:
    """Return the host that the processes of a part of a run name; "" for a whole run."""
    return run.own.name if isinstance(run, HostRunDir) else ""


def _is_gone(path: str) -> bool:
    try:
        os.lstat(path)
    except (FileNotFoundError, NotADirectoryError):
        return True
    except (OSError, ValueError):
        return False
    return False


@dataclass(frozen=True)
class RunStatus:
    """What is known of a run.

    Its state: running, finished, failed, lost (no launcher and no result), queued or what else the queue
    says of its `job`, or unknown: it may run `where` it cannot be seen from here, or its result is damaged.
    A host's part of a run has ended: its head has the result.
    """

    run: RunDir
    state: str
    exit_code: int | None = None
    launcher: procfs.Identity | None = None
    started: float = 0.0  # wall clock, seconds
    processes: tuple[RunProcess, ...] = ()
    devices: Mapping[int, int] = field(default_factory=dict)  # of each rank
    step: int | None = None  # the least of the ranks'
    where: str = ""
    job: str = ""  # in a queue: slurm 17 PENDING (Resources)
    problems: tuple[str, ...] = ()  # files that cannot be read, and why


class _Result(NamedTuple):
    exit_code: int
    steps: tuple[int, ...]
    outline: Outline | None  # spares reading the plan; releases before 0.1.0 did not write it


def _read_result(run: RunDir) -> _Result:
    value = foreign.read_json(run.result, foreign.DOCUMENT)
    steps = [end.get("step") for end in value.get("ends", []).items()]
    known = tuple(step.whole() for step in steps if step.value is not None)
    devices = dict(enumerate(value.get("devices", []).wholes()))
    outline = Outline(value.get("run_id").text(), "", devices) if devices else None
    return _Result(value.get("exit_code").whole(), known, outline)


def status(run: RunDir, table: ProcessTable | None = None) -> RunStatus:
    """Read a run's files and find its living processes, in `table` if that has been read already."""
    started = _started(str(run.path))[0]
    try:
        os.listdir(str(run.path))
    except OSError as error:
        return RunStatus(run, "unknown", started=started, problems=(str(error.strerror),))
    problems: list[str] = []
    result = _or_named(_read_result, run, problems)
    launcher = launcher_record.Launcher()
    if result is None:
        launcher = launcher_record.find(run)
        problems += [_within(run, ReadError(launcher.problem))] if launcher.problem else []
    outline = (result and result.outline) or _outline(run, problems)
    found = (table or ProcessTable()).of(*marks(run, outline), host_of(run))
    steps = result.steps if result else ()
    if not steps:
        told = _or_named(remote.read_ranks, run, problems)
        beats = told or heartbeats(run, problems)
        known = [beat.train_step for beat in beats.values()]
        steps = tuple(step for step in known if step is not None)
    over = launcher.process or (result and not result.exit_code)
    job = "" if over else _job(run, problems)  # one that failed may have been put back in the queue
    return RunStatus(
        run,
        _queued(job) or ("" if result else _over(job)) or _state(run, result, launcher),
        result.exit_code if result and not _queued(job) else None,
        launcher.process,
        started,
        found,
        outline.devices,
        min(steps, default=None),
        "" if job else launcher.where,
        job if not result or _queued(job) else "",
        tuple(problems),
    )


def _job(run: RunDir, problems: list[str]) -> str:
    """Say what the queue knows of a run's job; "" when the run has none."""
    try:
        job = submitted.read(run)
        return f"{job.engine} {job.job_id} {submitted.state(job)}".rstrip() if job else ""
    except LauncherError as error:
        problems.append(str(error))
        return ""


def _queued(job: str) -> str:
    """Return the state of a run whose job has not ended; "" when there is none, or it has."""
    words = job.split()
    state = words[2] if len(words) > 2 else ""
    if state in ("RUNNING", "COMPLETING", "SUSPENDED", "STOPPED"):
        return "running"
    return "" if not state or is_over(state) else "queued"


def _over(job: str) -> str:
    """Return how a job ended that left no result, such as cancelled or node_fail; "" when nobody knows."""
    return " ".join(job.split()[2:3]).lower()


def _state(run: RunDir, result: _Result | None, launcher: launcher_record.Launcher) -> str:
    if result:
        return "failed" if result.exit_code else "finished"
    if launcher.process:
        return "running"
    if isinstance(run, HostRunDir) and not launcher.where:
        return "ended"
    return "unknown" if launcher.where or os.path.lexists(str(run.result)) else "lost"


def running(run: RunDir) -> bool:
    """Say whether a run has no result and still has a launcher, or may have one where it cannot be seen."""
    if os.path.lexists(str(run.result)):
        return False
    launcher = launcher_record.find(run)
    return bool(launcher.process or launcher.where)


def rank_pids(run: RunDir) -> dict[int, int]:
    """Map the ranks that live on this host to their pids."""
    found = ProcessTable().of(*marks(run), host_of(run))
    return {one.rank: one.pid for one in found if one.rank is not None and one.rank != SCHEDULER}


def heartbeats(run: RunDir, problems: list[str]) -> dict[int, Beat]:
    """Read the last heartbeat of each rank that has one; one that is damaged becomes a problem."""
    found: dict[int, Beat] = {}
    for rank in run.ranks():
        beat = _or_named(partial(_read_beat, rank), run, problems)
        if beat:
            found[rank] = beat
    return found


def _read_beat(rank: int, run: RunDir) -> Beat:
    return read_beat(run.heartbeat(rank))


def listed(runs_dir: str, last: int, table: ProcessTable) -> list[RunDir]:
    """List what `ps` shows: the last runs of a folder (0: all), and every one of this user that runs here."""
    known = all_runs(runs_dir)
    shown = {str(run.path): run for run in known[-last:]}
    for path in sorted(set(table.folders()) - set(shown)):
        if is_run(Path(path)):
            shown[path] = opened(Path(path))
    return sorted(shown.values(), key=lambda run: _started(str(run.path)))
