"""`npu-launch export CHECKPOINT FOLDER`: write a checkpoint for other programs; squad.export does it."""

from __future__ import annotations

import os
import sys

import click

from launcher.commands.positional import with_run_folder


@click.command(
    context_settings={"ignore_unknown_options": True, "help_option_names": []},
    add_help_option=False,
)
@click.argument("arguments", nargs=-1, type=click.UNPROCESSED)
def export(arguments: tuple[str, ...]) -> None:
    """Write a checkpoint as safetensors, SavedModel, ONNX, or an om for Ascend."""
    words = with_run_folder(arguments, ("help",))
    # The launcher does not import TensorFlow; this process has nothing else to do and becomes the export.
    os.execv(sys.executable, [sys.executable, "-m", "squad.export", *words])
