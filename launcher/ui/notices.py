"""Start-up notices of TensorFlow and its libraries, which the console of a run leaves out.

They appear at every start and say neither what the program does nor that anything is wrong. The rank's log
file and `npu-launch logs` have them. Only a line that matches a whole line of the table is left out, so a new
notice, or a line that another thread has cut in two, is shown.

The lines are those of TensorFlow 1.15.5, 2.6.5 and 2.21 on a machine without a GPU, and of the 2.x wheels
that have CUDA in them (tensorflow/tensorflow, issues 62075, 64809 and 88676).
"""

from __future__ import annotations

import re
from functools import lru_cache
from typing import Pattern, Sequence

# `2026-03-01 10:21:35.118204: I tensorflow/core/util/`; later `I0000 00:00:1772360495.118204   77 `
_NATIVE = rb"(?:\d{4}-\d\d-\d\d \d\d:\d\d:\d\d\.\d+: [IWE] (?:[\w.-]+/)+|[IWE]\d{4} [\d:.]+ +\d+ )"

# What the libraries in C++ write: file, text. The `.*` stand for the rest of a sentence that is known so far.
_ONE_LINE = (
    (rb"(?:port|util)", rb"(?:Experimental )?oneDNN custom operations are on\. .*TF_ENABLE_ONEDNN_OPTS=0`\."),
    (
        rb"cpu_feature_guard",
        rb"Your CPU supports instructions that this TensorFlow binary was not compiled .*",
    ),
    (rb"cpu_utils", rb"CPU Frequency: \d+ Hz"),
    (rb"mlir_graph_optimization_pass", rb"MLIR V1 optimization pass is not enabled"),
    (
        rb"mlir_graph_optimization_pass",
        rb"None of the MLIR Optimization Passes are enabled \(registered \d+\)",
    ),
    (rb"service", rb"XLA service 0x[0-9a-f]+ initialized for platform Host \(this does not .*\)\. Devices:"),
    (rb"service", rb"  StreamExecutor (?:device \(\d+\)|\[\d+\]): Host, .*"),
    (
        rb"(?:device_compiler|xla_compilation_cache)",
        rb"Compiled cluster using XLA!  This line is logged at .*",
    ),
    (
        rb"dso_loader",
        rb"Could not load dynamic library 'lib(?:cu|nvinfer)[\w.]+'; dlerror: lib[\w.]+: cannot open shared "
        rb"object file: No such file or directory(?:; LD_LIBRARY_PATH: .*)?",
    ),
    (rb"cudart_stub", rb"Ignore above cudart dlerror if you do not have a GPU set up on your machine\."),
    (rb"cudart_stub", rb"Could not find cuda drivers on your machine, GPU will not be used\."),
    (rb"cuda_driver", rb"failed call to cuInit: UNKNOWN ERROR \(303\)"),
    (
        rb"cuda_diagnostics",
        rb"kernel driver does not appear to be running on this host .*: "
        rb"/proc/driver/nvidia/version does not exist",
    ),
    (rb"cuda_\w+", rb"Unable to register cu\w+ factory: Attempting to register .* already been registered"),
    (rb"computation_placer", rb"computation placer already registered\. Please check linkage and avoid .*"),
    (rb"py_utils", rb"TF-TRT Warning: Could not find TensorRT"),
)


def _deprecation(file: bytes, name: bytes, instruction: bytes) -> tuple[bytes, ...]:
    """Build the lines about a deprecated function that a file of TensorFlow itself calls."""
    where = rb"WARNING:tensorflow:From \S*/tensorflow(?:_core)?/python/" + re.escape(file) + rb":\d+: "
    first = where + re.escape(name) + rb" is deprecated and will be removed in a future version\."
    return first, rb"Instructions for updating:", re.escape(instruction)


_NOTICES: tuple[tuple[bytes, ...], ...] = (
    (rb"WARNING: All log messages before absl::InitializeLog\(\) is called are written to STDERR",),
    *((_NATIVE + file + rb"\.(?:cc|h):\d+\] " + text,) for file, text in _ONE_LINE),
    (
        _NATIVE + rb"cpu_feature_guard\.cc:\d+\] This TensorFlow binary is optimized (?:with|to use) .*",
        rb"To enable (?:them|the following instructions: .*,) in other operations, rebuild TensorFlow with "
        rb"the appropriate compiler flags\.",
    ),
    _deprecation(
        b"ops/resource_variable_ops.py",
        b"calling BaseResourceVariable.__init__ (from tensorflow.python.ops.resource_variable_ops) with "
        b"constraint",
        b"If using Keras pass *_constraint arguments to layers.",
    ),
    _deprecation(
        b"ops/clip_ops.py",
        b"where (from tensorflow.python.ops.array_ops)",
        b"Use tf.where in 2.0, which has the same broadcast rule as np.where",
    ),
    _deprecation(
        b"compat/v2_compat.py",
        b"disable_resource_variables (from tensorflow.python.ops.variable_scope)",
        b"non-resource variables are not supported in the long term",
    ),
    _deprecation(
        b"compat/v2_compat.py",
        b"disable_resource_variables (from tensorflow.python.ops.resource_variables_toggle)",
        b"non-resource variables are not supported in the long term",
    ),
    (
        rb"huggingface/tokenizers: The current process just got forked, after parallelism has already .*",
        rb"To disable this warning, you can either:",
        rb"\t- Avoid using `tokenizers` before the fork if possible",
        rb"\t- Explicitly set the environment variable TOKENIZERS_PARALLELISM=\(true \| false\)",
    ),
)
# Every first line has one of these words: a chunk without them is not looked at line by line.
_CLUES = (b"absl::InitializeLog", b".cc:", b".h:", b"is deprecated and will be", b"huggingface/tokenizers: ")


@lru_cache(maxsize=None)  # when the first clue is seen, so that the launcher starts without it
def _first_line() -> Pattern[bytes]:
    """Compile the first lines of all notices; the name of the group that matches has the notice's number."""
    return re.compile(b"|".join(b"(?P<n%d>%s)" % (number, lines[0]) for number, lines in enumerate(_NOTICES)))


class NoticeFilter:
    """The lines of one stream without the notices."""

    def __init__(self) -> None:
        self._expected: Sequence[bytes] = ()  # patterns of the lines that go on with the notice before

    def apply(self, text: bytes) -> list[bytes]:
        """Return the lines of whole lines of text that are to be shown."""
        if not text:
            return []
        lines = text[:-1].split(b"\n")
        if self._expected or any(clue in text for clue in _CLUES):
            return [line for line in lines if not self._is_notice(line)]
        return lines

    def _is_notice(self, line: bytes) -> bool:
        if self._expected and re.fullmatch(self._expected[0], line):
            self._expected = self._expected[1:]
            return True
        match = _first_line().fullmatch(line)
        self._expected = _NOTICES[int((match.lastgroup or "n0")[1:])][1:] if match else ()
        return match is not None
