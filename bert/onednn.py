"""Switch TensorFlow's oneDNN on, before TensorFlow is imported, as it reads the switch then.

oneDNN is a tenth faster on AMD's processors too, where TensorFlow leaves it off by default
(docs/performance.md). With it, TensorFlow 2.6.5 ends by SIGFPE on an AMD EPYC; TensorFlow 2.9 and later
switch it on by themselves on processors with instructions for neural networks.
"""

from __future__ import annotations

import os
import re
from importlib.machinery import PathFinder
from typing import MutableMapping, Sequence

VARIABLE = "TF_ENABLE_ONEDNN_OPTS"
SINCE = (2, 9)
# The metadata folder of a package of TensorFlow itself: not tensorflow_estimator's, not tensorflow_hub's.
_INSTALLED = re.compile(
    r"(?:intel_)?(?:tensorflow|tf_nightly)(?:_(?:cpu|gpu|intel|macos|rocm|cpu_aws|aarch64))?"
    r"-(\d+)\.(\d+).*\.(?:dist|egg)-info\Z"
)


def ask(environ: MutableMapping[str, str], backend: str) -> None:
    """Switch oneDNN on where it is known to work; keep the user's setting. An NPU does not need it."""
    if backend == "cpu" and tensorflow_version() >= SINCE:
        environ.setdefault(VARIABLE, "1")


def tensorflow_version() -> tuple[int, ...]:
    """Find the (major, minor) of the installed TensorFlow without importing it; () if it is unknown."""
    spec = PathFinder.find_spec("tensorflow")
    folders = list(spec.submodule_search_locations or ()) if spec else []
    return min((version for folder in folders for version in _beside(folder)), default=())


def _beside(package: str) -> Sequence[tuple[int, ...]]:
    found: list[tuple[int, ...]] = []
    for name in os.listdir(os.path.dirname(package)):
        match = _INSTALLED.match(name)
        if match:
            found.append((int(match.group(1)), int(match.group(2))))
    return found
