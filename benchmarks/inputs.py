"""Find the default inputs of the benchmarks: real questions, else the demo's; the demo's weights."""

from __future__ import annotations

import os
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
SHARED = Path(os.environ.get("NPU_LAUNCH_SHARED", str(ROOT.parent / "shared")))


def train_file() -> str:
    """Return the path of SQuAD 2.0 beside the checkout if it is there, else of the demo's questions."""
    squad = SHARED / "data" / "squad2" / "train.json"
    return str(squad if squad.is_file() else ROOT / "build" / "demo" / "train.json")


def pretrained() -> Path:
    """Return the folder of the demo's weights."""
    sys.path.append(str(ROOT / "examples"))
    from pretrained import folder

    return Path(folder())
