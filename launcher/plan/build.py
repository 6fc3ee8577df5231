"""From a job and an inventory to a Plan: no process, no file, no clock."""

from __future__ import annotations

import os
import shutil
import sys
from dataclasses import dataclass, field
from typing import Mapping, Sequence

from launcher.config.job import JobConfig, Provenance, arguments
from launcher.errors import NotExecutableError, NotFoundError
from launcher.plan import environment
from launcher.plan.model import Plan, Policy, RankSpec
from launcher.plan.placement import Placement
from launcher.profiles.base import RankContext
from launcher.profiles.tensorflow import without_rank_table
from rank_table.model import Rank

WORKER = os.path.join(os.path.dirname(os.path.dirname(os.path.abspath(__file__))), "worker.py")


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

    def logical_id(self, entry: Rank) -> int:
        """Return the ASCEND_DEVICE_ID of a rank."""
        return self.placement.logical_ids[(entry.server_id, entry.device_id)]

    def threads(self, rank: int) -> int:
        """Count the cores that a rank is bound to, or its share of this host's cores."""
        mine = len(self.placement.table.ranks_of(self.placement.server_id))
        return len(self.bound.get(rank, ())) or max(1, len(self.cores) // max(1, mine))

    def rank(self, entry: Rank) -> RankContext:
        """Return what the environment of a rank is made from."""
        mates = self.placement.table.ranks_of(entry.server_id)
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
        )


def build_plan(
    config: JobConfig, command: Sequence[str], launch: LaunchContext, notes: tuple[str, ...] = ()
) -> Plan:
    """Compute every rank of the job.

    Raises:
        NotFoundError, NotExecutableError: the program.
    """
    words = tuple(argv(config, command, launch.environ, launch.launch_dir))
    at_launch = (config.cwd or ("launch" if is_command(config, command) else "rank")) == "launch"
    placement = launch.placement
    return Plan(
        job=config.job,
        run_id=launch.run_id,
        run_dir=launch.run_dir,
        host=placement.server_id,
        backend=placement.backend,
        rank_table_json=placement.text,
        ranks=tuple(_spec(config, launch, entry, words, at_launch) for entry in placement.table.ranks),
        policy=_policy(config),
        notes=notes,
    )


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
        env=_environment(config, launch, entry, rank),
        cwd=launch.launch_dir if at_launch else rank.rank_dir,
        cores=launch.bound.get(rank.rank, ()),
    )


def _environment(config: JobConfig, launch: LaunchContext, entry: Rank, rank: RankContext) -> dict[str, str]:
    """Return the whole environment of a rank; the job's `env` takes precedence."""
    env = environment.of_rank(launch.environ, rank)
    if config.rank_table_free and rank.backend == "npu":
        chief = launch.placement.table.ranks[0]
        device = launch.logical_id(chief)
        env = without_rank_table(
            env, chief_ip=chief.server_id, chief_device=device, worker_ip=entry.server_id
        )
    return {**env, **config.env}


def _policy(config: JobConfig) -> Policy:
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
    )


def is_command(config: JobConfig, command: Sequence[str]) -> bool:
    """Say whether the job is a command, run as it is given, and not a Python program."""
    return bool(command) or isinstance(config.program, list)


def argv(config: JobConfig, command: Sequence[str], environ: Mapping[str, str], launch_dir: str) -> list[str]:
    """Return the command line of a rank; Python programs are run by the worker file."""
    flags = arguments(config.args)
    if is_command(config, command):
        words = [str(word) for word in (command or config.program)]
        return [executable(words[0], environ, launch_dir), *words[1:], *flags]
    python = executable(config.python or sys.executable, environ, launch_dir)
    program = str(config.program)
    if program.endswith(".py"):
        path = os.path.join(launch_dir, program)
        if not os.path.isfile(path):
            raise NotFoundError(f"{path}: no such program")
        return [python, "-u", WORKER, path, *flags]
    return [python, "-u", WORKER, "-m", program, *flags]


def executable(name: str, environ: Mapping[str, str], launch_dir: str) -> str:
    """Find a program as a shell would.

    Raises:
        NotFoundError: there is none (127). NotExecutableError: it cannot be run (126).
    """
    if os.sep in name:
        path: str | None = os.path.join(launch_dir, name)
        if not os.path.exists(str(path)):
            raise NotFoundError(f"{name}: no such program")
        if os.path.isdir(str(path)) or not os.access(str(path), os.X_OK):
            raise NotExecutableError(f"{name}: not executable; chmod +x it, or name its interpreter")
        return str(path)
    path = shutil.which(name, path=environ.get("PATH"))
    if path is None:
        raise NotFoundError(f"{name}: no such program on PATH")
    return path


def missing_program(config: JobConfig, command: Sequence[str], source: Provenance) -> None:
    """Refuse a job that names nothing to run."""
    if not command and not config.program:
        raise source.error("program", "missing; give a module, a script, or `-- COMMAND ...`")
