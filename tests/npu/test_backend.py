"""NpuBackend on the simulator: what reaches the device, what the ranks agree on, how it ends."""

from __future__ import annotations

import json
import math
from typing import Any

import pytest

from tests.npu.conftest import BRANCHES


def drive(run_ranks: Any, size: int = 2, options: Any = None, counts: Any = (3, 3, 2), **env: str) -> Any:
    return run_ranks("backend.py", size, env, [json.dumps(options or {}), json.dumps(list(counts))])


@pytest.fixture(scope="module")
def looped(run_ranks: Any) -> Any:
    ended = drive(
        run_ranks, options={"iterations_per_loop": 3, "npu_gather": True, "enable_exception_dump": 1}
    )
    assert ended.codes == [0, 0], ended.output
    return ended


def test_the_loop_on_the_device_ends_at_the_last_step(looped: Any) -> None:
    for rank in (0, 1):
        answers, report = looped.answers(rank), looped.reports[rank]
        assert report["loops"] == [3, 3, 2]
        assert answers["total"] == [64.0, 64.0]  # the sum of 2 i + 1 for i below 8
        assert answers["scalar"] == 30.0  # of the very last step


def test_every_variable_starts_as_rank_0_has_it(looped: Any) -> None:
    assert [looped.answers(rank)["start"] for rank in (0, 1)] == [[5.0, 5.0]] * 2


def test_the_system_is_opened_and_shut_down_once(looped: Any) -> None:
    for report in looped.reports:
        assert report["calls"]["NPUInit"] == report["calls"]["NPUShutdown"] == 1
        assert report["state"] == "closed"


def test_gradients_travel_in_fused_groups_and_the_flag_apart(looped: Any) -> None:
    fused = looped.reports[0]["fused"]
    assert fused == looped.reports[1]["fused"]
    assert sorted(fused) == ["HcomAllReduce 0", "HcomAllReduce 1", "HcomBroadcast 2"]
    assert looped.reports[0]["calls"]["HcomAllReduce"] == 8 * 3  # numbers, scalar and flag in each step


def test_parameters_reach_the_session_with_their_types(looped: Any) -> None:
    assert looped.reports[0]["parameters"] == {
        "use_off_line": True, "enable_data_pre_proc": True, "iterations_per_loop": 3, "hcom_parallel": True,
        "precision_mode": "allow_mix_precision", "graph_run_mode": 1, "enable_exception_dump": 1,
    }  # fmt: skip


def test_values_are_gathered_from_all_ranks_whatever_their_length(looped: Any) -> None:
    assert looped.answers()["ranks"] == [0, 1] and looped.answers(1)["lengths"] == [300, 600]


def test_npu_gather_gives_the_same_gradient_densely(looped: Any) -> None:
    assert looped.answers()["dense"] and looped.answers()["difference"] < 1e-6


def tanh_gelu(x: float) -> float:
    return 0.5 * x * (1 + math.tanh(math.sqrt(2 / math.pi) * (x + 0.044715 * x**3)))


def test_gelu_and_dropout_are_the_devices_own(looped: Any) -> None:
    assert looped.answers()["tanh"] == pytest.approx([tanh_gelu(x) for x in (-1.0, 0.5, 2.0)], abs=1e-5)
    assert sorted(set(looped.answers()["kept"])) == pytest.approx([0.0, 4 / 3])
    assert looped.reports[0]["calls"]["Gelu"] == looped.reports[0]["calls"]["DropOutDoMask"] == 1


@pytest.fixture(scope="module")
def plain(run_ranks: Any) -> Any:
    options = {
        "iterations_per_loop": 3, "npu_bert_use_tdt": False, "npu_bert_fused_gelu": False, "amp": False,
        "npu_bert_npu_dropout": False, "hcom_parallel": False, "profiling": True, "over_dump": True,
    }  # fmt: skip
    ended = drive(run_ranks, 1, options, counts=[1, 1], FP_POINT="first", BP_POINT="last")
    assert ended.codes == [0], ended.output
    return ended


def test_exact_gelu_is_exact_on_the_device_too(looped: Any, plain: Any) -> None:
    for ended in (looped, plain):
        assert ended.answers()["exact"][2] == pytest.approx(2 * 0.97724987, abs=1e-6)  # 2 Phi(2)


