"""The NPU flags become the adapter's parameters."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from bert.backend.npu_options import PRECISION_MODES, NpuOptions
from squad.flags import SquadFlags, fields, parse


def parameters(tmp_path: Path, **options: Any) -> dict[str, Any]:
    return NpuOptions(**options).parameters(str(tmp_path), {"FP_POINT": "in", "BP_POINT": "out"})


def test_every_option_is_a_flag_of_the_program() -> None:
    assert set(vars(NpuOptions())) <= set(fields())


def test_flags_are_taken_by_name_and_unset_ones_keep_their_default() -> None:
    flags, findings, _ = parse(["--iterations_per_loop=100", "--npu_gather", "--hcom_parallel=False"])
    options = NpuOptions.from_flags(flags)
    assert findings == [] and options.amp is True  # --amp is unset: on for NPU
    assert (options.iterations_per_loop, options.npu_gather, options.hcom_parallel) == (100, True, False)
    assert NpuOptions.from_flags(SimpleNamespace()) == NpuOptions()
    assert NpuOptions.from_flags(SquadFlags()).iterations_per_loop == 1000


@pytest.mark.parametrize(
    "options, mode",
    [
        ({}, "allow_mix_precision"),
        ({"amp": False}, "allow_fp32_to_fp16"),
        ({"amp": False, "precision_mode": "force_fp32"}, "force_fp32"),
    ],
)
def test_amp_and_precision_mode_choose_the_precision(
    tmp_path: Path, options: dict[str, Any], mode: str
) -> None:
    assert parameters(tmp_path, **options)["precision_mode"] == mode and mode in PRECISION_MODES


PRINTED = {
    "": "fp16 and fp32", "allow_mix_precision": "fp16 and fp32", "allow_mix_precision_fp16": "fp16 and fp32",
    "allow_mix_precision_bf16": "bf16 and fp32", "force_fp16": "fp16", "force_fp32": "fp16 and fp32",
    "cube_fp16in_fp32out": "fp16 and fp32", "must_keep_origin_dtype": "fp32",
    "allow_fp32_to_fp16": "fp16 and fp32", "allow_fp32_to_bf16": "bf16 and fp32",
}  # fmt: skip


@pytest.mark.tensorflow
@pytest.mark.parametrize("mode", ["", *PRECISION_MODES])
def test_a_prediction_says_what_it_was_really_computed_in(mode: str) -> None:
    from squad.prediction import precision

    device: Any = SimpleNamespace(name="npu", precision="")
    assert precision(SquadFlags(precision_mode=mode), device) == PRINTED[mode]
    # --amp=False: matrix products are float16 all the same.
    assert precision(SquadFlags(amp=False), device) == PRINTED["allow_fp32_to_fp16"]


def test_types_are_those_of_the_parameter_map(tmp_path: Path) -> None:
    kinds = {name: type(value) for name, value in parameters(tmp_path, iterations_per_loop=5).items()}
    assert kinds == {
        "use_off_line": bool, "enable_data_pre_proc": bool, "iterations_per_loop": int, "precision_mode": str,
        "hcom_parallel": bool, "graph_run_mode": int,
    }  # fmt: skip


def test_a_loop_needs_its_data_on_the_device(tmp_path: Path) -> None:
    values = parameters(tmp_path, iterations_per_loop=100, npu_bert_use_tdt=False)
    assert values["iterations_per_loop"] == 1 and values["enable_data_pre_proc"] is False


def test_profiles_take_the_seeds_points_and_the_users_json(tmp_path: Path) -> None:
    values = parameters(
        tmp_path, profiling=True, profiling_options='{"task_trace": "off", "aic_metrics": "x"}'
    )
    profile = json.loads(values["profiling_options"])
    assert profile["output"] == str(tmp_path / "profiling") and (tmp_path / "profiling").is_dir()
    assert (profile["fp_point"], profile["bp_point"]) == ("in", "out")
    assert (profile["task_trace"], profile["training_trace"], profile["aic_metrics"]) == ("off", "on", "x")


def test_dumps_go_where_they_are_told_or_into_the_ranks_folder(tmp_path: Path) -> None:
    values = parameters(tmp_path, data_dump_flag=True, data_dump_step="0|5")
    assert (values["enable_dump"], values["dump_step"], values["dump_mode"]) == (True, "0|5", "all")
    assert values["dump_path"] == str(tmp_path / "dump")
    values = parameters(tmp_path, over_dump=True, over_dump_path=str(tmp_path / "elsewhere"))
    assert values["enable_dump_debug"] is True and (tmp_path / "elsewhere").is_dir()
    assert not {"enable_dump", "enable_dump_debug", "profiling_mode"} & set(parameters(tmp_path))


@pytest.mark.parametrize(
    "options, flag",
    [
        ({"precision_mode": "fp8"}, "precision_mode"),
        ({"iterations_per_loop": 0}, "iterations_per_loop"),
        ({"iterations_per_loop": 2**31}, "iterations_per_loop"),
        ({"data_dump_flag": True, "over_dump": True}, "over_dump"),
        ({"profiling_options": "training_trace"}, "profiling_options"),
        ({"enable_exception_dump": 3}, "enable_exception_dump"),
        ({"enable_exception_dump": -2}, "enable_exception_dump"),
    ],
)
def test_what_the_adapter_would_refuse_is_found_first(options: dict[str, Any], flag: str) -> None:
    [(found, message)] = NpuOptions(**options).problems()
    assert found == flag and message
    assert list(NpuOptions().problems()) == []


@pytest.mark.parametrize("dump", [-1, 0, 1, 2])
def test_every_exception_dump_that_the_adapter_has_may_be_given(dump: int) -> None:
    assert list(NpuOptions(enable_exception_dump=dump).problems()) == []


HUNDRED = "|".join(map(str, range(99))) + "|200-300"


@pytest.mark.parametrize("steps", ["", "0", "0|5|10", "0|5|10-20", "7-8", "20-30|5", HUNDRED])
def test_steps_to_dump_may_be_numbers_and_ranges(steps: str) -> None:
    assert list(NpuOptions(data_dump_step=steps).problems()) == []


@pytest.mark.parametrize(
    ("steps", "message"),
    [
        ("0,5", "'0,5'; give steps and ranges with | between them, such as 0|5|10-20"),
        ("all", "'all'; give steps"),
        ("5||6", "'5||6'; give steps"),  # these four: refused up to r1.14.0, or read as another step later
        ("5|", "'5|'; give steps"),
        ("5-", "'5-'; give steps"),
        ("-5", "'-5'; give steps"),
        ("1-2-3", "'1-2-3'; give steps"),
        ("0|20-10", "20-10: a range must end above its first step; give one such as 10-20"),
        ("10-10", "10-10: a range must end above"),
        (HUNDRED + "|400", "101 steps and ranges; the adapter takes at most 100"),
    ],
)
def test_other_steps_are_refused_with_the_form_that_the_adapter_takes(steps: str, message: str) -> None:
    [(flag, found)] = NpuOptions(data_dump_step=steps).problems()
    assert flag == "data_dump_step" and found.startswith(message)
