"""npu-launch ps, stop, stacks: list runs, end them, show where their ranks are."""

from __future__ import annotations

import sys
import time
from typing import Any, Sequence

import click

from launcher.heartbeat import Beat
from launcher.masking import mask_text
from launcher.output import echo, echo_json
from launcher.process import procfs
from launcher.run_dir import RunDir
from launcher.runs import registry, remote
from launcher.runs.processes import ProcessTable, RunProcess
from launcher.runs.registry import RunStatus
from launcher.runs.remote import RemoteRank
from launcher.text import SCHEDULER, label, printable
from rank_table.ranges import spell

_RUNS_DIR = click.option(
    "--runs-dir", metavar="DIR", default="runs", show_default=True, help="Folder that holds the run folders."
)
RECENT = 10


@click.command()
@click.argument("run", default="")
@click.option(
    "--all", "-a", "every", is_flag=True, help=f"List all runs of the folder, not only the last {RECENT}."
)
@click.option("--json", "as_json", is_flag=True, help="Print a JSON list.")
@_RUNS_DIR
def ps(run: str, every: bool, as_json: bool, runs_dir: str) -> None:
    """List the runs of a folder, and all of yours that run on this host; with RUN, list its processes."""
    processes = ProcessTable()
    if run:
        found = [registry.status(registry.resolve(run, runs_dir), processes)]
        rows = process_rows(found[0])
        columns = ["rank", "device", "pid", "age", "memory_mb", "step", "phase", "command"]
        columns[1:1] = ["host"] if any(row["host"] for row in rows) else []
    else:
        listed = registry.listed(runs_dir, 0 if every else RECENT, processes)
        found = [registry.status(one, processes) for one in listed]
        rows = [run_row(status) for status in found]
        columns = ["run", "state", "exit_code", "started", "age", "ranks", "devices", "step", "pid"]
    if as_json:
        echo_json(rows)
    else:
        echo(*table(rows, columns))
    for status in found:
        if status.problems:
            echo(f"npu-launch: {status.run.path.name}: {'; '.join(status.problems)}", err=True)


def run_row(status: RunStatus) -> dict[str, Any]:
    """Return the line of a run in `ps`."""
    return {
        "run": status.run.path.name,
        "state": status.state,
        "where": status.where or None,
        "job": status.job or None,
        "exit_code": status.exit_code,
        "started": _date(status.started),
        "age": procfs.span(max(0.0, time.time() - status.started)),
        "ranks": len(status.devices),
        "devices": spell(sorted(set(status.devices.values()))),
        "step": status.step,
        "pid": status.launcher.pid if status.launcher else None,
        "processes": len(status.processes),
        "path": str(status.run.path),
    }


def _date(seconds: float) -> str:
    try:
        return time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(seconds))
    except (OSError, OverflowError, ValueError):  # a file may have any time
        return "?"


def process_rows(status: RunStatus) -> list[dict[str, Any]]:
    """Return the lines of `ps RUN`: the launcher, the ranks, other processes with the run's id.

    Of ranks on other hosts there is what their agents have told the head.
    """
    beats = registry.heartbeats(status.run, [])
    told = remote.known_ranks(status.run)
    launcher = [RunProcess(status.launcher.pid, None)] if status.launcher else []
    rows = []
    for found in [*launcher, *sorted(status.processes, key=lambda p: (p.rank is None, p.rank or 0, p.pid))]:
        of = None if found.rank is None else told.get(found.rank) or beats.get(found.rank)
        rows.append(_process_row(found, status, of, of.host if isinstance(of, RemoteRank) else None))
    here = {found.rank for found in status.processes}
    alive = status.launcher is not None or bool(status.where)
    for rank, remote_rank in told.items():
        if alive and remote_rank.code is None and rank not in here:
            found = RunProcess(remote_rank.pid, rank)
            rows.append({**_process_row(found, status, remote_rank, remote_rank.host), **_UNSEEN})
    return rows