def test_flags_that_are_off_reach_nothing_of_the_device(plain: Any) -> None:
    calls, parameters = plain.reports[0]["calls"], plain.reports[0]["parameters"]
    assert not {"Gelu", "DropOutDoMask", "HcomAllReduce", "HcomBroadcast"} & set(calls)
    assert plain.answers()["tanh"][2] == pytest.approx(tanh_gelu(2.0), abs=1e-5)
    assert parameters["enable_data_pre_proc"] is False and parameters["hcom_parallel"] is False
    assert parameters["precision_mode"] == "allow_fp32_to_fp16"


def test_without_data_on_the_device_there_is_no_loop(plain: Any) -> None:
    assert plain.reports[0]["loops"] == [] and plain.reports[0]["parameters"]["iterations_per_loop"] == 1


def test_profiles_and_dumps_go_to_the_ranks_folder(plain: Any) -> None:
    parameters = plain.reports[0]["parameters"]
    profile = json.loads(parameters["profiling_options"])
    assert parameters["profiling_mode"] is True and profile["output"].endswith("ranks/0/profiling")
    assert (profile["fp_point"], profile["bp_point"]) == ("first", "last")
    assert parameters["enable_dump_debug"] is True and parameters["dump_path"].endswith("ranks/0/overflow")


@pytest.mark.parametrize("branch", BRANCHES)
def test_an_overflow_on_one_rank_skips_the_step_on_all(run_ranks: Any, branch: str) -> None:
    ended = drive(run_ranks, counts=[1, 1, 1], NPU_SIMULATOR_OVERFLOW="1:2", NPU_SIMULATOR_ADAPTER=branch)
    assert ended.codes == [0, 0], ended.output
    asked = "NpuGetFloatStatus" if branch in ("r1.8.0", "r1.9.0") else "NpuGetFloatStatusV2"
    assert ended.reports[0]["calls"][asked] == 3
    for rank in (0, 1):
        assert ended.answers(rank)["finite"] == [True, False, True]
        assert ended.answers(rank)["total"] == [6.0, 6.0]  # 1 + 5: step 1 (3) is left out


def test_where_overflows_give_inf_the_flag_is_not_asked(run_ranks: Any) -> None:
    ended = drive(run_ranks, 1, counts=[1], NPU_SIMULATOR_INF_NAN="1")
    assert ended.codes == [0] and "NpuGetFloatStatusV2" not in ended.reports[0]["calls"]


@pytest.mark.parametrize("how, code", [("raise", 1), ("sigterm", 143), ("forget", 0)])
def test_the_device_is_shut_down_however_the_program_ends(run_ranks: Any, how: str, code: int) -> None:
    ended = run_ranks("backend.py", 1, args=["{}", "[1]", how], forked=None)
    assert ended.codes == [code], ended.output
    assert ended.reports[0]["state"] == "closed" and ended.reports[0]["calls"]["NPUShutdown"] == 1


def test_a_misleading_environment_is_told_in_a_line_and_nothing_opened(run_ranks: Any) -> None:
    ended = drive(run_ranks, 1, POD_NAME="pod-0")
    last = ended.output[0].strip().splitlines()[-1]
    assert ended.codes == [1] and "AdapterError" in last and "POD_NAME is set" in last
    assert ended.reports == [{}]


@pytest.fixture(scope="module")
def told(run_ranks: Any) -> Any:
    ended = run_ranks("disagree.py", 2)
    assert ended.codes == [0, 0], ended.output
    return [ended.answers(rank) for rank in (0, 1)]


@pytest.mark.parametrize("how", ["shape", "operation more", "order", "reduction", "graph more"])
def test_ranks_that_disagree_are_told_instead_of_hanging(told: Any, how: str) -> None:
    for answers in told:
        assert "EI0005" in answers[how], answers


def test_ranks_that_agree_are_not_disturbed(told: Any) -> None:
    assert [answers["equal"] + answers["still alive"] for answers in told] == ["", ""]


def test_without_a_rank_table_the_ranks_find_each_other(run_ranks: Any) -> None:
    env = {"RANK_TABLE_FILE": "", "RANK_ID": "", "RANK_SIZE": ""}
    ended = run_ranks("free.py", 2, env)
    assert ended.codes == [0, 0], ended.output
    assert [ended.answers(rank)["ranks"] for rank in (0, 1)] == [[0, 1]] * 2


def test_groups_are_filled_from_the_last_gradient_on_and_a_big_one_is_alone() -> None:
    pytest.importorskip("tensorflow")
    from bert.backend.npu import fused_groups

    assert fused_groups([90, 10, 10, 10], limit=20) == [2, 1, 0, 0]
    assert fused_groups([5, 5], limit=100) == [0, 0] and fused_groups([], limit=1) == []
