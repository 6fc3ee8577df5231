"""Let a program check its own flags before anything is started."""

from __future__ import annotations

import dataclasses
import json
import subprocess
import sys
from typing import Any, Collection, Iterator, Sequence

from launcher.config.job import JobConfig, Provenance, arguments
from launcher.errors import LauncherError, UsageError
from launcher.output import echo
from launcher.text import nearest

CHECKS = {"squad.run_squad": "squad.check"}  # program: the module that checks its flags
# Flags that programs of PyTorch, MindSpore and others have, and that are near keys of the job by chance.
_OF_PROGRAMS = frozenset(
    "clip ddp_backend device device_id device_ids host log_throughput num_devices port trace".split()
)


def check_program(config: JobConfig, source: Provenance, command: Sequence[str]) -> list[str]:
    """Run the check of the job's program, if it has one; return its notes.

    It runs as a process of its own: what it imports belongs to the trainer, not to the launcher. Without one
    nobody knows the program's flags: those that are nearly keys of the job are shown.

    Raises:
        UsageError: one line for each finding, all at once.
    """
    module = config.check or CHECKS.get(str(config.program), "")
    if command or not module:
        echo(*(f"npu-launch: note: {line}" for line in _mistyped(source)), err=True)
        return []
    answer = _run(config.python or sys.executable, module, arguments(config.args))
    findings = [(str(f["key"]), str(f["message"])) for f in answer.get("findings", ())]
    if findings:
        lines = [str(source.error(key, message)) for key, message in findings]
        raise UsageError(*lines, *_mistyped(source, {key for key, _ in findings}))
    return [str(note) for note in answer.get("notes", ())]


def _mistyped(source: Provenance, among: Collection[str] | None = None) -> Iterator[str]:
    """Yield a line for each flag of the command line, or of `among`, that is nearly a key of the job."""
    keys = [item.name for item in dataclasses.fields(JobConfig)]
    for name in source.flags if among is None else [name for name in source.flags if name in among]:
        near = nearest(name, keys)
        if near and name not in _OF_PROGRAMS:
            text = f"no key of the job, so passed to the program as --{name}; did you mean {near}?"
            yield str(source.error(name, text))


def _run(python: str, module: str, flags: Sequence[str]) -> dict[str, Any]:
    command = [python, "-m", module, *flags]
    done = subprocess.run(command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, check=False)
    try:
        answer = json.loads(done.stdout.decode())
    except ValueError:
        answer = None
    if not isinstance(answer, dict):
        raise LauncherError(f"{' '.join(command)}: exit code {done.returncode}, but no JSON object printed")
    return answer
