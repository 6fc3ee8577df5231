"""The NPU's options: from the program's flags to the adapter's parameter map. Stdlib only: checked early.

Keys and types of the parameter map: the TensorFlow adapter's session configuration (tfmigr1_tfadapi in the
CANN documentation).
"""

from __future__ import annotations

import dataclasses
import json
import os
import re
from dataclasses import dataclass
from typing import Any, Iterator, Mapping, Union

Parameter = Union[bool, int, str]
# The adapter's modes, and what a float32 model is computed in, the type of the matrix products' inputs first
# (CANN's documents, "Precision Tuning", PRECISION_MODE). force_fp32 is the old name of cube_fp16in_fp32out:
# products take float16 and give float32.
PRECISION_MODES: dict[str, tuple[str, ...]] = {
    "force_fp32": ("fp16", "fp32"),
    "allow_fp32_to_fp16": ("fp16", "fp32"),
    "force_fp16": ("fp16",),
    "must_keep_origin_dtype": ("fp32",),
    "allow_mix_precision": ("fp16", "fp32"),
    "allow_mix_precision_fp16": ("fp16", "fp32"),
    "allow_mix_precision_bf16": ("bf16", "fp32"),
    "cube_fp16in_fp32out": ("fp16", "fp32"),
    "allow_fp32_to_bf16": ("bf16", "fp32"),
}
MOST_STEPS = 2**31 - 1  # of a loop: the adapter stores the number in 32 bits
MOST_DUMPS = 100  # steps and ranges in a data_dump_step
_FP_POINT, _BP_POINT = "FP_POINT", "BP_POINT"


@dataclass(frozen=True)
class NpuOptions:
    """The NPU flags under their names on the command line; on CPU none of them has an effect."""

    amp: bool = True
    precision_mode: str = ""
    iterations_per_loop: int = 1
    npu_bert_use_tdt: bool = True
    npu_bert_fused_gelu: bool = True
    npu_bert_npu_dropout: bool = True
    npu_gather: bool = False
    hcom_parallel: bool = True
    profiling: bool = False
    profiling_options: str = ""
    data_dump_flag: bool = False
    data_dump_step: str = ""
    data_dump_path: str = ""
    over_dump: bool = False
    over_dump_path: str = ""
    enable_exception_dump: int = -1  # below 0: the adapter's default

    @classmethod
    def from_flags(cls, flags: Any) -> NpuOptions:
        """Take the flags of these names from an object; a flag that is None or absent keeps its default."""
        values = {field.name: getattr(flags, field.name, None) for field in dataclasses.fields(cls)}
        return cls(**{name: value for name, value in values.items() if value is not None})

    def problems(self) -> Iterator[tuple[str, str]]:
        """Yield (flag, what is wrong and what to do) for values that the adapter would refuse."""
        if self.precision_mode and self.precision_mode not in PRECISION_MODES:
            yield "precision_mode", f"{self.precision_mode!r} is none of {', '.join(PRECISION_MODES)}"
        if not 1 <= self.iterations_per_loop <= MOST_STEPS:
            yield "iterations_per_loop", f"{self.iterations_per_loop} is outside 1 to {MOST_STEPS}"
        if self.profiling_options and not _is_object(self.profiling_options):
            yield "profiling_options", 'not a JSON object; give {"training_trace": "on", ...}'
        yield from self._dump_problems()

    def _dump_problems(self) -> Iterator[tuple[str, str]]:
        if self.data_dump_flag and self.over_dump:
            yield "over_dump", "the adapter dumps either data or overflows; leave out one of the two"
        problem = _dump_problem(self.data_dump_step)
        if problem:
            yield "data_dump_step", problem
        dump = self.enable_exception_dump
        if not -1 <= dump <= 2:  # only the newest adapter refuses it itself
            yield "enable_exception_dump", f"{dump} is none of 0, 1, 2, and not -1 (CANN's default)"

    def parameters(self, rank_dir: str, environ: Mapping[str, str] = os.environ) -> dict[str, Parameter]:
        """Build the parameter map of a session: bool, int and str values go into .b, .i and .s."""
        values: dict[str, Parameter] = {
            "use_off_line": True,
            "enable_data_pre_proc": self.npu_bert_use_tdt,
            "iterations_per_loop": self.steps_per_call,
            "precision_mode": self.precision,
            "hcom_parallel": self.hcom_parallel,
            "graph_run_mode": 1,
        }
        if self.enable_exception_dump >= 0:
            values["enable_exception_dump"] = self.enable_exception_dump
        values.update(self._profiling(rank_dir, environ))
        values.update(self._dump(rank_dir))
        return values

    @property
    def steps_per_call(self) -> int:
        """Steps of the device's loop; with npu_bert_use_tdt=False, no data is there and it cannot loop."""
        return self.iterations_per_loop if self.npu_bert_use_tdt else 1

    @property
    def precision(self) -> str:
        """Mixed precision for --amp; else float32, but for matrix products, which CANN makes in float16."""
        return self.precision_mode or ("allow_mix_precision" if self.amp else "allow_fp32_to_fp16")

    @property
    def computes_in(self) -> tuple[str, ...]:
        """The types in which the model is computed: fp16, bf16, fp32."""
        return PRECISION_MODES[self.precision]

    def _profiling(self, rank_dir: str, environ: Mapping[str, str]) -> dict[str, Parameter]:
        """Build the profiler's parameters.

        As in the original script, FP_POINT and BP_POINT name the first forward and last backward operation.
        """
        if not self.profiling:
            return {}
        folder = _folder("", rank_dir, "profiling")
        options = {"output": folder, "training_trace": "on", "task_trace": "on"}
        options["fp_point"], options["bp_point"] = environ.get(_FP_POINT, ""), environ.get(_BP_POINT, "")
        if self.profiling_options:
            options.update(json.loads(self.profiling_options))
        return {"profiling_mode": True, "profiling_options": json.dumps(options)}

    def _dump(self, rank_dir: str) -> dict[str, Parameter]:
        if self.data_dump_flag:
            values: dict[str, Parameter] = {"enable_dump": True, "dump_mode": "all"}
            values["dump_path"] = _folder(self.data_dump_path, rank_dir, "dump")
            if self.data_dump_step:
                values["dump_step"] = self.data_dump_step
            return values
        if self.over_dump:
            path = _folder(self.over_dump_path, rank_dir, "overflow")
            return {"enable_dump_debug": True, "dump_debug_mode": "all", "dump_path": path}
        return {}


def _folder(given: str, rank_dir: str, name: str) -> str:
    """Make the folder of a dump: the adapter refuses a session whose folder does not exist."""
    path = os.path.abspath(given or os.path.join(rank_dir or ".", name))
    os.makedirs(path, exist_ok=True)
    return path


def _dump_problem(steps: str) -> str:
    """Describe what the adapter would refuse in a list of steps to dump; "" if it accepts them."""
    parts = steps.split("|") if steps else []
    if not all(re.match(r"[0-9]+(-[0-9]+)?\Z", part) for part in parts):
        return f"{steps!r}; give steps and ranges with | between them, such as 0|5|10-20"
    if len(parts) > MOST_DUMPS:
        return (
            f"{len(parts)} steps and ranges; the adapter takes at most {MOST_DUMPS}, and a range counts once"
        )
    for part in parts:
        first, dash, last = part.partition("-")
        if dash and int(first) >= int(last):
            return f"{part}: a range must end above its first step; give one such as 10-20"
    return ""


def _is_object(text: str) -> bool:
    try:
        return isinstance(json.loads(text), dict)
    except ValueError:
        return False
