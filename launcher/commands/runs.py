"""npu-launch ps, stop, stacks: see runs, end them, and see where their ranks are."""

from __future__ import annotations

import json
import sys
import time
from typing import Any, Sequence

import click

from launcher.process import procfs
from launcher.runs import registry
from launcher.runs.registry import State
from rank_table.ranges import spell

_RUNS_DIR = click.option(
    "--runs-dir", metavar="DIR", default="runs", show_default=True, help="Folder of the run folders."
)
RECENT = 10


@click.command()
@click.argument("run", default="")
@click.option(
    "--all", "-a", "every", is_flag=True, help=f"All runs of the folder, not only the last {RECENT}."
)
@click.option("--json", "as_json", is_flag=True, help="Print a JSON list.")
@_RUNS_DIR
def ps(run: str, every: bool, as_json: bool, runs_dir: str) -> None:
    """List the runs of a folder, and those that run elsewhere on this host; with RUN, its processes."""
    if run:
        states = [registry.state(registry.resolve(run, runs_dir))]
        rows = process_rows(states[0])
        columns = ["rank", "device", "pid", "age", "memory_mb", "step", "phase", "command"]
    else:
        states = [registry.state(found) for found in registry.listed(runs_dir, 0 if every else RECENT)]
        rows = [run_row(state) for state in states]
        columns = ["run", "state", "exit_code", "started", "age", "ranks", "devices", "step", "pid"]
    click.echo(json.dumps(rows, indent=1) if as_json else "\n".join(table(rows, columns)))
    for state in states:
        if state.plan_error:
            click.echo("npu-launch: " + state.plan_error, err=True)


def run_row(state: State) -> dict[str, Any]:
    """Give what `ps` shows of a run."""
    specs = state.plan.ranks if state.plan else ()
    steps = [registry.training_step(beat) for beat in registry.heartbeats(state.run).values()]
    known = [step for step in steps if isinstance(step, int)]
    return {
        "run": state.run.path.name,
        "state": state.word,
        "exit_code": state.exit_code,
        "started": time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(state.started)),
        "age": procfs.span(time.time() - state.started),
        "ranks": len(specs),
        "devices": spell(sorted({spec.device_id for spec in specs})),
        "step": min(known) if known else None,
        "pid": state.launcher.pid if state.launcher else None,
        "processes": len(state.processes),
        "path": str(state.run.path),
    }


def process_rows(state: State) -> list[dict[str, Any]]:
    """Give what `ps RUN` shows: the launcher, the ranks, and whatever else carries the run's id."""
    specs = state.plan.ranks if state.plan else ()
    devices: dict[int | None, int] = {spec.rank: spec.device_id for spec in specs}
    beats = registry.heartbeats(state.run)
    rows = []
    launcher = [registry.Process(state.launcher.pid, None)] if state.launcher else []
    for found in [*launcher, *sorted(state.processes, key=lambda p: (p.rank is None, p.rank or 0, p.pid))]:
        beat = beats.get(found.rank, {}) if found.rank is not None else {}
        rows.append(
            {
                "rank": found.rank,
                "device": devices.get(found.rank),
                "pid": found.pid,
                "age": procfs.span(procfs.seconds(found.pid)),
                "memory_mb": procfs.memory(found.pid) >> 20,
                "step": registry.training_step(beat),
                "phase": beat.get("phase"),
                "command": procfs.command(found.pid),
            }
        )
    return rows


def table(rows: Sequence[dict[str, Any]], columns: Sequence[str]) -> list[str]:
    """Align rows under their column names."""
    cells = [[name.upper() for name in columns]]
    cells += [["-" if row[name] is None else str(row[name]) for name in columns] for row in rows]
    widths = [max(len(row[place]) for row in cells) for place in range(len(columns))]
    return ["  ".join(cell.ljust(width) for cell, width in zip(row, widths)).rstrip() for row in cells]


@click.command()
@click.argument("run")
@click.option("--now", is_flag=True, help="Kill at once, without the run's grace.")
@click.option(
    "--timeout", metavar="SECONDS", type=float, default=0.0, help="Default: the run's grace and 10 s."
)
@_RUNS_DIR
def stop(run: str, now: bool, timeout: float, runs_dir: str) -> None:
    """End RUN as SIGTERM to its launcher would, and wait until nothing of it is left."""
    from launcher.runs.stop import stop as end

    click.echo("npu-launch: " + end(registry.resolve(run, runs_dir), now, timeout))


@click.command()
@click.argument("run", default="")
@click.option("--full", is_flag=True, help="Print the stacks of all threads of every rank, as dumped.")
@click.option("--json", "as_json", is_flag=True, help="Print a JSON list of {ranks, frames}.")
@_RUNS_DIR
def stacks(run: str, full: bool, as_json: bool, runs_dir: str) -> None:
    """Show where every rank of RUN is now: equal Python stacks together, the odd one last."""
    from launcher.diagnosis import stacks as asking
    from launcher.errors import LauncherError

    found = registry.resolve(run, runs_dir)
    pids = registry.rank_pids(found)
    if not pids:
        raise LauncherError(f"{found.path.name} has no living rank on this host")
    texts = asking.ask(found, pids)
    groups = asking.group(texts)
    if as_json:
        rows = [{"ranks": item.ranks, "frames": [vars(frame) for frame in item.frames]} for item in groups]
        click.echo(json.dumps(rows, indent=1))
    else:
        click.echo("\n".join(asking.dumped(texts) if full else asking.report(groups)))
    silent = sorted(set(pids) - set(texts))
    if silent:
        text = (
            "npu-launch: rank %s gave no stack: not a Python program under the worker file, or still starting"
        )
        click.echo(text % spell(silent), err=True)
        sys.exit(1)
