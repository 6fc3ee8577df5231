"""What a PaddlePaddle rank gets on NPUs, and of the shell; tests/frameworks has its environment on CPU."""

from __future__ import annotations

from dataclasses import replace

from launcher.plan import environment
from launcher.profiles.paddle import PADDLE
from tests.launcher.test_frameworks import context


def of(outer: dict[str, str], rank: int = 0, **changes: object) -> dict[str, str]:
    return environment.of_rank(outer, replace(context("npu", rank), **changes), PADDLE)


def test_on_npus_a_rank_gets_what_the_launcher_sets_for_the_custom_device_npu() -> None:
    env = of({"PADDLE_DISTRI_BACKEND": "gloo", "FLAGS_selected_npus": "0"}, ascend_device_id=5)
    names = ("PADDLE_DISTRI_BACKEND", "PADDLE_XCCL_BACKEND", "FLAGS_selected_npus", "POD_NAME")
    assert [env[name] for name in names] == ["xccl", "npu", "5", "j-1"]
    assert "ASCEND_RT_VISIBLE_DEVICES" not in env


def test_settings_stay_and_what_another_launch_left_goes() -> None:
    kept = {"PADDLE_PG_TIMEOUT": "60000", "FLAGS_call_stack_level": "2", "NPU_VISIBLE_DEVICES": "4"}
    left = {"PADDLE_BACKUP_ENV_PATH": "/gone", "PADDLE_RANK": "3", "MASTER_ADDR": "p", "MS_ROLE": "MS_SCHED"}
    env = of({**kept, **left})
    assert kept.items() <= env.items() and not set(left) & set(env)
    assert (env["OMP_NUM_THREADS"], of({"OMP_NUM_THREADS": "4"})["OMP_NUM_THREADS"]) == ("1", "4")
