"""The simulator is worth something only where it refuses what the real adapter and HCCL refuse."""

from __future__ import annotations

import json
from typing import Any

import pytest

from tests.npu.conftest import BRANCHES, SIMULATOR, VERSION_1

TABLE = json.loads((SIMULATOR / "adapter_names.json").read_text(encoding="utf-8"))
OLD = {"r1.8.0", "r1.9.0"}
# case -> key of the refusal, which names the line of the source, HCCL's code, or the simulator's reason.
REFUSALS = {
    "gather_for_no_ranks": "rank_size_not_positive",
    "dropout_of_integers": "dropout_of_integers",
    "dropout_of_everything": "keep_prob_out_of_range",
    "one_shot_iterator": "one_shot_iterator",
    "loop_over_a_tensor": "train_op_is_no_operation",
    "loop_of_no_steps": "loop_count_not_positive",
    "loop_of_half_a_step": "loop_count_is_no_int",
    "static_scale_below_one": "loss_scale_below_one",
    "jit_compile_is_no_text": "jit_compile_is_no_text",
    "no_iterations_per_loop": "iterations_per_loop_below_one",
    "unknown_graph_run_mode": "graph_run_mode",
    "unknown_precision": "precision_mode",
    "exception_dump_of_3": "enable_exception_dump",
    "dump_without_a_path": "dump_without_a_path",
    "dump_into_no_folder": "dump_path_is_no_folder",
    "dump_step_with_a_comma": "dump_step_format",
    "dump_step_of_nothing": "dump_step_format",
    "dump_steps_backwards": "dump_step_reversed",
    "dump_of_101_sets": "dump_step_sets",
    "unknown_dump_mode": "dump_mode",
    "unknown_dump_debug_mode": "dump_debug_mode",
    "device_is_no_number": "device_id_is_no_number",
    # HCCL
    "rank_before_init": "rank_before_init",
    "wrong_group": "group",
    "gather_for_another_size": "rank_size",
    "fused_with_its_own_input": "fused_with_its_own_input",
    "rank_is_no_number": "table",
    "rank_beyond_the_table": "table",
    "table_that_hccl_refuses": "table",
    "another_device_than_the_tables": "table",
    "table_is_missing": "table_is_missing",
    "connect_timeout": "connect_timeout",
    "device_that_is_not_there": "device_is_not_there",
    # The simulator's own
    "collective_before_init": "collective_before_init",
    "run_after_shutdown": "run_after_shutdown",
    "dynamic_shape": "dynamic_shape",
    "host_function": "host_function",
    "memory_optimization_on": "memory_optimization_on",
    "unknown_parameter": "unknown_parameter",
    "parameter_of_another_type": "parameter_of_another_type",
    "offline_mode_off": "offline_mode_off",
    "loop_without_data_on_the_device": "loop_without_data_on_the_device",
    "loop_of_an_unloaded_count": "loop_of_an_unloaded_count",
    "both_families": "both_families",
    "both_kinds_of_table": "both_kinds_of_table",
    "table_without_size": "table_without_size",
    "free_mode_is_incomplete": "free_mode_is_incomplete",
    "pod_name": "pod_name",
    "size_of_another_table": "size_of_another_table",
}
# Refused by an operation's definition, or by TensorFlow for what the definition says: case -> words.
BY_TYPE = {
    "wrong_reduction": "none of ['min', 'max', 'prod', 'sum']",
    "float64_allreduce": "'input' is float64",
    "broadcast_of_a_single_tensor": "Expected list",
    "flag_compared_with_a_float": "Expected int32",
    "flag_with_an_address": "TypeError",
    "loop_beside_a_step_in_no_collection": 'Existing "global_step" does not have integer type',
}
ALLOWED = {
    "dump_step_left_open",
    "nothing_wrong", "second_init", "job_id_missing", "both_dumps", "profiling_without_options",
    "int64_allreduce", "flag_without_an_address", "session_without_the_optimizer", "remapping_on",
    "loop_longer_than_the_session_says", "loop_where_the_session_has_none", "loop_without_a_global_step",
    "ge_between_two_sessions", "session_closed_after_the_shutdown",
}  # fmt: skip


def expected(branch: str) -> dict[str, str]:
    """Give what a case is told on a branch: a key, or words; "" where it is allowed."""
    told = {**REFUSALS, **BY_TYPE, **dict.fromkeys(ALLOWED, "")}
    if branch in OLD:
        told.update(
            int64_allreduce="'input' is int64",
            flag_with_an_address="",
            flag_without_an_address="'addr'",
            flag_compared_with_a_float="'addr'",
            jit_compile_is_no_text="unknown_parameter",  # the key is not there yet
            unknown_precision="",
            dump_step_left_open="dump_step_format",
        )
    if branch != "master":
        told["exception_dump_of_3"] = ""
    if branch == "r1.8.0":  # no change of tf.Session
        told.update(
            session_without_the_optimizer="session_without_the_optimizer", remapping_on="AssertionError"
        )
    return told


@pytest.fixture(scope="module", params=BRANCHES)
def branch(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture(scope="module")
def answers(branch: str, run_ranks: Any) -> dict[str, list[str]]:
    """Give what each case was told: [text, key of the refusal]."""
    ended = run_ranks("refusals.py", env={"NPU_SIMULATOR_ADAPTER": branch})
    assert ended.codes == [0], ended.output
    return ended.answers()


def test_each_case_is_told_what_the_branch_says(branch: str, answers: dict[str, list[str]]) -> None:
    wanted = expected(branch)
    if not VERSION_1:
        wanted["static_scale_below_one"] = ""  # npu_device has no managers
    assert set(answers) == set(wanted)
    for case, (text, key) in answers.items():
        want = wanted[case]
        assert (text == "") == (want == ""), (case, text)
        assert key == want or (key == "" and want in text), (case, text, key)


def test_each_refusal_says_where_it_comes_from(branch: str, answers: dict[str, list[str]]) -> None:
    for case, (text, key) in answers.items():
        if key in TABLE["refusals"]:
            assert TABLE["refusals"][key]["places"][branch] in text, case
        elif key:
            assert "[HCCL: " in text or "[the simulator's own rule: " in text, (case, text)


def test_every_refusal_that_the_simulator_knows_is_tried() -> None:
    elsewhere = {"ranks_differ", "socket_timeout"}  # of several ranks: test_backend.py
    tried: set[str] = set(REFUSALS.values()) | {"session_without_the_optimizer"} | elsewhere
    assert tried == {*TABLE["refusals"], *TABLE["documented"], *TABLE["ours"]}
