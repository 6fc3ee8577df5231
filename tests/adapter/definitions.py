"""Compile the operations' definitions, and hold the table against what TensorFlow makes of them.

Definitions alone: the adapter's kernels need CANN. So this shows that the table's signatures are those that
`tf.load_op_library` would give, but not that anything runs.
"""

from __future__ import annotations

import json
import shutil
import subprocess
from pathlib import Path
from typing import List

from tests.adapter.ranks import ROOT, SIMULATOR
from tests.adapter.source import Source
from tests.adapter.table import TABLE

_FLAGS = (
    "import json, tensorflow as tf;"
    "print(json.dumps([tf.sysconfig.get_compile_flags(), tf.sysconfig.get_link_flags(), tf.__version__]))"
)
# Compare the function that TensorFlow generates for each operation with the simulator's.
_COMPARE = """\
import inspect, json, sys
import tensorflow as tf
from npu_simulator import library
real, ours, found = tf.load_op_library(sys.argv[1]), library.load(), []
for name in ours.definitions:
    want = str(inspect.signature(getattr(ours, library.snake(name))))
    have = getattr(real, library.snake(name), None)
    if have is None or str(inspect.signature(have)) != want:
        found.append([name, want, "" if have is None else str(inspect.signature(have))])
print(json.dumps([len(ours.definitions), found]))
"""


class NotCompiled(RuntimeError):
    """Say why the definitions were not compiled."""


def compare(source: Source, python: str, branch: str, folder: Path) -> List[str]:
    """Give what differs, and as the first entry what was done.

    Raises:
        NotCompiled: there is no compiler, no source, or it does not compile.
    """
    compiler = shutil.which("g++")
    wanted = {form["places"][branch].rpartition(":")[0] for form in _forms(branch)}
    files = [str(source.root / name) for name in sorted(wanted)]
    if compiler is None or not all(Path(name).is_file() for name in files):
        raise NotCompiled("no g++ here" if compiler is None else "no definitions in the folder")
    compile_flags, link_flags, version = json.loads(_run([python, "-c", _FLAGS], branch))
    library = str(folder / "definitions.so")
    words = ["-std=c++14", "-shared", "-fPIC", "-w", "-O0", f"-I{source.root}"]
    _run([compiler, *words, *files, "-o", library, *compile_flags, *link_flags], branch)
    count, found = json.loads(_run([python, "-c", _COMPARE, library], branch))
    done = f"{count} operations compiled from the source for TensorFlow {version}"
    return [done, *(f"{name}: the table has {ours}, TensorFlow makes {real}" for name, ours, real in found)]


def _forms(branch: str) -> List[dict]:
    return [form for forms in TABLE["operations"].values() for form in forms if branch in form["places"]]


def _run(command: List[str], branch: str) -> str:
    """Run a command; give the last line that it printed."""
    environ = {
        "PATH": "/usr/local/bin:/usr/bin:/bin",
        "PYTHONPATH": f"{ROOT}:{SIMULATOR}",
        "NPU_SIMULATOR_ADAPTER": branch,
        "TF_CPP_MIN_LOG_LEVEL": "3",
    }
    done = subprocess.run(command, env=environ, capture_output=True, text=True)
    if done.returncode:
        raise NotCompiled((done.stderr.strip().splitlines() or ["no output"])[-1])
    return (done.stdout.strip().splitlines() or ["null"])[-1]
