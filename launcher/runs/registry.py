"""Find runs by name, path or prefix, and say what state they are in."""

from __future__ import annotations

import json
import os
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Iterator

from launcher.errors import ReadError, UsageError
from launcher.heartbeat import Beat, read_beat
from launcher.plan.model import Plan
from launcher.process import procfs, sweep
from launcher.run_dir import RunDir


def resolve(run: str = "", runs_dir: str = "runs") -> RunDir:
    """Find a run folder: a path, a name in `runs_dir`, or a prefix that only one name has; "": the latest.

    Raises:
        UsageError: there is no such run, or there are several; similar names are listed.
    """
    base = Path(runs_dir)
    path = Path(run) if run and is_run(Path(run)) else base / (run or "latest")
    if is_run(path):
        return RunDir(path.resolve())
    names = [found.path.name for found in all_runs(runs_dir)]
    if not run:
        raise UsageError(f"{base}: no run yet; give RUN as a path, or --runs-dir")
    fits = [name for name in names if name.startswith(run)]
    if len(fits) == 1:
        return RunDir((base / fits[0]).resolve())
    if fits:
        raise UsageError(f"{run} fits {len(fits)} runs: {_some(fits)}; give more of the name")
    raise UsageError(f"{run}: no such run; {base} has {_some(names) or 'none'}")


def _some(names: list[str], most: int = 4) -> str:
    return ", ".join(names[-most:]) + (", ..." if len(names) > most else "")


def is_run(path: Path) -> bool:
    """Say whether a folder is a run folder."""
    return (path / "plan.json").is_file() or ((path / "logs").is_dir() and (path / "ranks").is_dir())


def all_runs(runs_dir: str = "runs") -> list[RunDir]:
    """List the run folders in a folder, oldest first; the link `latest` is not listed twice."""
    try:
        found = [path for path in Path(runs_dir).iterdir() if not path.is_symlink() and is_run(path)]
    except OSError:
        return []
    return [RunDir(path.resolve()) for path in sorted(found, key=_started)]


def _started(path: Path) -> tuple[float, str]:
    made = path / "plan.json"
    return ((made if made.exists() else path).stat().st_mtime, path.name)


def read_json(path: Path) -> dict[str, Any]:
    """Read a JSON object; return an empty one when it is missing or damaged."""
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return value if isinstance(value, dict) else {}


def read_plan(run: RunDir) -> Plan:
    """Read the plan of a run. ReadError: it is missing, damaged, or of another version."""
    try:
        text = run.plan.read_text(encoding="utf-8")
    except OSError as error:
        raise ReadError(f"{run.path.name}: plan.json: {error.strerror}") from None
    except UnicodeDecodeError:
        raise ReadError(f"{run.path.name}: plan.json: not UTF-8; the file is damaged") from None
    try:
        return Plan.from_json(text)
    except ReadError as error:
        raise ReadError(f"{run.path.name}: {error}") from None


def known_plan(run: RunDir) -> Plan | None:
    """Read the plan of a run; None when it cannot be read."""
    try:
        return read_plan(run)
    except ReadError:
        return None


def run_id(run: RunDir) -> str:
    """Return the id by which a run's processes are found: the plan's, as the folder may have been renamed."""
    plan = known_plan(run)
    return plan.run_id if plan else run.path.name


@dataclass(frozen=True)
class RunProcess:
    """A living process of a run; `rank` is None for a process that is not itself a rank."""

    pid: int
    rank: int | None


@dataclass(frozen=True)
class RunStatus:
    """What is known of a run. Its state: running, finished, failed, or lost (no launcher and no result)."""

    run: RunDir
    state: str
    exit_code: int | None
    launcher: procfs.Identity | None
    started: float  # wall clock, seconds
    processes: tuple[RunProcess, ...] = ()
    plan: Plan | None = None
    plan_error: str = ""  # why plan.json cannot be read, when there is one


def status(run: RunDir) -> RunStatus:
    """Read a run's files and find its living processes."""
    result = read_json(run.result)
    launcher = launcher_of(run)
    code = result.get("exit_code")
    if result:
        state = "finished" if code == 0 else "failed"
    else:
        state = "running" if launcher else "lost"
    plan, problem = _plan_or_error(run)
    return RunStatus(
        run, state, code, launcher, _started(run.path)[0], tuple(living_processes(run)), plan, problem
    )


def _plan_or_error(run: RunDir) -> tuple[Plan | None, str]:
    """Read the plan, or say why not; a run folder without one (logs alone) is nothing to report."""
    try:
        return read_plan(run), ""
    except ReadError as error:
        return None, str(error) if run.plan.exists() else ""


def launcher_of(run: RunDir) -> procfs.Identity | None:
    """Return the launcher of a run if it lives on this host."""
    record = read_json(run.path / "launcher.json")
    if record.get("host") != os.uname().nodename:
        return None
    try:
        who = procfs.Identity(int(record["pid"]), int(record["start"]))
    except (KeyError, TypeError, ValueError):
        return None
    return who if procfs.alive(who) else None


def running(run: RunDir) -> bool:
    """Say whether a run still has a launcher and no result."""
    return not run.result.exists() and launcher_of(run) is not None


def living_processes(run: RunDir) -> Iterator[RunProcess]:
    """Find the processes of a run by its id in their environment; a rank leads its own session."""
    for pid in sweep.members(run_id(run)):
        environ = procfs.environ(pid)
        text = environ.get("RANK_ID") or environ.get("NPU_LAUNCH_RANK", "")
        leads = _session(pid) == pid
        yield RunProcess(pid, int(text) if leads and text.isdigit() else None)


def _session(pid: int) -> int:
    try:
        return os.getsid(pid)
    except OSError:
        return -1


def rank_pids(run: RunDir) -> dict[int, int]:
    """Map the ranks that live on this host to their pids."""
    return {found.rank: found.pid for found in living_processes(run) if found.rank is not None}


def heartbeats(run: RunDir) -> dict[int, Beat]:
    """Read the last heartbeat of each rank that has one; what is damaged is named by the run's launcher."""
    found: dict[int, Beat] = {}
    for path in (run.path / "ranks").glob("*/heartbeat.json"):
        with suppress(ReadError):
            if path.parent.name.isdecimal():
                found[int(path.parent.name)] = read_beat(path)
    return found


def listed(runs_dir: str, last: int = 0) -> list[RunDir]:
    """List what `ps` shows: the last runs of a folder (0: all), and every one that runs on this host."""
    known = all_runs(runs_dir)
    shown = {str(run.path): run for run in known[-last:]}
    for path in sorted(set(_running_folders()) - set(shown)):
        if is_run(Path(path)):
            shown[path] = RunDir(Path(path))
    return sorted(shown.values(), key=lambda run: _started(run.path))


def _running_folders() -> Iterator[str]:
    for pid in procfs.pids():
        folder = procfs.environ(pid).get("NPU_LAUNCH_RUN_DIR")
        if folder:
            yield os.path.realpath(folder)
