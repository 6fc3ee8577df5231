"""Which framework a job's ranks run: as the job says, else as the program's own imports say."""

from __future__ import annotations

import os
from dataclasses import replace
from importlib import import_module
from typing import NamedTuple, Sequence

from launcher.config.job import JobConfig, Provenance
from launcher.profiles import imports
from launcher.profiles.base import Profile

FRAMEWORKS = ("tensorflow", "torch", "mindspore", "paddle", "none")
DEFAULT = "tensorflow"


class Settled(NamedTuple):
    """A job with its framework, as far as that is known; without one ranks get what TensorFlow's need.

    notes: where one other than TensorFlow was recognised. doubt: why none is known; several ranks of another
    than TensorFlow would then not find each other.
    """

    config: JobConfig
    notes: tuple[str, ...] = ()
    doubt: tuple[str, ...] = ()


def profile(framework: str) -> Profile:
    """Return the profile of a framework; that of no framework for another name."""
    name = framework or DEFAULT
    if name not in FRAMEWORKS or name == Profile.name:
        return Profile()
    found: Profile = getattr(import_module(f"launcher.profiles.{name}"), name.upper())
    return found


def reads_table(config: JobConfig) -> bool:
    """Tell whether HCCL or the framework reads the rank table of a job on NPUs."""
    return profile(config.framework).reads_table and not config.rank_table_free


def settle(
    config: JobConfig, source: Provenance, command: Sequence[str], launch_dir: str, path: str = ""
) -> Settled:
    """Fill in the framework of a job. path: of the shell, in which commands are sought.

    Raises:
        ConfigError: it names none, or another key does not go with it.
    """
    settled = _settled(config, source, command, launch_dir, path)
    if config.rank_table_free and not profile(settled.config.framework).reads_table:
        problem = f"{settled.config.framework} ranks read no rank table (expected with another framework)"
        raise source.error("rank_table_free", problem + "; leave it out")
    return settled


def _settled(
    config: JobConfig, source: Provenance, command: Sequence[str], launch_dir: str, path: str
) -> Settled:
    if config.framework:
        if config.framework not in FRAMEWORKS:
            expected = f"(expected {', '.join(FRAMEWORKS)}); leave it out to have it recognised"
            raise source.error("framework", f"unknown framework {config.framework!r:.40} {expected}")
        return Settled(config)
    program = imports.Program.of(config, command, launch_dir, path)
    found = imports.look(program)
    if found.framework:
        why = f"{_where(program, found.file, launch_dir)} imports {found.package}"
    elif config.heartbeat:
        found, why = replace(found, framework=config.heartbeat), f"heartbeat: {config.heartbeat}"
    else:
        return Settled(config, (), _doubt(program, launch_dir) if found.unknown else ())
    note = f"framework {found.framework}: {why}; to have another, set framework:"
    return Settled(replace(config, framework=found.framework), (note,) if found.framework != DEFAULT else ())


def _where(program: imports.Program, file: str, launch_dir: str) -> str:
    if not file:
        return f"-m {program.module}"
    shown = os.path.relpath(file, launch_dir)
    by = os.path.relpath(program.file, launch_dir) if program.file else f"-m {program.module}"
    return shown if file == program.file else f"{by}, by {shown},"


def _doubt(program: imports.Program, launch_dir: str) -> tuple[str, ...]:
    read = os.path.relpath(program.file, launch_dir) if program.file else "the command"
    what = f"{read} does not show which; ranks get what TensorFlow's need, and no RANK or MASTER_ADDR"
    return (f"framework: {what}; if it is another, say framework: torch, mindspore, paddle or none",)
