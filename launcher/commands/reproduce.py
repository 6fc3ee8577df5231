"""npu-launch reproduce: start a run's job again, and say what differs on this machine."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Any

import click

from launcher.errors import ReadError, UsageError
from launcher.output import echo, echo_json, flush
from launcher.runs import registry


@click.command()
@click.argument("run", default="")
@click.argument("overrides", nargs=-1, metavar="[KEY=VALUE]...")
@click.option("--run", "start", is_flag=True, help="Start it: a new run; exits as it does.")
@click.option("--json", "as_json", is_flag=True, help="Print it as JSON.")
@click.option(
    "--runs-dir", metavar="DIR", default="runs", show_default=True, help="Folder that holds the run folders."
)
def reproduce(run: str, overrides: tuple[str, ...], start: bool, as_json: bool, runs_dir: str) -> None:
    """Print the command that starts a run's job again, and what differs on this machine. RUN: the last one.

    KEY=VALUE gives a secret again, which no run keeps, or changes the job.
    """
    from launcher.reproduce import differences, job

    if start and as_json:
        raise UsageError("--json: not with --run, whose output is that of the run; give one of them")
    found = registry.resolve(run, runs_dir)
    try:
        known = job.read(found)
    except ReadError as error:
        raise UsageError(str(error)) from None
    shell = dict(os.environ)
    _enter(known.folder)
    os.environ.update(known.environ)
    needed = [name for name in known.secrets if not any(one.startswith(name + "=") for one in overrides)]
    words = [known.words[0], *overrides, *known.words[1:]]
    compared = differences.Comparison((), (), ())
    if not needed:
        compared = differences.compare(found, known.words, overrides, known.plan)
    line = job.Job(known.folder, tuple(words), known.environ).line(shell)
    told: dict[str, Any] = {
        "run": str(found.path),
        "command": line,
        "secrets": needed,
        "differs": [one._asdict() for one in compared.differences],
        "refused": list(compared.refusals),
        "not_known": [*known.unknown, *compared.unknown],
    }
    if as_json:
        echo_json(told)
    else:
        echo(*_lines(told), err=start)
    if start:
        if needed:
            raise UsageError(f"{', '.join(needed)}: a secret, which no run keeps; give KEY=VALUE after RUN")
        _start(words)


def _enter(folder: str) -> None:
    try:
        os.chdir(folder or ".")
    except OSError as error:
        raise UsageError(f"{folder}: the run's folder: {error.strerror}; make it, or mount it") from None
    os.environ["PWD"] = os.getcwd()


def _lines(told: dict[str, Any]) -> list[str]:
    """Say it for people."""
    lines = [told["command"]]
    lines += [f"needed: {name} (a secret, which no run keeps)" for name in told["secrets"]]
    lines += [f"this machine refuses it: {text}" for text in told["refused"]]
    lines += [
        f"differs: {one['name']}: {_value(one['then'])} -> {_value(one['now'])}" for one in told["differs"]
    ]
    lines += [f"not known: {text}" for text in told["not_known"]]
    if not (told["secrets"] or told["refused"] or told["differs"] or told["not_known"]):
        lines.append("nothing differs on this machine")
    return lines


def _value(text: str) -> str:
    is_hash = len(text) == 64 and not set(text) - set("0123456789abcdef")
    return text[:12] if is_hash else text or "not there"


def _start(words: list[str]) -> None:
    """Become the launch: its signals and its exit code are the run's own."""
    from launcher.process.itself import PROGRAM

    flush()
    os.execv(sys.executable, [sys.executable, str(Path(PROGRAM[1])), "run", *words])
