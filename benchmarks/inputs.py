"""Find what the benchmarks read when the command line does not say: real questions, else the demo's."""

from __future__ import annotations

import os
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
SHARED = Path(os.environ.get("NPU_LAUNCH_SHARED", str(ROOT.parent / "shared")))


def train_file() -> str:
    """Give SQuAD 2.0 beside the checkout, else the demo's questions."""
    found = [p for p in (SHARED / "data" / "squad2" / "train.json", ROOT / "build" / "demo" / "train.json")
             if p.is_file()]  # fmt: skip
    return str(found[0]) if found else str(ROOT / "build" / "demo" / "train.json")


def pretrained() -> Path:
    """Give the folder of the demo's weights."""
    sys.path.append(str(ROOT / "examples"))
    from pretrained import folder

    return Path(folder())
