"""`npu-launch score RUN|FOLDER`: score the checkpoints that a run has kept; squad.score does it."""

from __future__ import annotations

import os
import sys
from typing import Iterator, Sequence

import click

from launcher.commands import checkpoints, lone_device, positional
from launcher.compare.settings import flags
from launcher.run_dir import RunDir

# Options that need no value: the word after one of them may be the run.
SWITCHES = ("help", "json")
# Of a run that has answered the first questions of its file alone: those are num_eval_iterations batches.
_LIMITS = ("max_eval_samples", "num_eval_iterations", "predict_batch_size")


@click.command(
    context_settings={"ignore_unknown_options": True, "help_option_names": []},
    add_help_option=False,
)
@click.argument("arguments", nargs=-1, type=click.UNPROCESSED)
def score(arguments: tuple[str, ...]) -> None:
    """Score every checkpoint that a run has kept."""
    found = words(arguments)
    lone_device.hold(found, "score", os.environ)
    # The launcher does not import TensorFlow; this process has nothing else to do and becomes the program.
    os.execv(sys.executable, [sys.executable, "-m", "squad.score", *found])


def words(arguments: Sequence[str]) -> list[str]:
    """Return the command line of squad.score: the run's folder, and the run's own files and rules."""
    found, run = positional.named_run(arguments, SWITCHES)
    return [*found, *(_own(run, set(flags(arguments))) if run is not None else ())]


def _own(run: RunDir, given: set[str]) -> Iterator[str]:
    """Yield the flags of a run that are not given: the questions that it is scored on, and whose rules.

    A file of questions that is given is another one, and scored as a whole; train_file is where the same
    questions are now.
    """
    asked = checkpoints.asked(run)
    files = ["predict_file" if "predict_file" in asked else "train_file"]  # of which a share was held back
    names = ["evaluation", *(_LIMITS if "predict_file" not in given else ())]
    for name in [*(files if not given & {"predict_file", "train_file"} else []), *names]:
        if name in asked and name not in given:
            yield f"--{name}={asked[name]}"
