"""From a job and an inventory to a Plan: no process, no file, no clock."""

from __future__ import annotations

import os
import shlex
from dataclasses import dataclass, field, replace
from typing import Iterator, Mapping, Sequence

from launcher.config.checks import HEARTBEAT_VARIABLE, HEARTBEATS
from launcher.config.job import JobConfig, Provenance
from launcher.errors import NotExecutableError, NotFoundError
from launcher.plan import contradictions, environment, nested
from launcher.plan.command import WORKER, argv, executable, is_command
from launcher.plan.cpu_quota import UNLIMITED, most_cores
from launcher.plan.expansion import expand
from launcher.plan.model import Plan, Policy, RankSpec
from launcher.plan.placement import Placement
from launcher.profiles import choice
from launcher.profiles.base import Meeting, Profile, RankContext
from launcher.run_dir import rank_folder
from launcher.text import SCHEDULER
from rank_table.model import Rank
from rank_table.sources.visible import MOST, RT_VISIBLE, parse_rt_visible


@dataclass(frozen=True)
class LaunchContext:
    """What the ranks of a run share: rank table, run folder, and the surroundings of the launcher."""

    placement: Placement
    run_id: str
    run_dir: str
    launch_dir: str  # where the user typed the command
    environ: Mapping[str, str]
    cores: Sequence[int]
    bound: Mapping[int, tuple[int, ...]] = field(default_factory=dict)  # rank: cores that it is bound to
    quota: float = UNLIMITED  # CPUs' time that the container may use
    provenance: Provenance = field(default_factory=Provenance)
    addresses: Mapping[str, str] = field(default_factory=dict)  # by server_id; of a job on several hosts
    meeting: Meeting = Meeting()
    max_restarts: int = 0
    table_free: bool = False

    @property
    def entries(self) -> tuple[Rank, ...]:
        """The ranks to plan: on several hosts this host's own, the others' agents plan theirs."""
        table = self.placement.table
        return table.ranks_of(self.placement.server_id) if self.addresses else table.ranks

    def address(self, server_id: str) -> str:
        """Return the address of a server."""
        return self.addresses.get(server_id, server_id)

    def logical_id(self, entry: Rank) -> int:
        """Return the ASCEND_DEVICE_ID of a rank."""
        return self.placement.logical_ids[(entry.server_id, entry.device_id)]

    def visible_id(self, entry: Rank) -> int:
        """Return what ASCEND_RT_VISIBLE_DEVICES takes for a device: such a list of the shell renumbers it."""
        number, text = self.logical_id(entry), self.environ.get(RT_VISIBLE, "")
        if not text or entry.server_id != self.placement.server_id:
            return number
        outer, _ = parse_rt_visible(text, MOST)
        return outer[number] if number < len(outer) else number

    def threads(self, rank: int) -> int:
        """Count the cores that a rank is bound to, or its share of this host's cores, within its quota."""
        mine = len(self.placement.table.ranks_of(self.placement.server_id))
        cores = len(self.bound.get(rank, ())) or max(1, len(self.cores) // max(1, mine))
        return min(cores, most_cores(self.quota, mine) or cores)

    def rank(self, entry: Rank) -> RankContext:
        """Return what the environment of a rank is made from."""
        table = self.placement.table
        mates = table.ranks_of(entry.server_id)
        return RankContext(
            rank=entry.rank_id,
            size=self.placement.table.world_size,
            local_rank=mates.index(entry),
            local_size=len(mates),
            device_id=entry.device_id,
            ascend_device_id=self.logical_id(entry),
            run_dir=self.run_dir,
            run_id=self.run_id,
            backend=self.placement.backend,
            threads=self.threads(entry.rank_id),
            launch_dir=self.launch_dir,
            host=table.servers.index(entry.server_id),
            hosts=len(table.servers),
            visible=tuple(self.visible_id(mate) for mate in mates),
            meeting=self.meeting,
            max_restarts=self.max_restarts,
            table_free=self.table_free,
            address=self.address(entry.server_id),
            chief_address=self.address(table.ranks[0].server_id),
            chief_device=self.logical_id(table.ranks[0]),
        )


def build_plan(
    config: JobConfig, command: Sequence[str], launch: LaunchContext, notes: tuple[str, ...] = ()
) -> Plan:
    """Compute every rank of the job.

    Raises:
        NotFoundError, NotExecutableError: the program. ConfigError: it is a launcher, or a variable in `env`
        is not set.
    """
    mine = [rank.device_id for rank in launch.placement.table.ranks_of(launch.placement.server_id)]
    nested.refuse(config, command, launch.provenance, mine)
    words = tuple(argv(config, command, launch.environ, launch.launch_dir))
    at_launch = (config.cwd or ("launch" if is_command(config, command) else "rank")) == "launch"
    placement = launch.placement
    passed_over = contradictions.not_passed_on(launch.environ, choice.profile(config.framework))
    ranks = tuple(_spec(config, launch, entry, words, at_launch) for entry in launch.entries)
    return Plan(
        job=config.job,
        run_id=launch.run_id,
        run_dir=launch.run_dir,
        host=placement.server_id,
        backend=placement.backend,
        rank_table_json=placement.text,
        ranks=ranks,
        scheduler=_scheduler(config, launch, ranks, at_launch),
        policy=policy_of(config),
        notes=(*notes, *passed_over, *_heartbeat_notes(config, words)),
    )


def _heartbeat_notes(config: JobConfig, words: Sequence[str]) -> Iterator[str]:
    """Yield a note where no step would be told: a command's, or those of another framework."""
    key = "heartbeat" if config.heartbeat else f"env.{HEARTBEAT_VARIABLE}"
    name = config.env.get(HEARTBEAT_VARIABLE, config.heartbeat)
    if name and WORKER not in words:
        command = os.path.basename(words[0])
        yield f"{key}: no effect on the command {command}; give a script.py or -m MODULE without it"
    elif name in HEARTBEATS and config.framework in HEARTBEATS and name != config.framework:
        own = config.framework
        yield f"{key}: {name} tells no steps of a program of {own}; give {own}, or say framework: {name}"


def _spec(
    config: JobConfig, launch: LaunchContext, entry: Rank, words: tuple[str, ...], at_launch: bool
) -> RankSpec:
    rank = launch.rank(entry)
    return RankSpec(
        rank=rank.rank,
        server_id=entry.server_id,
        device_id=rank.device_id,
        ascend_device_id=rank.ascend_device_id,
        local_rank=rank.local_rank,
        argv=words,
        env=_environment(config, launch, rank),
        cwd=launch.launch_dir if at_launch else rank.rank_dir,
        cores=launch.bound.get(rank.rank, ()),
    )


def _scheduler(
    config: JobConfig, launch: LaunchContext, ranks: Sequence[RankSpec], at_launch: bool
) -> RankSpec | None:
    """Return the process through which ranks of some frameworks find each other: on rank 0's host."""
    first = ranks[0] if ranks and ranks[0].rank == 0 else None
    env = choice.profile(config.framework).scheduler(first.env) if first else {}
    if first is None or not env:
        return None
    folder = os.path.join(launch.run_dir, "ranks", rank_folder(SCHEDULER))
    env.update(
        NPU_LAUNCH_RANK=str(SCHEDULER),
        NPU_LAUNCH_RANK_DIR=folder,
        ASCEND_PROCESS_LOG_PATH=os.path.join(folder, "plog"),
        ASCEND_WORK_PATH=folder,
    )
    spec = replace(first, rank=SCHEDULER, device_id=-1, ascend_device_id=-1, local_rank=-1, env=env, cores=())
    return replace(spec, cwd=spec.cwd if at_launch else folder)


def _environment(config: JobConfig, launch: LaunchContext, rank: RankContext) -> dict[str, str]:
    """Return the whole environment of a rank; the job's `env` takes precedence."""
    profile = choice.profile(config.framework)
    env = environment.of_rank(launch.environ, rank, profile)
    if config.heartbeat:
        env[HEARTBEAT_VARIABLE] = config.heartbeat
    own = expand(config.env, env, launch.environ, launch.provenance)
    contradictions.refuse(profile if config.framework else Profile(), env, own, launch.provenance)
    return {**env, **own}


def policy_of(config: JobConfig) -> Policy:
    return Policy(
        grace=config.grace,
        hang_timeout=config.hang_timeout,
        early_exit_grace=config.early_exit_grace,
        max_restarts=config.max_restarts,
        restart_on=tuple(config.restart_on),
        max_log_bytes=config.max_log_bytes,
        show_ranks=tuple(config.show_ranks),
        quiet=config.quiet,
        stdin_rank=config.stdin_rank,
        gather=tuple(config.gather),
        on_event_only=tuple(config.on_event_only),
        alert_loss=config.alert_loss,
        alert_throughput=config.alert_throughput,
        fail_on_alert=tuple(config.fail_on_alert),
    )


def hook(
    config: JobConfig, provenance: Provenance, environ: Mapping[str, str], launch_dir: str
) -> tuple[str, ...]:
    """Return the command of `on_event` with its program found; it runs where npu-launch was called.

    Raises:
        ConfigError: there is no such program, or it cannot be run.
    """
    given = config.on_event
    words = shlex.split(given) if isinstance(given, str) else given
    if not words:
        return ()
    try:
        return (executable(os.path.expanduser(words[0]), environ, launch_dir), *words[1:])
    except NotFoundError as error:
        beside = os.sep not in words[0] and os.path.exists(os.path.join(launch_dir, words[0]))
        advice = f"write ./{words[0]}" if beside else "give the path of a script, or a program on PATH"
        raise provenance.error("on_event", f"{error}; {advice}") from None
    except NotExecutableError as error:
        raise provenance.error("on_event", str(error)) from None
