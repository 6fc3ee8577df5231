"""The trainer on the simulator: what it checks of the device at every call, and what all ranks must share."""

from __future__ import annotations

import json
from typing import Any

import pytest

from tests.npu.conftest import BRANCHES


def train(run_ranks: Any, size: int, env: Any = (), **given: Any) -> Any:
    return run_ranks("training.py", size, env, [json.dumps(given)])


@pytest.mark.parametrize("branch", BRANCHES)
@pytest.mark.parametrize("scale", [0.0, 1024.0], ids=["dynamic", "static"])
def test_a_loop_and_a_loss_scale_train_on_every_branch(run_ranks: Any, branch: str, scale: float) -> None:
    """Each of them ended in a TypeError while the graph was built, against the adapter's own source."""
    given = {"npu_bert_loss_scale": scale, "init_loss_scale_value": 4.0, "save_checkpoints_steps": 3}
    ended = train(
        run_ranks, 1, {"NPU_SIMULATOR_ADAPTER": branch}, num_train_steps=6, iterations_per_loop=2, **given
    )
    assert ended.codes == [0] and ended.answers()["step"] == 6, ended.output
    assert ended.reports[0]["loops"] == [2, 1, 2, 1]


@pytest.mark.parametrize("ranks", [1, 2])
def test_a_device_that_makes_other_steps_than_the_loop_counts_ends_the_run(
    run_ranks: Any, ranks: int
) -> None:
    """It printed step 6/6 and exit status 0, and its checkpoint held step 2."""
    ended = train(run_ranks, ranks, {"NPU_SIMULATOR_LOOPS": "0"}, num_train_steps=6, iterations_per_loop=4)
    for rank in range(ranks):
        assert "StepsDiffer: the device reports step 1, the loop counts 4" in ended.answers(rank)["error"]


def test_sigterm_before_the_first_call_leaves_the_ranks_graphs_alike(run_ranks: Any) -> None:
    """The graph that tells of it ran on one rank alone, ahead of the training graph: its number differed."""
    ended = train(run_ranks, 2, num_train_steps=6, stop=1)
    assert ended.codes == [143, 143], ended.output  # saved, and left, together
    assert [report["state"] for report in ended.reports] == ["closed", "closed"]


@pytest.fixture(scope="module")
def trained(run_ranks: Any) -> Any:
    ended = train(run_ranks, 2, num_train_steps=4, iterations_per_loop=2, save_checkpoints_steps=2)
    assert ended.codes == [0, 0], ended.output
    return ended


def test_no_session_is_closed_when_the_graph_engine_is_gone(trained: Any) -> None:
    assert [report["late_sessions"] for report in trained.reports] == [0, 0]


def test_the_graph_engine_is_initialised_once_as_sessions_for_gathering_stay(trained: Any) -> None:
    assert [report["opened"] for report in trained.reports] == [1, 1]
