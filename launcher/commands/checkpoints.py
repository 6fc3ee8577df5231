"""The run that a word of `ask` and `score` means, where its checkpoints are, and what it was asked to do."""

from __future__ import annotations

import os
from contextlib import suppress
from pathlib import Path

from launcher.compare.settings import flags
from launcher.errors import UsageError
from launcher.run_dir import RunDir
from launcher.runs import registry

_PATHS = ("train_file", "predict_file", "output_dir")


def run_of(word: str) -> RunDir | None:
    """Find the run that a word means; None: it means a folder of checkpoints, the prefix of one, a file."""
    if os.path.exists(word) and not registry.is_run(Path(word)):
        return None
    with suppress(UsageError):
        return registry.resolve(word)
    return None


def folder_of(run: RunDir) -> str:
    """Return where the checkpoints of a run are: its folder, or its output_dir until they are gathered."""
    output = asked(run).get("output_dir", "")
    gathered = any(run.checkpoints.glob("*.index"))
    return output if os.path.isdir(output) and not gathered else str(run.path)


def asked(run: RunDir) -> dict[str, str]:
    """Return the flags of a run by name, as far as its plan says them; paths start where it was started."""
    plan = registry.known_plan(run)
    if plan is None or not plan.ranks:
        return {}
    rank = plan.ranks[0]
    base, given = rank.env.get("NPU_LAUNCH_CWD", rank.cwd), flags(rank.argv)
    paths = {name: os.path.join(base, os.path.expanduser(given[name])) for name in _PATHS if given.get(name)}
    return {**given, **paths}
