"""Let a program check its own flags before anything is started."""

from __future__ import annotations

import json
import subprocess
import sys
from typing import Any, Sequence

from launcher.config.job import JobConfig, Provenance, arguments
from launcher.errors import LauncherError, UsageError

CHECKS = {"squad.run_squad": "squad.check"}  # program: the module that checks its flags


def check_program(config: JobConfig, source: Provenance, command: Sequence[str]) -> list[str]:
    """Run the check of the job's program, if it has one; return its notes.

    It runs as a process of its own: what it imports belongs to the trainer, not to the launcher.

    Raises:
        UsageError: one line for each finding, all at once.
    """
    module = config.check or CHECKS.get(str(config.program), "")
    if command or not module:
        return []
    answer = _run(config.python or sys.executable, module, arguments(config.args))
    findings = [(str(f["key"]), str(f["message"])) for f in answer.get("findings", ())]
    if findings:
        lines = [str(source.error(key, message)) for key, message in findings]
        raise UsageError(*lines)
    return [str(note) for note in answer.get("notes", ())]


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
