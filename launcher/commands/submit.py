"""`npu-launch submit --engine ENGINE [OPTIONS] [JOB.yaml] [KEY=VALUE ...] [-- COMMAND ...]`."""

from __future__ import annotations

import dataclasses
from importlib import import_module
from typing import Any, Callable

import click

from launcher.commands.run import CommandAfterDashes, split
from launcher.errors import UsageError
from launcher.output import echo, echo_document
from launcher.submit.job import read_job

# Each module has the dataclass Options and settled(), render(), submit(), all of which get the engine's name.
MODULES = {
    "slurm": "launcher.submit.slurm",
    "kubernetes": "launcher.submit.kubernetes",
    "volcano": "launcher.submit.kubernetes",
    "ascendjob": "launcher.submit.kubernetes",
}


def _with_options(function: Callable[..., None]) -> Callable[..., None]:
    """Add the options of all engines; help says which engine has one that not all have."""
    fields: dict[str, Any] = {}
    engines: dict[str, list[str]] = {}
    for engine, module in MODULES.items():
        for field in dataclasses.fields(import_module(module).Options):
            fields.setdefault(field.name, field)
            engines.setdefault(field.name, []).append(engine)
    for name, field in reversed(list(fields.items())):
        some = engines[name] if len(engines[name]) < len(MODULES) else []
        function = _option(field, ", ".join(some))(function)
    return function


def _option(field: Any, engines: str) -> Callable[..., Any]:
    meaning = (f"{engines}: " if engines else "") + field.metadata["help"]
    name = "--" + field.name.replace("_", "-")
    if field.default is False:
        return click.option(name, is_flag=True, default=None, help=meaning)
    kind = int if isinstance(field.default, int) else str
    metavar = field.metadata["metavar"] or ("N" if kind is int else field.name.upper())
    several = isinstance(field.default, tuple)
    return click.option(name, type=kind, multiple=several, default=None, metavar=metavar, help=meaning)


@click.command(cls=CommandAfterDashes)
@click.argument("words", nargs=-1, metavar="[JOB.yaml] [KEY=VALUE]... [-- COMMAND ...]")
@click.option("--engine", required=True, type=click.Choice(list(MODULES)), help="the queue that gets the job")
@click.option("--dry-run", is_flag=True, help="print what would be submitted")
@_with_options
def submit(words: tuple[str, ...], engine: str, dry_run: bool, **given: Any) -> None:
    """Hand a job to a queue: render what the engine is to run, and submit it."""
    module = import_module(MODULES[engine])
    file, overrides = split(words)
    job = read_job(file or "", overrides, click.get_current_context().meta["command"])
    options = module.settled(engine, job, _chosen(module.Options, engine, given))
    text = module.render(engine, job, options)
    if dry_run:
        echo_document(text)
    else:
        echo(*module.submit(engine, job, options, text))


def _chosen(options: Any, engine: str, given: dict[str, Any]) -> Any:
    """Make the engine's Options of what was given. UsageError: options of another engine."""
    own = {field.name for field in dataclasses.fields(options)}
    values = {name: value for name, value in given.items() if value not in (None, ())}
    wrong = [f"--{name.replace('_', '-')}: not an option of {engine}" for name in values if name not in own]
    if wrong:
        raise UsageError(*wrong)
    return options(**values)
