"""`npu-launch [OPTIONS] [JOB.yaml] [key=value ...] [-- COMMAND ...]`: the default command."""

from __future__ import annotations

import os
import re
import sys
from typing import Any, Sequence

import click

from launcher.errors import UsageError
from launcher.output import echo, echo_json


class CommandAfterDashes(click.Command):
    """A command that sets aside what follows `--`: a program and its arguments, not options."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        own, command = list(args), []
        if "--" in own:
            cut = own.index("--")
            own, command = own[:cut], own[cut + 1 :]
        ctx.meta["command"] = command
        try:
            return super().parse_args(ctx, own)
        except click.NoSuchOption as error:
            if self.name != "run":
                raise
            from launcher.commands import counterparts

            raise counterparts.refusal(error, args) or error from None


@click.command(cls=CommandAfterDashes)
@click.argument("words", nargs=-1, metavar="[JOB.yaml] [KEY=VALUE]... [-- COMMAND ...]")
@click.option("--devices", metavar="LIST", help="physical devices, such as 0-7 or 0,2,4")
@click.option("--backend", type=click.Choice(["cpu", "npu", "auto"]), help="run the ranks on CPU or NPU")
@click.option("--inventory", metavar="FILE", help="YAML file of hosts and devices")
@click.option("--rank-table-file", metavar="FILE", help="a finished rank table, instead of making one")
@click.option("--chip", metavar="NAME", help="910A, A2, A3 or 950, instead of detecting it")
@click.option("--debug", is_flag=True, help="run one rank in this process; open a debugger where it fails")
@click.option("--dry-run", is_flag=True, help="print the plan; start nothing, write nothing")
@click.option("--json", "as_json", is_flag=True, help="with --dry-run: the plan as JSON")
@click.option("--detach", is_flag=True, help="run in the background (attach: npu-launch logs --follow)")
@click.option(
    "--engine",
    type=click.Choice(["auto", "local", "slurm", "mpi"]),
    help="what starts the agents of several hosts (auto)",
)
@click.option("--hosts", metavar="LIST", help="mpi: the hosts, such as node1,node2")
@click.option("--hostfile", metavar="FILE", help="mpi: a file of hosts")
@click.option("--bind", type=click.Choice(["none", "even", "numa"]), help="bind the ranks to cores")
@click.option("--grace", type=float, metavar="S", help="seconds between SIGTERM and SIGKILL (30)")
@click.option(
    "--hang-timeout", type=float, metavar="S", help="seconds without a heartbeat that count as a hang (off)"
)
@click.option("--max-restarts", type=int, metavar="N", help="how often a failed run is restarted (0)")
@click.option(
    "--restart-on",
    multiple=True,
    metavar="WHAT",
    help="failures that trigger a restart: exit:CODE, signal:NAME, hang (all)",
)
@click.option("--max-log-bytes", type=int, metavar="BYTES", help="bytes kept of each rank's log (all)")
@click.option("--show-ranks", metavar="RANKS", help="ranks whose output is printed (all)")
@click.option("--stdin-rank", type=int, metavar="RANK", help="rank that reads standard input (none)")
@click.option("--quiet", is_flag=True, default=None, help="do not print the ranks' output")
@click.option("--skip-preflight", multiple=True, metavar="CHECK", help="skip a check of the preflight")
@click.option("--log-max", type=int, hidden=True)  # old names of the options above
@click.option("--show", hidden=True)
@click.option("--no-preflight", multiple=True, hidden=True)
def run(
    words: tuple[str, ...], debug: bool, dry_run: bool, as_json: bool, detach: bool, **options: Any
) -> None:
    """Run a job: one process per device, supervised, with logs and checkpoints gathered."""
    from launcher.config import job as configs
    from launcher.engines import choose
    from launcher.engines.alone import fitted
    from launcher.process.init import with_init

    if as_json and not dry_run:
        raise UsageError("--json: needs --dry-run")
    command = click.get_current_context().meta["command"]
    job, overrides = split(words)
    config, source = configs.load(job, overrides, _values(options))
    dry = (as_json,) if dry_run else ()
    if config.engine != "local" and any(name in os.environ for name in _OF_MEMBERS):
        _run_as_member(config, source, command, detach or debug, dry)
    engine = choose.chosen(config, os.environ)
    if engine is not None:
        sys.exit(_run_on_hosts(engine, config, source, command, debug, detach, dry))
    config = fitted(config, source, os.environ)
    sys.exit(with_init(lambda: _run_here(config, source, command, debug, detach, dry)))


def _run_here(
    config: Any, source: Any, command: Sequence[str], debug: bool, detach: bool, dry_run: tuple[bool, ...]
) -> int:
    """Run a job on this host, or print its plan; return the exit code."""
    from launcher.plan.planner import plan_job

    planned = plan_job(config, source, command)
    if detach and config.stdin_rank >= 0:
        raise source.error("stdin_rank", "not possible with --detach, which has no stdin; give one of them")
    if dry_run:
        _print_plan(planned.plan, dry_run[0])
        return 0
    from launcher.engines import local

    return local.debug(planned) if debug else local.run(planned, detach)


def _run_on_hosts(
    engine: Any,
    config: Any,
    source: Any,
    command: Sequence[str],
    debug: bool,
    detach: bool,
    dry_run: tuple[bool, ...],
) -> int:
    """Run a job on the hosts of an engine, or print its plan; return the exit code."""
    from launcher.engines import several

    if debug:
        raise UsageError("--debug: one process on this host; give --engine local")
    site = several.EngineSite(engine)
    if dry_run:
        plan, words = several.plan(config, source, command, site)
        _print_plan(plan, dry_run[0], words)
        return 0
    return several.run(config, source, command, site, detach)


# Variables of processes that several hosts start by themselves: pods, tasks of srun, processes of mpirun.
_OF_MEMBERS = ("NPU_LAUNCH_HOST_COUNT", "SLURM_STEP_NUM_TASKS", "OMPI_COMM_WORLD_SIZE")


def _run_as_member(
    config: Any, source: Any, command: Sequence[str], alone: bool, dry_run: tuple[bool, ...]
) -> None:
    """Exit with the code of the whole run, if this process is one of several of them."""
    from launcher.engines import pull

    member = pull.member(os.environ)
    if member is None:
        return
    if alone:
        raise UsageError("--detach, --debug: not possible where hosts come up by themselves; leave it out")
    from launcher.engines.pull_site import run_member

    def show(plan: Any, words: list[str]) -> None:
        _print_plan(plan, dry_run[0], words)

    sys.exit(run_member(member, config, source, command, show if dry_run else None))


def split(words: Sequence[str]) -> tuple[str | None, list[str]]:
    """Separate the job file from the overrides `key=value`. UsageError: two job files."""
    overrides = [word for word in words if re.match(r"[A-Za-z_][\w.-]*=", word) and not os.path.exists(word)]
    files = [word for word in words if word not in overrides]
    program = next((word for word in files if word.endswith(".py")), "")
    if program:
        raise UsageError(f"{program}: a program (expected a job file in YAML); give it as `-- {program}`")
    if len(files) > 1:
        raise UsageError(f"{files[1]}: a second job file, after {files[0]}; give a command after `--`")
    return (files[0] if files else None), overrides


def _values(options: dict[str, Any]) -> dict[str, Any]:
    """Turn the options that were given into keys of the job."""
    values = {key: value for key, value in options.items() if value is not None}
    for key, option in (("show_ranks", "--show-ranks"), ("show", "--show")):
        if key in values:
            values[key] = _ranks(values[key], option)
    for key in ("restart_on", "skip_preflight", "no_preflight", "hosts"):
        given = values.pop(key, ())
        given = (given,) if isinstance(given, str) else given
        if given:
            values[key] = [part for word in given for part in word.split(",")]
    return values


def _ranks(text: str, option: str) -> list[int]:
    from launcher.plan.devices import parse_devices

    return list(parse_devices(text, option, "rank"))


def _print_plan(plan: Any, as_json: bool, engine: Sequence[str] = ()) -> None:
    """Print a plan; engine: the command that starts the agents of several hosts."""
    from launcher.plan import dry_run

    if as_json:
        echo_json(dry_run.as_dict(plan, engine))
    else:
        echo(*dry_run.as_lines(plan, os.environ, engine))
