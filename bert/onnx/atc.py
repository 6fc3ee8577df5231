"""Compile model.onnx for an Ascend chip with ATC, CANN's compiler of offline models, where it is installed.

The options are those of ATC's manual (hiascend.com, "ATC offline model compiler", CANN 5.0 to 9.0):
--framework=5 is ONNX; --precision_mode=allow_fp32_to_fp16 multiplies matrices in float16 and computes the
rest in float32.
"""

from __future__ import annotations

import glob
import os
import shlex
import shutil
import subprocess
from typing import Sequence

from bert.errors import CheckpointError
from bert.onnx.files import MODEL
from bert.onnx.graph import INPUTS, Shape

SCRIPT = "atc.sh"
_SHOWN = 8  # last lines of a failed atc


def command(shape: Shape, soc: str) -> list[str]:
    """Return the command, to be run in the model's folder; it writes model.om."""
    sizes = ";".join(f"{name}:{shape[0]},{shape[1]}" for name in INPUTS)
    return [
        "atc", f"--model={MODEL}", "--framework=5", "--output=model",
        "--input_format=ND", f"--input_shape={sizes}", f"--soc_version={soc}",
        "--precision_mode=allow_fp32_to_fp16", "--log=error",
    ]  # fmt: skip


def convert(folder: str, shape: Shape, soc: str) -> list[str]:
    """Write the command into a script; run it if atc is there. Return what to tell.

    Raises:
        CheckpointError: atc failed; the message ends with its last lines.
    """
    words = command(shape, soc)
    path = os.path.join(folder, SCRIPT)
    with open(path, "w", encoding="utf-8") as stream:
        stream.write(f'#!/bin/sh\ncd "$(dirname "$0")" && exec {" ".join(map(shlex.quote, words))}\n')
    said = f"`{' '.join(map(shlex.quote, words))}`"
    found = shutil.which("atc")
    if found is None:
        return [
            f"not compiled and not tried on a device: atc is not on PATH; where it is, sh {SCRIPT}: {said}"
        ]
    _run([found, *words[1:]], folder, shape)
    made = sorted(glob.glob(os.path.join(glob.escape(folder), "model*.om")))
    if not made:
        raise CheckpointError(f"atc ended well, but wrote no model.om: {said}")
    size = os.path.getsize(made[0]) / 1e6
    return [f"{os.path.basename(made[0])}: {size:.1f} MB for {soc}, by {said}; not tried on a device"]


def _run(words: Sequence[str], folder: str, shape: Shape) -> None:
    done = subprocess.run(words, cwd=folder, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, check=False)
    if done.returncode:
        lines = [line for line in done.stdout.decode(errors="replace").splitlines() if line.strip()]
        last = "\n".join(["", *lines[-_SHOWN:]])
        alone = f"the model alone: --format onnx --static {shape[0]}x{shape[1]}"
        raise CheckpointError(f"atc ended with code {done.returncode}; nothing was written ({alone}){last}")


def chip() -> str:
    """Name this machine's chip as --soc_version wants it, by npu-smi; "" if that does not tell.

    An Ascend 910C is named Ascend910 by npu-smi, which is not the name of one chip.
    """
    from rank_table.sources import npu_smi

    found = shutil.which("npu-smi")
    if found is None:
        return ""
    try:
        done = subprocess.run([found, "info"], stdout=subprocess.PIPE, timeout=30, check=False)
        names = {chip.name for chip in npu_smi.parse_info(done.stdout.decode(errors="replace")).chips}
    except (OSError, subprocess.SubprocessError, ValueError):
        return ""
    name = names.pop() if len(names) == 1 else ""
    name = name if name.startswith("Ascend") else "Ascend" + name
    return "" if name in ("Ascend", "Ascend910") else name
