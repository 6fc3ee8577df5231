"""From a job and an inventory to a Plan: no process, no file, no clock."""

from __future__ import annotations

import os
import shutil
from dataclasses import dataclass, field
from typing import Mapping, Sequence

from launcher.config.job import JobConfig, Provenance, arguments
from launcher.errors import NotExecutableError, NotFoundError
from launcher.plan import environment
from launcher.plan.model import Plan, Policy, RankSpec
from launcher.plan.placement import GivenTable
from rank_table.model import Rank

WORKER = os.path.join(os.path.dirname(os.path.dirname(os.path.abspath(__file__))), "worker.py")


@dataclass(frozen=True)
class Site:
    """Hold what the ranks of a run share: their places, the run's folder, what is around the launcher."""

    places: GivenTable
    run_id: str
    run_dir: str
    launch_dir: str  # where the user typed the command
    environ: Mapping[str, str]
    cores: Sequence[int]
    bound: Mapping[int, tuple[int, ...]] = field(default_factory=dict)  # rank: cores that it is bound to

    def logical_id(self, entry: Rank) -> int:
        """Give a rank's ASCEND_DEVICE_ID."""
        return self.places.logical_ids[(entry.server_id, entry.device_id)]

    def threads(self, rank: int) -> int:
        """Give a rank its share of this host's cores, or those that it is bound to."""
        mine = len(self.places.table.ranks_of(self.places.server_id))
        return len(self.bound.get(rank, ())) or max(1, len(self.cores) // max(1, mine))


def build_plan(config: JobConfig, command: Sequence[str], site: Site, notes: tuple[str, ...] = ()) -> Plan:
    """Compute every rank of the job.

    Raises:
        NotFoundError, NotExecutableError: the program.
    """
    words = tuple(argv(config, command, site.environ, site.launch_dir))
    at_launch = (config.cwd or ("launch" if is_command(config, command) else "rank")) == "launch"
    places = site.places
    ranks = tuple(_spec(config, site, entry, words, at_launch) for entry in places.table.ranks)
    return Plan(
        config.job, site.run_id, site.run_dir, places.server_id, places.backend, places.text, ranks,
        _policy(config), notes,
    )  # fmt: skip


def _spec(config: JobConfig, site: Site, entry: Rank, words: tuple[str, ...], at_launch: bool) -> RankSpec:
    return RankSpec(
        rank=entry.rank_id,
        server_id=entry.server_id,
        device_id=entry.device_id,
        ascend_device_id=site.logical_id(entry),
        local_rank=site.places.table.ranks_of(entry.server_id).index(entry),
        argv=words,
        env=_environment(config, site, entry),
        cwd=site.launch_dir if at_launch else os.path.join(site.run_dir, "ranks", str(entry.rank_id)),
        cores=site.bound.get(entry.rank_id, ()),
    )


def _environment(config: JobConfig, site: Site, entry: Rank) -> dict[str, str]:
    """Give the whole environment of a rank; the job's `env` has the last word."""
    places = site.places
    mates = places.table.ranks_of(entry.server_id)
    env = environment.of_rank(
        site.environ,
        rank=entry.rank_id,
        size=places.table.world_size,
        local_rank=mates.index(entry),
        local_size=len(mates),
        device_id=entry.device_id,
        ascend_device_id=site.logical_id(entry),
        run_dir=site.run_dir,
        run_id=site.run_id,
        backend=places.backend,
        threads=site.threads(entry.rank_id),
        launch_dir=site.launch_dir,
    )
    if config.rank_table_free and places.backend == "npu":
        chief = places.table.ranks[0]
        env = environment.without_rank_table(
            env,
            chief_ip=chief.server_id,
            chief_device=site.logical_id(chief),
            worker_ip=entry.server_id,
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
    """Tell commands, which are run as they stand, from Python programs."""
    return bool(command) or isinstance(config.program, list)


def argv(config: JobConfig, command: Sequence[str], environ: Mapping[str, str], launch_dir: str) -> list[str]:
    """Give the command line of a rank; Python programs run below the worker file."""
    flags = arguments(config.args)
    if is_command(config, command):
        words = [str(word) for word in (command or config.program)]
        return [executable(words[0], environ, launch_dir), *words[1:], *flags]
    python = executable(config.python or _own_python(), environ, launch_dir)
    program = str(config.program)
    if program.endswith(".py"):
        path = os.path.join(launch_dir, program)
        if not os.path.isfile(path):
            raise NotFoundError(f"{path}: no such program")
        return [python, "-u", WORKER, path, *flags]
    return [python, "-u", WORKER, "-m", program, *flags]


def _own_python() -> str:
    import sys

    return sys.executable


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
