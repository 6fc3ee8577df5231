"""`npu-launch export CHECKPOINT FOLDER`: write a checkpoint for other programs; bert.export does it."""

from __future__ import annotations

import os
import sys

import click


@click.command(
    context_settings={"ignore_unknown_options": True, "help_option_names": []},
    add_help_option=False,
)
@click.argument("arguments", nargs=-1, type=click.UNPROCESSED)
def export(arguments: tuple[str, ...]) -> None:
    """Write a checkpoint as safetensors for transformers, or as a SavedModel."""
    # TensorFlow does not belong into the launcher's process, and this one has nothing else to do.
    os.execv(sys.executable, [sys.executable, "-m", "bert.export", *arguments])
