"""`npu-launch ask CHECKPOINT [QUESTION]`: ask a fine-tuned model; squad.ask does it."""

from __future__ import annotations

import os
import sys
from contextlib import suppress

import click

from launcher.errors import UsageError
from launcher.runs import registry


@click.command(
    context_settings={"ignore_unknown_options": True, "help_option_names": []},
    add_help_option=False,
)
@click.argument("arguments", nargs=-1, type=click.UNPROCESSED)
def ask(arguments: tuple[str, ...]) -> None:
    """Ask a fine-tuned model questions about a passage."""
    words = list(arguments)
    if words and not words[0].startswith("-") and not os.path.exists(words[0]):
        with suppress(UsageError):  # a checkpoint's prefix is no file either
            words[0] = str(registry.resolve(words[0]).path)
    # The launcher does not import TensorFlow; this process has nothing else to do and becomes the program.
    os.execv(sys.executable, [sys.executable, "-m", "squad.ask", *words])
