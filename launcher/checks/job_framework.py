"""The framework of a job for NPUs, before the start: one that asked for them never trains on CPUs instead."""

from __future__ import annotations

import re
from typing import Iterator, Mapping, Sequence

from launcher.checks import frameworks, job_python
from launcher.checks.device_state import Problems
from launcher.checks.finding import ERROR, OK, WARNING
from launcher.checks.machine import RecordingMachine
from launcher.config.job import JobConfig
from launcher.errors import UsageError
from launcher.plan.command import WORKER
from launcher.profiles import imports

AUTOLOAD = "TORCH_DEVICE_BACKEND_AUTOLOAD"
# From this torch on it loads torch_npu by itself (torch/__init__.py), unless AUTOLOAD is 0.
AUTOLOADS = (2, 5)
# Words of a program that lead to `import torch_npu`: its own, and packages that do it where there is one.
LOAD_IT = ("torch_npu", "accelerate", "deepspeed", "lightning", "mindspeed", "transformers")


def problems(
    name: str, config: JobConfig, argv: Sequence[str], environ: Mapping[str, str], root: str = "/"
) -> Problems:
    """Yield what is wrong with a framework for ranks with this command line and environment."""
    python = job_python.interpreter(argv)
    if not python:
        return
    try:
        found = job_python.ask(python, environ)
    except UsageError as error:
        yield WARNING, f"{error}, so it is not known whether {name} is there for NPUs", ""
        return
    machine = RecordingMachine(environ, root, paths=found.paths, python=found.version)
    version = frameworks.version_of(machine, name)
    if not version:
        todo = "install it there, name the Python that has it (python:), or say another framework:"
        yield ERROR, f"{python} has no {name}", todo
    for finding in frameworks.CHECK_OF[name](machine, ERROR):
        if finding.level != OK:
            yield finding.level, finding.what, finding.todo
    if version and name == "torch":
        yield from _loading(version, config, argv, environ)


def _loading(
    version: str, config: JobConfig, argv: Sequence[str], environ: Mapping[str, str]
) -> Iterator[tuple[str, str, str]]:
    """Say that nothing loads torch_npu, where neither torch does it nor the program's own file."""
    numbers = tuple(int(number) for number in re.findall(r"\d+", version)[:2])
    forbidden = numbers >= AUTOLOADS and environ.get(AUTOLOAD, "1") != "1"
    if not numbers or (numbers >= AUTOLOADS and not forbidden):
        return
    words = [word for word in argv if word != WORKER]
    program = imports.Program.of(config, words, environ["NPU_LAUNCH_CWD"]).file
    if not program or any(word in imports.text_of(program) for word in LOAD_IT):
        return
    why = f"{AUTOLOAD}={environ[AUTOLOAD]}" if forbidden else f"it is older than 2.{AUTOLOADS[1]}"
    what = f"torch {version} does not load torch_npu by itself ({why}), and {program} does not name it"
    todo = "`import torch_npu` there, unless a module of the program does; else it trains on the CPU"
    yield WARNING, what, todo
