"""Jobs for Slurm: a batch script, in which the head runs on the first node, handed to sbatch.

The run folder is made at once, so that `ps`, `logs` and `stop` know the job while it waits. The script may
run several times (requeue): the run goes on in its folder, from its newest checkpoint. Options are those of
sbatch 22.05.
"""

from __future__ import annotations

import os
import re
import shlex
import shutil
import subprocess
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Iterator, Mapping

from launcher.errors import NotFoundError, PreflightError, UsageError
from launcher.plan import nested
from launcher.plan.command import missing_program
from launcher.plan.devices import parse_devices
from launcher.plan.planner import new_run_id
from launcher.plan.program_check import check_program
from launcher.process.itself import PROGRAM
from launcher.run_dir import RunDir, remove_on_error, write_atomic
from launcher.runs import launcher_record, slurm_jobs, submitted
from launcher.runs.folder import point_latest
from launcher.submit import templating
from launcher.submit.job import QueuedJob
from launcher.submit.options import option, seconds
from launcher.text import printable

EARLY = 60  # seconds that Slurm may send a signal earlier than it was asked to
SETTLING = 60  # seconds that the head may need beside the ranks' grace: to gather, to report
SCRIPT, JOB, LOG = "job.sbatch", "submitted.yaml", "slurm.log"


@dataclass(frozen=True)
class Options:
    """The options of `npu-launch submit` for Slurm."""

    nodes: int = option(1, "number of hosts", "N")
    time: str = option("", "limit of the run's time: minutes, H:M:S or D-H:M:S")
    name: str = option("", "name of the job in the queue; default: the job's")
    partition: str = option("", "partition")
    account: str = option("", "account")
    qos: str = option("", "quality of service")
    gres: str = option("", "what each host must have, such as npu:8", "NPU:N")
    cpus: str = option("", "CPUs of each host, such as 96", "N")
    memory: str = option("", "memory of each host, such as 512G")
    exclusive: bool = option(False, "whole hosts, with no other job on them")
    constraint: str = option("", "features that the hosts must have")
    reservation: str = option("", "reservation")
    nodelist: str = option("", "hosts that must be among them, such as node[1-4]", "HOSTS")
    exclude: str = option("", "hosts that must not", "HOSTS")
    dependency: str = option("", "jobs to wait for, such as afterok:17")
    save_before: int = option(
        0, "seconds before the time limit at which ranks save and end (grace + 150)", "S"
    )
    requeues: int = option(10, "how often the job goes back in the queue when its time is over", "N")
    sbatch: tuple[str, ...] = option((), "another option of sbatch, such as --sbatch=--comment=x", "OPTION")


@dataclass(frozen=True)
class Settled(Options):
    """Options with what was chosen for this submission."""

    run_id: str = ""
    run_dir: str = ""
    launch_dir: str = ""


def settled(engine: str, job: QueuedJob, options: Options) -> Settled:
    """Choose the run's name, and check the job as far as this host can. UsageError: a line for each fault."""
    missing_program(job.config, job.command, job.source)
    nested.refuse(job.config, job.command, job.source, parse_devices(job.config.devices))
    check_program(job.config, job.source, job.command)
    save_before = options.save_before or int(job.config.grace) + SETTLING + EARLY + 30
    problems = [*_problems(job, options, save_before), *_missing_files(job)]
    if problems:
        raise UsageError(*problems)
    run_id, launch_dir = job.config.run_id or new_run_id(job.config.job), os.getcwd()
    run_dir = os.path.join(launch_dir, os.path.expanduser(job.config.runs_dir), run_id)
    values = {**asdict(options), "save_before": save_before, "name": options.name or job.config.job}
    return Settled(**values, run_id=run_id, run_dir=run_dir, launch_dir=launch_dir)


