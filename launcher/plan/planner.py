"""Plan a job: find the devices, number the ranks, compute what each of them gets.

It reads the machine (inventory, cores, clock) and runs only programs that answer a question: the Ascend
tools and the job's check. Nothing is written.
"""

from __future__ import annotations

import os
import time
from dataclasses import dataclass, replace
from typing import Container, Mapping, Sequence

from launcher.config import ascend_env
from launcher.config.checks import HEARTBEAT_VARIABLE, HEARTBEATS
from launcher.config.job import JobConfig, Provenance
from launcher.errors import ConfigError, UsageError
from launcher.output import echo
from launcher.plan import build, environment, placement, ports, server_order
from launcher.plan.build import LaunchContext
from launcher.plan.command import missing_program
from launcher.plan.cpu_quota import cpu_quota
from launcher.plan.devices import parse_devices
from launcher.plan.model import Plan
from launcher.plan.placement import Placement
from launcher.plan.program_check import check_program
from launcher.profiles import choice
from launcher.profiles.base import Meeting
from rank_table.sources.tools import Machine
from rank_table.sources.visible import RT_VISIBLE
from rank_table.table import RankTable


@dataclass(frozen=True)
class PlannedJob:
    """A plan and what it was made from."""

    config: JobConfig
    plan: Plan
    table: RankTable
    command: tuple[str, ...] = ()  # after `--`


def plan_job(config: JobConfig, source: Provenance, command: Sequence[str]) -> PlannedJob:
    """Compute the plan of a job, or refuse it with everything that is wrong with its files.

    Raises:
        UsageError: the job is invalid. PreflightError: the devices are not there or do not answer.
        NotFoundError, NotExecutableError: the program.
    """
    missing_program(config, command, source)
    here = launch_dir()
    on_event = build.hook(config, source, os.environ, here)
    config, told = heartbeat_of_shell(config, source, os.environ)
    settled = choice.settle(config, source, command, here, os.environ.get("PATH", ""))
    config = settled.config
    devices = parse_devices(config.devices)
    notes = check_program(config, source, command)
    placed = _placement(config, source, devices)
    outer, sourced = ascend_env.load(config.ascend_env, os.environ, here, source)
    run_id = config.run_id or new_run_id(config.job)
    launch = LaunchContext(
        placement=placed,
        run_id=run_id,
        run_dir=os.path.join(here, os.path.expanduser(config.runs_dir), run_id),
        launch_dir=here,
        environ=outer,
        cores=sorted(os.sched_getaffinity(0)),
        bound=bound(config, placed),
        quota=cpu_quota(),
        provenance=source,
        meeting=_meeting(config, run_id, placed),
        max_restarts=config.max_restarts,
        table_free=config.rank_table_free,
    )
    doubt = settled.doubt if placed.table.world_size > 1 else ()
    said = (*source.notes, *told, *settled.notes, *doubt, *notes, *placed.notes)
    said = (*said, *([sourced] if sourced else []))
    plan = build.build_plan(config, command, launch, said)
    plan = replace(plan, policy=replace(plan.policy, on_event=on_event))
    if config.stdin_rank >= len(plan.ranks):
        last = len(plan.ranks) - 1
        raise source.error("stdin_rank", f"{config.stdin_rank}; the ranks are 0 to {last}")
    return PlannedJob(config, reviewed(plan, config, source), placed.table, tuple(command))


def _meeting(config: JobConfig, run_id: str, placed: Placement) -> Meeting:
    """Choose where the ranks meet on this host: only frameworks that ask for it make the kernel look."""
    if not choice.profile(config.framework).meets:
        return Meeting()
    size = placed.table.world_size
    port = ports.free(run_id, 1 + size)
    return Meeting(Meeting.address, port, tuple(f"{Meeting.address}:{port + 1 + n}" for n in range(size)))


