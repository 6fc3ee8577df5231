"""Compile the operations' definitions, and hold the table against what TensorFlow makes of them.

Definitions alone: the adapter's kernels need CANN. So this shows that the table's signatures are those that
`tf.load_op_library` gives, and that our graphs can be built of these operations, but not that anything runs.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from pathlib import Path

from tests.adapter.ranks import ROOT, SIMULATOR, last_line
from tests.adapter.source import Source

_FLAGS = (
    "import json, tensorflow as tf;"
    "print(json.dumps([tf.sysconfig.get_compile_flags(), tf.sysconfig.get_link_flags()]))"
)
# Compare the function that TensorFlow generates for each operation with the simulator's.
_COMPARE = """\
import inspect, json, sys
import tensorflow as tf
from npu_simulator import library
from tests.npu.programs.outputs import outputs
real, ours, found = tf.load_op_library(sys.argv[1]), library.load(), []
for name in ours.definitions:
    want = str(inspect.signature(getattr(ours, library.snake(name))))
    have = getattr(real, library.snake(name), None)
    if have is None or str(inspect.signature(have)) != want:
        found.append([name, want, "" if have is None else str(inspect.signature(have))])
if not found:
    with tf.Graph().as_default():
        want, have = outputs(ours), outputs(real)
    found = [[name, str(want[name]), str(have[name])] for name in want if want[name] != have[name]]
print(json.dumps([len(ours.definitions), found]))
"""


class NotCompiled(RuntimeError):
    """Say why the definitions were not compiled."""


class NothingToCompile(NotCompiled):
    """Say what is missing: a compiler, or definitions."""


def build(source: Source, python: str, folder: Path) -> str:
    """Compile every definition of the source for this interpreter's TensorFlow; give the library's path.

    Raises:
        NothingToCompile: there is no compiler, or there are no definitions.
        NotCompiled: it does not compile.
    """
    compiler = shutil.which("g++")
    files = sorted(str(path) for path in (source.root / "tf_adapter" / "ops").rglob("*.cc"))
    if compiler is None or not files:
        raise NothingToCompile("no g++ here" if compiler is None else "no definitions in the folder")
    compile_flags, link_flags = json.loads(_run([python, "-c", _FLAGS], "master"))
    library = str(folder / "definitions.so")
    words = ["-std=c++14", "-shared", "-fPIC", "-w", "-O0", f"-I{source.root}"]
    _run([compiler, *words, *files, "-o", library, *compile_flags, *link_flags], "master")
    return library


def compare(library: str, python: str, branch: str) -> tuple[int, list[str]]:
    """Count the operations of the table, and say which of them TensorFlow makes otherwise."""
    count, found = json.loads(_run([python, "-c", _COMPARE, library], branch))
    return count, [f"{name}: the table has {ours}, TensorFlow makes {real}" for name, ours, real in found]


def graphs(library: str, python: str, branch: str, path: str) -> int:
    """Build our training graphs of these operations, with the package on PATH; give how many.

    Raises:
        NotCompiled: one cannot be built.
    """
    program = str(ROOT / "tests" / "npu" / "programs" / "graphs.py")
    return int(json.loads(_run([python, program, library], branch, path)))


def _run(command: list[str], branch: str, path: str = f"{ROOT}:{SIMULATOR}") -> str:
    """Run a command; give the last line that it printed."""
    quiet = {"NPU_SIMULATOR_ADAPTER": branch, "TF_CPP_MIN_LOG_LEVEL": "3"}
    environ = {**os.environ, **quiet, "PYTHONPATH": path}
    done = subprocess.run(command, env=environ, capture_output=True, text=True)
    if done.returncode:
        raise NotCompiled(last_line(done.stderr))
    return last_line(done.stdout)
