"""`npu-launch repeat --seeds 1-5 JOB.yaml [key=value ...]`: a job with several seeds, and what they show."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from launcher.commands.run import split
from launcher.errors import LauncherError, UsageError
from launcher.output import echo

if TYPE_CHECKING:
    from launcher.config.job import JobConfig, Provenance
    from launcher.repeat.figures import Parameters
    from launcher.repeat.groups import Group
    from launcher.repeat.record import Command, Repeat


@click.command()
@click.argument("words", nargs=-1, metavar="JOB.yaml [KEY=VALUE]...")
@click.option("--seeds", metavar="LIST", help="Seeds, such as 1-5: each is a run with seed=N.")
@click.option("--devices", metavar="LIST", help="Physical devices, such as 0-7 (else those of the job).")
@click.option("--each", type=int, metavar="N", help="Devices of a run; runs go side by side (all).")
@click.option("--against", metavar="PATH", help="Compare with a repeat, a run, or a predictions.json.")
@click.option(
    "--resample", type=click.Choice(["question", "passage", "article"]), default="passage", show_default=True,
    help="What the bootstrap draws as a whole.",
)  # fmt: skip
@click.option(
    "--resamples", type=click.IntRange(100), default=10000, show_default=True, help="Of the bootstrap."
)
@click.option(
    "--random-seed", type=click.IntRange(0, 2**32 - 1), default=0, show_default=True, help="Of the bootstrap."
)
@click.option("--resume", metavar="FOLDER", help="Go on with a repeat; the same command finds it, too.")
@click.option("--verify", metavar="FILE", help="Check a certificate.json against files and figures.")
def repeat(
    words: tuple[str, ...],
    seeds: str | None,
    devices: str | None,
    each: int | None,
    against: str | None,
    resample: str,
    resamples: int,
    random_seed: int,
    resume: str | None,
    verify: str | None,
) -> None:
    """Run a job with several seeds, one after another or side by side, and tell a difference from chance.

    \b
      npu-launch repeat --seeds 1-5 job.yaml                 one after another
      npu-launch repeat --seeds 1-8 --devices 0-7 --each 1 job.yaml    8 at once
      npu-launch repeat --seeds 1-5 job.yaml adam_epsilon=1e-4 --against runs/repeat-...
      npu-launch repeat --resume runs/repeat-...             go on after a kill
      npu-launch repeat --verify runs/repeat-.../certificate.json

    Writes certificate.json. Exit code 1: a seed has failed, or --verify finds a difference.
    """
    if verify is not None:
        from launcher.repeat import verification

        sys.exit(verification.verify(Path(verify), echo))
    from launcher.repeat import figures

    asked = figures.Parameters(resample, resamples, random_seed)
    other = figures.against(against) if against else None
    found, groups = _chosen(words, seeds, devices, each, resume)
    sys.exit(_repeat(found, groups, other, asked))


def _chosen(
    words: tuple[str, ...], seeds: str | None, devices: str | None, each: int | None, resume: str | None
) -> tuple[Repeat, list[Group]]:
    """Return the repeat to run, and the groups of devices of a new one. UsageError: missing or too much."""
    from launcher.config import job as configs
    from launcher.plan.planner import launch_dir
    from launcher.repeat import record

    if resume is not None:
        if words or seeds or devices or each is not None:
            raise UsageError("--resume: takes everything from the folder; leave out the job and its options")
        return record.reopen(Path(resume).absolute()), []
    if each is not None and each < 1:
        raise UsageError(f"--each: {each} (expected 1 or more, the devices of one run); default: all devices")
    job, overrides = split(words)
    if job is None or seeds is None:
        missing = "--seeds (such as 1-5)" if seeds is None else "a job file"
        raise UsageError(f"repeat: {missing} is missing; npu-launch repeat --seeds 1-5 job.yaml")
    config, source = configs.load(job, overrides, {"devices": devices} if devices else {})
    given = [word.partition("=")[0] for word in overrides] + (["run_id"] if config.run_id else [])
    for key in ("seed", "run_id"):
        if key in given:
            raise source.error(key, "set by repeat for each of its runs; leave it out")
    cwd = launch_dir()
    command = record.Command(
        os.path.abspath(job), tuple(overrides), record.seeds_of(seeds), config.devices, each or 0, cwd
    )
    runs_dir = Path(cwd, os.path.expanduser(config.runs_dir))
    unfinished = record.find_unfinished(command, runs_dir)
    if unfinished:
        return unfinished, []
    groups = _groups(config, source, command)
    return record.make(command, config.job, runs_dir), groups


def _groups(config: JobConfig, source: Provenance, command: Command) -> list[Group]:
    """Return the groups of devices. UsageError, PreflightError: no run could start."""
    from launcher.engines import choose
    from launcher.plan.devices import parse_devices
    from launcher.repeat import groups

    if choose.chosen(config, os.environ) is None:
        return groups.checked(config, source, command.each, len(command.seeds))
    if command.each:
        raise UsageError("--each: for the devices of one host; leave it out, or give engine=local")
    return [groups.Group(parse_devices(config.devices))]


def _repeat(found: Repeat, groups: list[Group], other: dict[str, Any] | None, asked: Parameters) -> int:
    """Run what is left of a repeat, and report it; return the exit code."""
    from launcher.config import job as configs
    from launcher.repeat import certificate, figures, record, table
    from launcher.repeat.schedule import Schedule

    command = found.command
    config, source = configs.load(command.job, command.overrides, {"devices": command.devices})
    schedule = Schedule(found, config, _say)
    with record.held(found):
        found.inputs = found.inputs or certificate.inputs(config, command.cwd)
        left = schedule.look()
        _say(f"{'repeat folder' if groups else 'goes on in'} {found.folder}")
        if len(left) < len(found.runs):
            done = len(found.runs) - len(left)
            _say(f"{done} of {len(found.runs)} seeds have finished and are not run again")
        try:
            if left:
                schedule.run(left, groups or _groups(config, source, command))
        except BaseException:
            _say(f"to go on: npu-launch repeat --resume {found.folder}")
            raise
        sides = [*([other] if other else []), figures.side(found)]
        unfinished = table.failed(found)
        if sides[-1]["runs"]:
            asks = figures.request(sides, config.args, command.cwd, asked)
            report = _report(asks)
            echo(*table.lines(found, asks, report))
            changed = certificate.changes(found, config)
            for name in changed:
                _say(f"warning: {name}: changed since the repeat began; its runs may not be of one kind")
            path = certificate.write(found, changed, asks, report)
            _say(f"certificate {path}")
        if unfinished:
            names = ", ".join(map(str, unfinished))
            _say(f"not finished: seed {names}; to go on: npu-launch repeat --resume {found.folder}")
            return 1
        found.state = record.FINISHED
        found.save()
    return 0


def _report(asks: dict[str, Any]) -> dict[str, Any]:
    """Compute the report; where the questions are of no use for it, of the runs' own figures."""
    from launcher.repeat import figures

    try:
        return figures.report(asks)
    except LauncherError as error:
        if not asks["data"]:
            raise
        _say(f"warning: {error}; the runs' own figures are taken, and no questions are compared")
        asks["data"] = ""
        return figures.report(asks)


def _say(line: str) -> None:
    echo("npu-launch: " + line, err=True)