def heartbeat_of_shell(
    config: JobConfig, source: Provenance, environ: Mapping[str, str]
) -> tuple[JobConfig, tuple[str, ...]]:
    """Take NPU_LAUNCH_HEARTBEAT of the shell for the job's heartbeat, where the job itself says nothing.

    Raises:
        ConfigError: it has another value than the key takes.
    """
    told = environ.get(HEARTBEAT_VARIABLE, "")
    if not told or "heartbeat" in source.written or HEARTBEAT_VARIABLE in config.env:
        return config, ()
    if told not in HEARTBEATS:
        problem = f"{told!r:.60}: invalid value (expected one of {', '.join(HEARTBEATS)}); unset it"
        raise ConfigError(problem, file="environment", key=HEARTBEAT_VARIABLE)
    return replace(config, heartbeat=told), (f"heartbeat {told}: {HEARTBEAT_VARIABLE} of the shell says it",)


def new_run_id(job: str) -> str:
    """Make the name of a new run: the job's, the time, four random digits."""
    return f"{job}-{time.strftime('%Y%m%d-%H%M%S')}-{os.urandom(2).hex()}"


def reviewed(plan: Plan, config: JobConfig, source: Provenance) -> Plan:
    """Add remarks on the ranks' environment to the notes. ConfigError: what HCCL would refuse."""
    profile, first = choice.profile(config.framework), plan.ranks[0]
    bound = bool(first.cores)
    errors, notes = environment.review(first.env, plan.backend, config.chip, profile, bound=bound)
    if errors:
        own = {name for name in first.env if first.env[name] != os.environ.get(name)}
        raise UsageError(*(str(_of_variable(*error, config, source, own)) for error in errors))
    return replace(plan, notes=(*plan.notes, *notes))


def _of_variable(
    name: str, message: str, config: JobConfig, source: Provenance, own: Container[str]
) -> ConfigError:
    """Make the error of a variable that was set in the job, or else in the shell of the launcher.

    own: variables that the shell has otherwise; of those it is the job's devices that make the list.
    """
    if name in config.env:
        return source.error("env." + name, message)
    if name == RT_VISIBLE and name in own:
        key = "rank_table_file" if config.rank_table_file else "devices"
        return source.error(key, f"{name} would be {message}")
    return ConfigError(message, file="environment", key=name)


def launch_dir() -> str:
    """Return the directory of the command. ConfigError: it is gone."""
    try:
        return os.getcwd()
    except FileNotFoundError:
        raise ConfigError("the current directory does not exist any more; cd to one that does") from None


def _placement(config: JobConfig, source: Provenance, devices: tuple[int, ...]) -> Placement:
    """Return the rank table: that of `rank_table_file`, or one made from an inventory."""
    machine = Machine(os.environ)
    if not config.rank_table_file:
        chosen = placement.choose_inventory(devices, config.backend, config.inventory, machine, config.chip)
        if server_order.applies(config, chosen.backend):
            inventory, why = server_order.ordered(chosen.inventory)
            chosen = replace(chosen, inventory=inventory, notes=(*chosen.notes, *why))
        return placement.made_table(chosen, machine, unread=not choice.reads_table(config))
    path = os.path.expanduser(config.rank_table_file)
    given = placement.given_table(path, config.backend, machine, notify=notify)
    if server_order.applies(config, given.backend):
        server_order.refuse(given.table, config.rank_table_file)
    mine = sorted(rank.device_id for rank in given.table.ranks_of(given.server_id))
    said = "devices" in source.written and config.devices != JobConfig.devices
    if said and sorted(devices) != mine:
        text = f"{config.devices}, but {config.rank_table_file} has devices {','.join(map(str, mine))}"
        raise source.error("devices", text + " on this host; leave devices out")
    return given


def notify(line: str) -> None:
    """Tell the user what is waited for."""
    echo("npu-launch: " + line, err=True)


def bound(config: JobConfig, placed: Placement) -> dict[int, tuple[int, ...]]:
    """Return the cores that this host's ranks are bound to; without `bind` the machine is not asked."""
    if config.bind == "none":
        return {}
    from launcher.plan.cpu_binding import cores_for, read_topology

    mine = {rank.rank_id: rank.device_id for rank in placed.table.ranks_of(placed.server_id)}
    return cores_for(config.bind, mine, read_topology(placed.backend, mine.values()))
