"""The Python of a job's ranks: where it looks for packages. It is asked, and imports none of them."""

from __future__ import annotations

import json
import os
import re
import subprocess
from dataclasses import dataclass
from typing import Mapping, Sequence

from launcher.checks.machine import TOOL_TIMEOUT
from launcher.errors import UsageError
from launcher.plan.command import WORKER

_QUESTION = "import json, sys; print(); print(json.dumps([sys.version_info[:3], sys.path[1:]]))"
_NAME = re.compile(r"python[\d.]*\Z")


@dataclass(frozen=True)
class JobPython:
    """An interpreter: its version, the folders from which it imports, and its whole version, as 3.7.5."""

    version: tuple[int, int]
    paths: tuple[str, ...]
    release: str = ""


def interpreter(argv: Sequence[str]) -> str:
    """Return the interpreter that a rank's command line starts; "" when it starts another program."""
    return argv[0] if WORKER in argv or _NAME.match(os.path.basename(argv[0])) else ""


def ask(python: str, environ: Mapping[str, str]) -> JobPython:
    """Ask an interpreter for its version and its path.

    Raises:
        UsageError: it does not start, or its answer is none.
    """
    command = [python, "-c", _QUESTION]
    try:
        done = subprocess.run(
            command, env=dict(environ), stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL, timeout=TOOL_TIMEOUT, check=True,
        )  # fmt: skip
        lines = done.stdout.decode("utf-8", "replace").splitlines()
        # Wrappers and sitecustomize may print before it, and exit handlers after it.
        version, paths = json.loads([line for line in lines if line.startswith("[[")][-1])
        return JobPython((version[0], version[1]), tuple(map(str, paths)), ".".join(map(str, version)))
    except (OSError, subprocess.SubprocessError, ValueError, IndexError, TypeError) as error:
        reason = getattr(error, "strerror", None) or "it does not answer as Python does"
        raise UsageError(f"{python}: {reason}; give the path of a Python interpreter") from None
