"""Start-up notices of TensorFlow and its libraries, which the console of a run leaves out.

They appear at every start and say neither what the program does nor that anything is wrong. The rank's log
file and `npu-launch logs` have them. Only a line that matches a whole line of the table is left out, so a new
notice, or a line that another thread has cut in two, is shown.

The lines are those of TensorFlow 1.15.5, 2.6.5 and 2.21 on a machine without a GPU, and of the 2.x wheels
that have CUDA in them (tensorflow/tensorflow, issues 62075, 64809 and 88676).
"""

from __future__ import annotations

import re
from typing import Iterable, Tuple

Notice = Tuple[bytes, ...]  # a pattern for each of its lines

# What libraries in C++ write begins with `2026-03-01 10:21:35.118204: I tensorflow/core/util/port.cc:104] `
# or, in later versions, `I0000 00:00:1772360495.118204   77 port.cc:153] `.
_NATIVE_HEAD = re.compile(
    rb"(?:\d{4}-\d\d-\d\d \d\d:\d\d:\d\d\.\d+: [IWE] (?:[\w.-]+/)*|[IWE]\d{4} [\d:.]+ +\d+ )"
    rb"(\w+)\.(?:cc|h):\d+\] "
)
_ONEDNN: Notice = (rb"(?:Experimental )?oneDNN custom operations are on\. .*TF_ENABLE_ONEDNN_OPTS=0`\.",)
_XLA: Notice = (rb"Compiled cluster using XLA!  This line is logged at most once .*",)
_REGISTERED: Notice = (
    rb"Unable to register cu\w+ factory: Attempting to register .* already been registered",
)
# By the name of the file. Each `.*` is the rest of a sentence that is known so far.
_NATIVE: dict[bytes, tuple[Notice, ...]] = {
    b"port": (_ONEDNN,),
    b"util": (_ONEDNN,),
    b"cpu_feature_guard": (
        (rb"Your CPU supports instructions that this TensorFlow binary was not compiled to use: .*",),
        (
            rb"This TensorFlow binary is optimized (?:with|to use) .*",
            rb"To enable (?:them|the following instructions: .*,) in other operations, rebuild TensorFlow "
            rb"with the appropriate compiler flags\.",
        ),
    ),
    b"cpu_utils": ((rb"CPU Frequency: \d+ Hz",),),
    b"mlir_graph_optimization_pass": (
        (rb"MLIR V1 optimization pass is not enabled",),
        (rb"None of the MLIR Optimization Passes are enabled \(registered \d+\)",),
    ),
    b"service": (
        (rb"XLA service 0x[0-9a-f]+ initialized for platform Host \(this does not .*\)\. Devices:",),
        (rb"  StreamExecutor (?:device \(\d+\)|\[\d+\]): Host, .*",),
    ),
    b"device_compiler": (_XLA,),
    b"xla_compilation_cache": (_XLA,),
    b"dso_loader": (
        (
            rb"Could not load dynamic library 'lib(?:cu|nvinfer)[\w.]+'; dlerror: lib[\w.]+: cannot open "
            rb"shared object file: No such file or directory(?:; LD_LIBRARY_PATH: .*)?",
        ),
    ),
    b"cudart_stub": (
        (rb"Ignore above cudart dlerror if you do not have a GPU set up on your machine\.",),
        (rb"Could not find cuda drivers on your machine, GPU will not be used\.",),
    ),
    b"cuda_driver": ((rb"failed call to cuInit: UNKNOWN ERROR \(303\)",),),
    b"cuda_diagnostics": (
        (
            rb"kernel driver does not appear to be running on this host .*: "
            rb"/proc/driver/nvidia/version does not exist",
        ),
    ),
    b"cuda_fft": (_REGISTERED,),
    b"cuda_dnn": (_REGISTERED,),
    b"cuda_blas": (_REGISTERED,),
    b"computation_placer": (
        (rb"computation placer already registered\. Please check linkage and avoid linking the same .*",),
    ),
    b"py_utils": ((rb"TF-TRT Warning: Could not find TensorRT",),),
}


def _deprecation(file: bytes, name: bytes, instruction: bytes) -> Notice:
    """Build the lines about a deprecated function that a file of TensorFlow itself calls."""
    where = rb"WARNING:tensorflow:From \S*/tensorflow(?:_core)?/python/" + re.escape(file) + rb":\d+: "
    first = where + re.escape(name) + rb" is deprecated and will be removed in a future version\."
    return first, rb"Instructions for updating:", re.escape(instruction)


_WITHOUT_HEAD: tuple[Notice, ...] = (
    (rb"WARNING: All log messages before absl::InitializeLog\(\) is called are written to STDERR",),
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
_BEGINNINGS = (b"WARNING: All", b"WARNING:tensorflow:From ", b"huggingface/tokenizers: ")


class NoticeFilter:
    """The lines of one stream without the notices."""

    def __init__(self) -> None:
        self._expected: Notice = ()  # the lines that go on with the notice before

    def apply(self, text: bytes) -> list[bytes]:
        """Return the lines of whole lines of text that are to be shown."""
        if not text:
            return []
        lines = text[:-1].split(b"\n")
        # A flood of other lines costs no look at each.
        if (
            b".cc:" in text
            or b"WARNING:" in text
            or self._expected
            or b".h:" in text
            or b"huggingface/" in text
        ):
            return [line for line in lines if not self._is_notice(line)]
        return lines

    def _is_notice(self, line: bytes) -> bool:
        if self._expected and re.fullmatch(self._expected[0], line):
            self._expected = self._expected[1:]
            return True
        found = _find(line)
        self._expected = found[1:]
        return bool(found)


def _find(line: bytes) -> Notice:
    """Return the notice that a line begins; () for none."""
    head = _NATIVE_HEAD.match(line)
    if head:
        return _first_match(_NATIVE.get(head.group(1), ()), line[head.end() :])
    return _first_match(_WITHOUT_HEAD, line) if line.startswith(_BEGINNINGS) else ()


def _first_match(notices: Iterable[Notice], text: bytes) -> Notice:
    return next((notice for notice in notices if re.fullmatch(notice[0], text)), ())
