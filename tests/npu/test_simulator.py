"""The simulator is worth something only where it refuses what the real adapter and HCCL refuse."""

from __future__ import annotations

from typing import Any, Dict

import pytest

REFUSALS = {
    "collective_before_init": "initialize_system",
    "rank_before_init": "get_rank_id while HCCL is new",
    "wrong_group": "no group 'nobody'",
    "wrong_reduction": "'mean' is none of",
    "int64_cannot_be_added": "int64",
    "broadcast_of_a_single_tensor": "give a list",
    "second_init": "initialised already",
    "run_after_shutdown": "shut down",
    "session_without_the_optimizer": "no NpuOptimizer",
    "remapping_on": "remapping must be OFF",
    "memory_optimization_on": "memory_optimization must be OFF",
    "unknown_parameter": "no key 'dynamic_loss_scale'",
    "parameter_of_another_type": "must be set as .i",
    "unknown_precision": "precision_mode 'fp8'",
    "dump_without_a_path": "dump_path must be set",
    "one_shot_iterator": "OneShotIterator",
    "dynamic_shape": "dynamic shape",
    "host_function": "no kernel on the NPU",
    "loop_without_data_on_the_device": "enable_data_pre_proc",
    "loop_longer_than_the_session_says": "loop of 5 steps",
    "loop_of_an_unloaded_count": "were not loaded",
    "loop_over_a_tensor": "no Operation",
    "loop_of_no_steps": "positive",
    "fused_with_its_own_input": "same fusion",
    "gather_for_another_size": "rank_size 2",
    "job_id_missing": "JOB_ID",
    "both_families": "RANK_SIZE and CM_WORKER_SIZE",
    "both_kinds_of_table": "RANK_TABLE_FILE and CM_CHIEF_IP",
    "pod_name": "POD_NAME",
    "device_is_no_number": "ASCEND_DEVICE_ID must be a number",
    "rank_is_no_number": "EI0003",
    "rank_beyond_the_table": "the table has ranks 0 to 0",
    "size_of_another_table": "RANK_SIZE 8",
    "table_is_missing": "EI0004",
    "table_that_hccl_refuses": "EI0014",
    "connect_timeout": "EI0001",
    "another_device_than_the_tables": "gives rank 0 device 0, the process has device 3",
    "device_that_is_not_there": "open device 1 failed",
}


@pytest.fixture(scope="module")
def answers(run_ranks: Any) -> Dict[str, str]:
    ended = run_ranks("refusals.py")
    assert ended.codes == [0], ended.output
    return ended.answers()


@pytest.mark.parametrize("case", sorted(REFUSALS))
def test_it_refuses(answers: Dict[str, str], case: str) -> None:
    assert REFUSALS[case] in answers[case]


def test_it_refuses_nothing_else(answers: Dict[str, str]) -> None:
    assert answers["nothing_wrong"] == ""
    assert set(answers) == {*REFUSALS, "nothing_wrong"}
