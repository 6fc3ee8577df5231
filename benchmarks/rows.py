"""Start a measurement in a process of its own, and print figures in rows."""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any, Sequence

HERE = Path(__file__).resolve().parent
PEER = os.environ.get("NPU_LAUNCH_PEER_PYTHON", sys.executable)  # a Python with torch and transformers
NOT_INSTALLED = 3


def parser(doc: str | None, **numbers: int) -> argparse.ArgumentParser:
    """Make a parser whose --help shows a script's docstring, with an option for each of `numbers`."""
    made = argparse.ArgumentParser(description=doc, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name, value in numbers.items():
        made.add_argument("--" + name, type=int, default=value)
    return made


def environment(threads: int, **more: str) -> dict[str, str]:
    """Build the environment of a process that computes on so many threads."""
    kept = {k: v for k, v in os.environ.items() if not k.startswith(("RANK_", "NPU_LAUNCH_RU", "DEVICE_"))}
    kept.setdefault("TF_ENABLE_ONEDNN_OPTS", "1")  # as squad/run_squad.py has it
    return {**kept, "OMP_NUM_THREADS": str(threads), "TF_CPP_MIN_LOG_LEVEL": "2", **more}


def run(script: str, *args: Any, threads: int = 2, python: str = "") -> dict[str, float] | None:
    """Run a script of this folder; return its last line's JSON. None: what it needs is not installed."""
    command = [python or sys.executable, str(HERE / script), *map(str, args)]
    done = subprocess.run(command, env=environment(threads), capture_output=True, text=True, check=False)
    if done.returncode == NOT_INSTALLED:
        return None
    if done.returncode:
        raise SystemExit(f"{' '.join(command)} failed:\n{done.stderr[-2000:]}")
    return dict(json.loads(done.stdout.splitlines()[-1]))


def peer(*args: Any, threads: int = 2) -> dict[str, float] | None:
    """Run HF PyTorch."""
    return run("torch_step.py", *args, threads=threads, python=PEER)


def show(name: str, figures: dict[str, float] | None, keys: Sequence[str], note: str = "") -> None:
    """Print a row."""
    if figures is None:
        print(f"{name:<44} not installed (set NPU_LAUNCH_PEER_PYTHON)", flush=True)
        return
    units = {key: key.replace("_per_second", "/s").replace("_", " ") for key in keys}
    words = [f"{figures[key]:.2f} {unit}" for key, unit in units.items()]
    print(f"{name:<44} {'  '.join([*words, *([note] if note else [])])}", flush=True)
