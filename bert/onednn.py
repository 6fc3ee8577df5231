"""Whether TensorFlow is asked for oneDNN. It reads that when it is imported, so its version is needed before.

oneDNN is a tenth faster on AMD's processors too, where TensorFlow leaves it off unless one asks for it
(docs/performance.md). TensorFlow 2.6.5 then ends by SIGFPE on an AMD EPYC; from 2.9 on TensorFlow has it on
by itself on processors with instructions for neural networks.
"""

from __future__ import annotations

import os
import re
from importlib.machinery import PathFinder
from typing import MutableMapping, Sequence

VARIABLE = "TF_ENABLE_ONEDNN_OPTS"
SINCE = (2, 9)
# What a package of TensorFlow itself leaves beside it: not tensorflow_estimator's, not tensorflow_hub's.
_INSTALLED = re.compile(
    r"(?:intel_)?(?:tensorflow|tf_nightly)(?:_(?:cpu|gpu|intel|macos|rocm|cpu_aws|aarch64))?"
    r"-(\d+)\.(\d+).*\.(?:dist|egg)-info\Z"
)


def ask(environ: MutableMapping[str, str], backend: str) -> None:
    """Switch oneDNN on where it is known to work; what the user has set stays. An NPU has no use for it."""
    if backend == "cpu" and tensorflow_version() >= SINCE:
        environ.setdefault(VARIABLE, "1")


def tensorflow_version() -> tuple[int, ...]:
    """Give the (major, minor) of the installed TensorFlow without importing it; () when that is not known."""
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