_UNSEEN = {"age": None, "memory_mb": None, "command": None}


def _process_row(
    found: RunProcess, status: RunStatus, beat: Beat | RemoteRank | None, host: str | None
) -> dict[str, Any]:
    process = procfs.read(found.pid)
    return {
        "rank": found.rank,
        "host": host,
        "device": status.devices.get(found.rank) if found.rank is not None else None,
        "pid": found.pid,
        "age": procfs.span(procfs.age(process.start) if process else 0.0),
        "memory_mb": (process.resident if process else 0) >> 20,
        "step": beat.train_step if beat else None,
        "phase": beat.phase if beat else None,
        "command": mask_text(procfs.command(found.pid)),
    }


def table(rows: Sequence[dict[str, Any]], columns: Sequence[str]) -> list[str]:
    """Align rows under their column names."""
    cells = [[name.upper() for name in columns]]
    cells += [[_cell(row, name) for name in columns] for row in rows]
    widths = [max(len(row[place]) for row in cells) for place in range(len(columns))]
    return ["  ".join(cell.ljust(width) for cell, width in zip(row, widths)).rstrip() for row in cells]


def _cell(row: dict[str, Any], name: str) -> str:
    if name == "state" and row.get("where"):
        return f"running {printable(row['where'])}?"
    if name == "state" and row.get("job"):
        return f"{row['state']} ({printable(row['job'])})"
    if name == "rank" and row[name] is not None:
        return label({row[name]})
    return "-" if row[name] is None else printable(str(row[name]))


@click.command()
@click.argument("run")
@click.option("--now", is_flag=True, help="Kill at once, without the grace period.")
@click.option(
    "--timeout",
    metavar="SECONDS",
    type=float,
    default=0.0,
    help="How long to wait; default: the grace period plus 10 s.",
)
@_RUNS_DIR
def stop(run: str, now: bool, timeout: float, runs_dir: str) -> None:
    """End RUN with SIGTERM to its launcher, and wait until no process of it is left."""
    from launcher.runs.stop import stop as end

    echo("npu-launch: " + end(registry.resolve(run, runs_dir), now, timeout))


@click.command()
@click.argument("run", default="")
@click.option("--full", is_flag=True, help="Print the stacks of all threads of every rank, unabridged.")
@click.option("--json", "as_json", is_flag=True, help="Print a JSON list of {ranks, frames}.")
@_RUNS_DIR
def stacks(run: str, full: bool, as_json: bool, runs_dir: str) -> None:
    """Show where every rank of RUN is now: equal Python stacks grouped, the outlier last."""
    from launcher.diagnosis import stacks as dumps
    from launcher.errors import LauncherError

    found = registry.resolve(run, runs_dir)
    pids = registry.rank_pids(found)
    elsewhere = _elsewhere(found)
    if not pids and not elsewhere:
        raise LauncherError(f"{found.path.name}: no rank of it is running on this host")
    if elsewhere:
        texts, pids = remote.stacks(found), {**elsewhere, **pids}
    else:
        texts = dumps.ask(found, pids)
    groups = dumps.group(texts)
    if as_json:
        rows = [{"ranks": item.ranks, "frames": [vars(frame) for frame in item.frames]} for item in groups]
        echo_json(rows)
    else:
        echo(*(dumps.dumped(texts) if full else dumps.report(groups)))
    missing = sorted(set(pids) - set(texts))
    if missing:
        why = "still starting, or not a Python program run by npu-launch's worker"
        echo(f"npu-launch: rank {spell(missing)} gave no stack: {why}", err=True)
        sys.exit(1)


def _elsewhere(run: RunDir) -> dict[int, int]:
    """Map the living ranks of a run on several hosts to their pids; none where it runs on one, or not."""
    if not registry.running(run):
        return {}
    known = remote.known_ranks(run).items()
    return {rank: told.pid for rank, told in known if told.code is None and rank != SCHEDULER}