def _problems(job: QueuedJob, options: Options, save_before: int) -> Iterator[str]:
    """Yield what sbatch, or the run at its end, would stumble over."""
    if options.nodes < 1:
        yield f"--nodes: {options.nodes} (expected 1 or more)"
    if options.requeues < 0:
        yield f"--requeues: {options.requeues} (expected 0 or more)"
    if options.save_before < 0 or save_before > 65535:
        yield f"--save-before: {save_before} (expected 1 to 65535)"
    limit = seconds(options.time)
    if options.time and limit <= save_before:
        yield (
            f"--time: {options.time} is {limit} s, and ranks save {save_before} s before its end;"
            " give more time, or --save-before"
        )
    for word in options.sbatch:
        if not word.startswith("--"):
            yield f"--sbatch: {word!r:.80} (expected an option, such as --sbatch=--comment=x)"
    for name, value in asdict(options).items():
        for text in value if isinstance(value, tuple) else [str(value)]:
            if printable(text) != text:
                yield f"--{name.replace('_', '-')}: {text!r:.80} (expected one line of text)"
    if job.config.stdin_rank >= 0:
        yield str(job.source.error("stdin_rank", "not possible in a queue, where there is no stdin"))


def _missing_files(job: QueuedJob) -> Iterator[str]:
    """Yield the files of the launcher's own keys that are not there: hours later would be late."""
    config = job.config
    for key in ("inventory", "rank_table_file", "ascend_env", "hostfile"):
        path = os.path.expanduser(getattr(config, key))
        if path and not os.path.exists(path):
            yield str(job.source.error(key, f"{path}: no such file"))
    if config.python and not shutil.which(os.path.expanduser(config.python)):
        yield str(job.source.error("python", f"{config.python}: not found, or not executable"))
    command = job.command or (config.program if isinstance(config.program, list) else ())
    if command and not shutil.which(command[0]):
        yield f"{command[0]}: not found in PATH, or not executable"
    if not command and str(config.program).endswith(".py") and not os.path.isfile(str(config.program)):
        yield str(job.source.error("program", f"{config.program}: no such file"))


def render(engine: str, job: QueuedJob, options: Settled) -> str:
    """Write the batch script; a value is quoted in it, and nothing else is its own."""
    context = {
        "directives": list(_directives(options)),
        "launch_dir": options.launch_dir,
        "run_id": options.run_id,
        "save_before": options.save_before,
        "patience": max(1, options.save_before - int(job.config.grace) - SETTLING),
        "requeues": options.requeues,
        "script": os.path.join(options.run_dir, SCRIPT),
        "words": _words(job, options),
    }
    return templating.render("slurm/job.sbatch.j2", context, sh=lambda text: shlex.quote(str(text)))


_SBATCH = {"name": "job-name", "cpus": "cpus-per-task", "memory": "mem"}  # under which name sbatch has them
_OURS = frozenset(("save_before", "requeues", "sbatch", "exclusive", "run_id", "run_dir", "launch_dir"))


def _directives(options: Settled) -> Iterator[str]:
    """Yield the options of sbatch, as they stand in a script."""
    for name, value in asdict(options).items():
        if value and name not in _OURS:
            yield _directive(_SBATCH.get(name, name), value)
    yield from ("--ntasks-per-node=1", "--export=ALL", "--requeue", "--open-mode=append")
    yield from ["--exclusive"] if options.exclusive else []
    yield f"--signal=B:USR1@{options.save_before}"
    yield _directive("output", os.path.join(options.run_dir, LOG).replace("%", "%%"))
    for word in options.sbatch:
        name, equals, value = word[2:].partition("=")
        yield _directive(name, value) if equals else f"--{name}"


def _directive(name: str, value: Any) -> str:
    """Write an option for sbatch's own reader, which knows quotes but no shell (src/sbatch/opt.c)."""
    text = str(value)
    plain = text.replace("/", "").replace("-", "").replace(".", "").replace("_", "").isalnum()
    return f"--{name}=" + (text if plain else '"' + text.replace("\\", "\\\\").replace('"', '\\"') + '"')


