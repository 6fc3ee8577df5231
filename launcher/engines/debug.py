"""Run one rank in this process: no capture, no supervision, and a debugger where it fails.

MindSpore's scheduler, without which its rank would wait, runs beside it as long as this process lives.
"""

from __future__ import annotations

import os
import subprocess
import sys
import traceback
from pathlib import Path
from typing import NoReturn

from launcher.errors import LauncherError, PreflightError, UsageError
from launcher.output import echo, flush
from launcher.plan.model import Plan, RankSpec
from launcher.process import spawn
from launcher.run_dir import RunDir
from launcher.runs import locks


def debug(plan: Plan, run: RunDir) -> int:
    """Run the plan's only rank in this process; return its exit code.

    A command that is not a Python program replaces this process. After an exception, if stdin is a terminal,
    pdb opens in the frame that raised it.

    Raises:
        UsageError: the plan uses another interpreter.
        PreflightError: a launch holds the device.
        NotFoundError, NotExecutableError: the command cannot be executed.
    """
    spec = plan.ranks[0]
    words = _python_words(spec)
    if words and os.path.realpath(spec.argv[0]) != os.path.realpath(sys.executable):
        raise UsageError(f"--debug: runs in {sys.executable} only; leave `python:` out")
    _hold(plan, after_exec=not words)
    if plan.scheduler is not None:
        _start(plan.scheduler, run.log(plan.scheduler.rank))
    os.chdir(spec.cwd)
    if not words:
        _execute(spec)
    os.environ.clear()
    os.environ.update(spec.env)
    return _run(words)


def _hold(plan: Plan, after_exec: bool) -> None:
    """Hold the NPU of the plan, if it has one, until this process ends."""
    for device in locks.real_devices(plan):
        holder = locks.keep(device, "--debug", after_exec)
        if holder is not None:
            raise PreflightError(f"{holder}; {holder.end}, or choose another device")


def _start(spec: RankSpec, log: Path) -> None:
    """Start the scheduler; it ends with this process, whose exit handlers still sign off at it."""
    parent = os.getpid()
    with open(log, "ab") as stream:
        try:
            subprocess.Popen(
                list(spec.argv),
                cwd=spec.cwd,
                env=dict(spec.env),
                start_new_session=True,
                preexec_fn=lambda: spawn.die_with(parent),
                stdin=subprocess.DEVNULL,
                stdout=stream,
                stderr=subprocess.STDOUT,
            )
        except OSError as error:
            raise _not_executed(spec, error) from None


def _execute(spec: RankSpec) -> NoReturn:
    flush()
    try:
        os.execve(spec.argv[0], list(spec.argv), dict(spec.env))
    except OSError as error:
        raise _not_executed(spec, error) from None


def _not_executed(spec: RankSpec, error: OSError) -> LauncherError:
    return spawn.exec_error(spec, {"path": spec.argv[0], "errno": error.errno, "text": error.strerror})


def _python_words(spec: RankSpec) -> list[str]:
    """Return the words after the worker file; none for a command that is run as it is given."""
    from launcher.plan.command import WORKER

    return list(spec.argv[spec.argv.index(WORKER) + 1 :]) if WORKER in spec.argv else []


def _run(words: list[str]) -> int:
    from launcher.worker import run_program  # which reads the environment that the rank has now

    try:
        sys.path.insert(0, "")
        run_program(words)
    except SystemExit as error:
        return _code(error)
    except KeyboardInterrupt:
        return 130
    except BaseException:
        echo(*traceback.format_exc().splitlines(), err=True)
        if sys.stdin is not None and sys.stdin.isatty():
            import pdb

            pdb.post_mortem(sys.exc_info()[2])
        return 1
    return 0


def _code(error: SystemExit) -> int:
    """Return the exit code as the interpreter does: None is 0, a text is printed and means 1."""
    if error.code is None or isinstance(error.code, int):
        return (error.code or 0) & 0xFF
    echo(str(error.code), err=True)
    return 1
