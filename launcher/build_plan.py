"""From a job and an inventory to a Plan: no process, no file, no clock."""

from __future__ import annotations

import dataclasses
import os
import shutil
from types import MappingProxyType
from typing import Any, List, Mapping, Optional, Sequence, Tuple

from launcher import environment
from launcher.config import JobConfig, Source, arguments
from launcher.errors import NotExecutableError, NotFoundError
from launcher.plan import Plan, Policy, RankSpec

WORKER = os.path.join(os.path.dirname(os.path.abspath(__file__)), "worker.py")


def build_plan(
    config: JobConfig,
    *,
    command: Sequence[str],
    table: Any,
    rank_table_json: str,
    host: str,
    logical_ids: Mapping[Tuple[str, int], int],
    backend: str,
    run_dir: str,
    run_id: str,
    environ: Mapping[str, str],
    cores: Sequence[int],
    launch_dir: str,
    bound: Mapping[int, Tuple[int, ...]] = MappingProxyType({}),
    notes: Tuple[str, ...] = (),
) -> Plan:
    """Compute every rank of the job.

    `host` is the server_id of this host; `logical_ids` maps (server_id, device_id) to the logical id,
    `bound` a rank to the cores that it is bound to.
    """
    threads = max(1, len(cores) // max(1, len(table.ranks_of(host))))
    specs: List[RankSpec] = []
    for entry in table.ranks:
        mates = table.ranks_of(entry.server_id)
        local = mates.index(entry)
        logical = logical_ids[(entry.server_id, entry.device_id)]
        env = environment.of_rank(
            environ,
            rank=entry.rank_id,
            size=table.world_size,
            local_rank=local,
            local_size=len(mates),
            device_id=entry.device_id,
            ascend_device_id=logical,
            run_dir=run_dir,
            run_id=run_id,
            backend=backend,
            threads=len(bound.get(entry.rank_id, ())) or threads,
            launch_dir=launch_dir,
        )
        if config.rank_table_free and backend == "npu":
            chief = table.ranks[0]
            env = environment.without_rank_table(
                env,
                chief_ip=chief.server_id,
                chief_device=logical_ids[(chief.server_id, chief.device_id)],
                worker_ip=entry.server_id,
            )
        env.update(config.env)
        where = os.path.join(run_dir, "ranks", str(entry.rank_id))
        if (config.cwd or ("launch" if is_command(config, command) else "rank")) == "launch":
            where = launch_dir
        specs.append(
            RankSpec(
                rank=entry.rank_id,
                server_id=entry.server_id,
                device_id=entry.device_id,
                ascend_device_id=logical,
                local_rank=local,
                argv=tuple(argv(config, command, environ, launch_dir)),
                env=env,
                cwd=where,
                cores=bound.get(entry.rank_id, ()),
            )
        )
    same = {item.name for item in dataclasses.fields(Policy)} & set(vars(config))
    policy = Policy(**{name: _frozen(getattr(config, name)) for name in same})
    return Plan(config.job, run_id, run_dir, host, backend, rank_table_json, tuple(specs), policy, notes)


def _frozen(value: Any) -> Any:
    return tuple(value) if isinstance(value, list) else value


def is_command(config: JobConfig, command: Sequence[str]) -> bool:
    """Tell commands, which are run as they stand, from Python programs."""
    return bool(command) or isinstance(config.program, list)


def argv(
    config: JobConfig, command: Sequence[str], environ: Mapping[str, str], launch_dir: str
) -> List[str]:
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
            raise NotFoundError("%s: no such program" % path)
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
        path: Optional[str] = os.path.join(launch_dir, name)
        if not os.path.exists(str(path)):
            raise NotFoundError("%s: no such program" % name)
        if os.path.isdir(str(path)) or not os.access(str(path), os.X_OK):
            raise NotExecutableError("%s: not executable; chmod +x it, or name its interpreter" % name)
        return str(path)
    path = shutil.which(name, path=environ.get("PATH"))
    if path is None:
        raise NotFoundError("%s: no such program on PATH" % name)
    return path


def missing_program(config: JobConfig, command: Sequence[str], source: Source) -> None:
    """Refuse a job that names nothing to run."""
    if not command and not config.program:
        raise source.error("program", "missing; give a module, a script, or `-- COMMAND ...`")
