"""`npu-launch score RUN|FOLDER`: score the checkpoints that a run has kept; squad.score does it."""

from __future__ import annotations

import os
import sys
from contextlib import suppress
from pathlib import Path

import click

from launcher.compare.settings import flags
from launcher.errors import UsageError
from launcher.run_dir import RunDir
from launcher.runs import registry


@click.command(
    context_settings={"ignore_unknown_options": True, "help_option_names": []},
    add_help_option=False,
)
@click.argument("arguments", nargs=-1, type=click.UNPROCESSED)
def score(arguments: tuple[str, ...]) -> None:
    """Score every checkpoint that a run has kept."""
    words = list(arguments)
    run = _run(words[0]) if words and not words[0].startswith("-") else None
    if run is not None:
        asked = _asked(run)
        words[0] = str(run.path)
        if "output_dir" in asked and not any(run.checkpoints.glob("*.index")):  # nothing is gathered yet
            words[0] = asked["output_dir"]
        if "predict_file" in asked and "predict_file" not in flags(words):
            words.append(f"--predict_file={asked['predict_file']}")
    # The launcher does not import TensorFlow; this process has nothing else to do and becomes the program.
    os.execv(sys.executable, [sys.executable, "-m", "squad.score", *words])


def _run(word: str) -> RunDir | None:
    """Find the run that a word means; None: it means a folder of checkpoints, or the prefix of one."""
    if os.path.exists(word) and not registry.is_run(Path(word)):
        return None
    with suppress(UsageError):
        return registry.resolve(word)
    return None


def _asked(run: RunDir) -> dict[str, str]:
    """Return the paths of the run's own flags, by name, as far as its plan says them."""
    plan = registry.known_plan(run)
    if plan is None or not plan.ranks:
        return {}
    rank = plan.ranks[0]
    base, given = rank.env.get("NPU_LAUNCH_CWD", rank.cwd), flags(rank.argv)
    return {
        name: os.path.join(base, os.path.expanduser(given[name]))
        for name in ("predict_file", "output_dir")
        if given.get(name)
    }
