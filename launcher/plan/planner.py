"""From a command line to a Plan: read the job, ask for the devices, number the ranks.

Asks the machine (inventory, cores, clock) and starts only programs that answer a question: the Ascend tools,
the job's check. Nothing is written.
"""

from __future__ import annotations

import json
import os
import secrets
import subprocess
import sys
import time
from dataclasses import dataclass, replace
from typing import Any, Sequence

from launcher.config import ascend_env
from launcher.config.job import JobConfig, Provenance, arguments
from launcher.errors import ConfigError, LauncherError
from launcher.plan import build, environment, placement
from launcher.plan.build import Site
from launcher.plan.devices import parse_devices
from launcher.plan.model import Plan
from launcher.plan.placement import GivenTable
from rank_table.sources.tools import Machine
from rank_table.table import RankTable

CHECKS = {"squad.run_squad": "squad.check"}  # programs that can look at their flags before the start


@dataclass(frozen=True)
class Prepared:
    """Hold a plan and what it was made from."""

    config: JobConfig
    plan: Plan
    table: RankTable


def prepare(config: JobConfig, source: Provenance, command: Sequence[str]) -> Prepared:
    """Compute the plan of a job, or refuse it with everything that is wrong with its files.

    Raises:
        UsageError: the job cannot be meant. PreflightError: the devices cannot be asked.
        NotFoundError, NotExecutableError: the program.
    """
    build.missing_program(config, command, source)
    launch_dir = _launch_dir()
    devices = parse_devices(config.devices)
    notes = check_program(config, source, command)
    places = _places(config, source, devices)
    outer, sourced = ascend_env.load(config.ascend_env, os.environ, launch_dir, source)
    run_id = "{}-{}-{}".format(config.job, time.strftime("%Y%m%d-%H%M%S"), secrets.token_hex(2))
    site = Site(
        places=places,
        run_id=run_id,
        run_dir=os.path.join(launch_dir, os.path.expanduser(config.runs_dir), run_id),
        launch_dir=launch_dir,
        environ=outer,
        cores=sorted(os.sched_getaffinity(0)),
        bound=_bound(config, places),
    )
    seen = (*source.notes, *notes, *places.notes, *([sourced] if sourced else []))
    plan = build.build_plan(config, command, site, seen)
    if config.stdin_rank >= len(plan.ranks):
        last = len(plan.ranks) - 1
        raise source.error("stdin_rank", f"{config.stdin_rank}; the ranks are 0 to {last}")
    return Prepared(config, _reviewed(plan, config, source), places.table)


def _reviewed(plan: Plan, config: JobConfig, source: Provenance) -> Plan:
    """Add what is odd about the ranks' environment to the notes. ConfigError: what HCCL would refuse."""
    errors, notes = environment.review(plan.ranks[0].env, plan.backend, config.chip)
    if errors:
        lines = [str(_of_variable(name, message, config, source)) for name, message in errors]
        raise ConfigError("\nnpu-launch: ".join(lines))
    return replace(plan, notes=(*plan.notes, *notes))


def _of_variable(name: str, message: str, config: JobConfig, source: Provenance) -> ConfigError:
    """Say where a variable was set: in the job, or in the shell that the launcher was called from."""
    if name in config.env:
        return source.error("env." + name, message)
    return ConfigError(message, file="environment", key=name)


def _launch_dir() -> str:
    try:
        return os.getcwd()
    except FileNotFoundError:
        raise ConfigError("the current directory is gone; cd to one that exists") from None


def _places(config: JobConfig, source: Provenance, devices: tuple[int, ...]) -> GivenTable:
    """Give the rank table: the one of `rank_table_file`, or one made from an inventory."""
    if config.rank_table_file:
        path = os.path.expanduser(config.rank_table_file)
        given = placement.given_table(path, config.backend, os.environ, notify=_say)
        mine = {rank.device_id for rank in given.table.ranks_of(given.server_id)}
        if config.devices != JobConfig.devices and set(devices) != mine:
            text = "%s, but %s has devices %s on this host; leave devices out"
            listed = ",".join(map(str, sorted(mine)))
            raise source.error("devices", text % (config.devices, config.rank_table_file, listed))
        return given
    selection = placement.choose_inventory(
        devices, config.backend, config.inventory, os.environ, chip=config.chip
    )
    hosts = selection.inventory.hosts
    table = RankTable.from_hosts(hosts)
    logical = {(host.server_id, item.device_id): item.logical_id for host in hosts for item in host.devices}
    server = placement.own_server(table, Machine(os.environ))
    return GivenTable(table, _render(table), server, selection.backend, logical, selection.notes)


def _say(line: str) -> None:
    print("npu-launch: " + line, file=sys.stderr, flush=True)


def _bound(config: JobConfig, places: GivenTable) -> dict[int, tuple[int, ...]]:
    """Ask the machine which cores this host's ranks are bound to; nothing is asked without `bind`."""
    if config.bind == "none":
        return {}
    from launcher.plan.cpu_binding import cores_for, read_topology

    mine = {rank.rank_id: rank.device_id for rank in places.table.ranks_of(places.server_id)}
    return cores_for(config.bind, mine, read_topology(places.backend, mine.values()))


def _render(table: RankTable) -> str:
    from rank_table.render import render

    return render(table)


def check_program(config: JobConfig, source: Provenance, command: Sequence[str]) -> list[str]:
    """Let the program's own check look at its flags; give its notes.

    It runs as a process of its own: what it imports is the trainer's side, not the launcher's.

    Raises:
        ConfigError: one line for each finding, all at once.
    """
    module = config.check or CHECKS.get(str(config.program), "")
    if command or not module:
        return []
    answer = _ask(config.python or sys.executable, module, arguments(config.args))
    findings = [(str(f["key"]), str(f["message"])) for f in answer.get("findings", ())]
    if findings:
        lines = [str(source.error(key, message)) for key, message in findings]
        raise ConfigError("\nnpu-launch: ".join(lines))
    return [str(note) for note in answer.get("notes", ())]


def _ask(python: str, module: str, flags: Sequence[str]) -> dict[str, Any]:
    command = [python, "-m", module, *flags]
    done = subprocess.run(command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, check=False)
    try:
        answer = json.loads(done.stdout.decode())
    except ValueError:
        answer = None
    if not isinstance(answer, dict):
        raise LauncherError(f"{' '.join(command)} ended with code {done.returncode} and no answer")
    return answer