def _words(job: QueuedJob, options: Settled) -> list[str]:
    """Return the command of the head: the job as it was typed, from a copy of its file."""
    file = [os.path.join(options.run_dir, JOB)] if job.file else []
    overrides = [word for word in job.overrides if not word.startswith("run_id=")]
    command = ["--", *job.command] if job.command else []
    return [*PROGRAM, "run", *file, *overrides, f"run_id={options.run_id}", *command]


def submit(engine: str, job: QueuedJob, options: Settled, text: str) -> list[str]:
    """Make the run folder and hand the script to sbatch; return what to tell.

    Raises:
        NotFoundError: there is no sbatch. PreflightError: it refused. UsageError: no run folder can be made.
    """
    if shutil.which("sbatch") is None:
        raise NotFoundError("sbatch: not found in PATH; load the site's Slurm, or see --dry-run")
    run = RunDir(Path(options.run_dir))
    fresh = not os.path.lexists(options.run_dir)
    if not fresh:
        _refuse_a_second(run)
    with ExitStack() as undo:
        try:
            run.path.mkdir(mode=0o700, parents=True, exist_ok=True)
            if fresh:
                undo.enter_context(remove_on_error(run.path))
            if job.file:
                write_atomic(run.path / JOB, job.text.encode())
            write_atomic(run.path / SCRIPT, text.encode("utf-8", "surrogateescape"))
            job_id = _sbatch(str(run.path / SCRIPT))
            submitted.write(run, engine, job_id, str(run.path / LOG))
        except OSError as error:
            raise UsageError(f"runs_dir: {run.path}: {error.strerror}") from None
    point_latest(run.path)
    return _told(job_id, run)


def _refuse_a_second(run: RunDir) -> None:
    """Refuse to submit a run that runs, or whose job waits or runs."""
    job = submitted.read(run)
    queued = job if job and submitted.waits_or_runs(job) else None
    if queued or launcher_record.find(run).process:
        what = f"in the queue as job {queued.job_id}" if queued else "running"
        raise UsageError(f"run_id: {run.path.name} is {what}; stop it: npu-launch stop {run.path}")


def _sbatch(script: str) -> str:
    """Submit a script; return the job's id. PreflightError: sbatch refuses it."""
    done = subprocess.run(
        ["sbatch", "--parsable", script],
        stdin=subprocess.DEVNULL, capture_output=True, check=False, env=_environ(os.environ),
    )  # fmt: skip
    lines = [line for line in done.stderr.decode(errors="replace").splitlines() if line.strip()]
    job_id = done.stdout.decode(errors="replace").strip().partition(";")[0]
    if done.returncode or not job_id:
        raise PreflightError(*(lines or [f"sbatch: exit code {done.returncode}, and no job id"]))
    return job_id


def _environ(outer: Mapping[str, str]) -> dict[str, str]:
    """Return the environment without what overrules the script, or is of an allocation around this."""
    kept = ("SLURM_CONF", "SLURM_CLUSTERS")
    prefixes = ("SLURM_", "SBATCH_", "SRUN_")
    return {name: value for name, value in outer.items() if name in kept or not name.startswith(prefixes)}


def _told(job_id: str, run: RunDir) -> list[str]:
    path = os.path.relpath(str(run.path))
    quoted, log = shlex.quote(path), shlex.quote(os.path.join(path, LOG))
    state = slurm_jobs.state(job_id)
    never = re.search(r"\((Partition\w+|BadConstraints|Invalid\w+)\)", state)
    doubt = [f"npu-launch: warning: {state}: as it is, Slurm cannot start it; see scontrol show job {job_id}"]
    return [
        *(doubt if never else []),
        f"npu-launch: job {job_id} of Slurm, run folder {path}",
        f"npu-launch: follow: tail -F {log} (or npu-launch logs --follow {quoted}); state: npu-launch ps",
        f"npu-launch: end: npu-launch stop {quoted}",
    ]
