"""`npu-launch ask CHECKPOINT [QUESTION]`: ask a fine-tuned model; squad.ask does it."""

from __future__ import annotations

import os
import sys

import click

from launcher.commands import lone_device
from launcher.commands.positional import with_run_folder

# Options that need no value: the word after one of them may be the checkpoint.
SWITCHES = ("help", "version_2_with_negative", "do_lower_case", "strip_accents", "tokenize_chinese_chars")


@click.command(
    context_settings={"ignore_unknown_options": True, "help_option_names": []},
    add_help_option=False,
)
@click.argument("arguments", nargs=-1, type=click.UNPROCESSED)
def ask(arguments: tuple[str, ...]) -> None:
    """Ask a fine-tuned model questions about a passage."""
    words = with_run_folder(arguments, SWITCHES)
    lone_device.hold(words, "ask", os.environ)
    # The launcher does not import TensorFlow; this process has nothing else to do and becomes the program.
    os.execv(sys.executable, [sys.executable, "-m", "squad.ask", *words])
