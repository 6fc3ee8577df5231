"""A job's own variables and the shell's, where they contradict the plan."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from launcher.config.job import JobConfig, Provenance
from launcher.errors import ConfigError
from launcher.hccl import variables
from launcher.plan import contradictions, environment
from launcher.plan.build import LaunchContext, build_plan
from launcher.plan.cpu_binding import rivals
from launcher.plan.placement import Placement
from launcher.profiles import choice
from launcher.profiles.base import Meeting, RankContext
from launcher.profiles.tensorflow import TENSORFLOW, without_rank_table
from rank_table.inventory import virtual_cpu
from rank_table.render import render
from rank_table.table import RankTable
from tests.launching import launch

ENDS = tuple(f"10.0.0.1:{25001 + rank}" for rank in range(4))


def made(framework: str, backend: str = "npu", rank: int = 1) -> dict[str, str]:
    """Return what the plan makes for one of four ranks on devices 4 to 7."""
    context = RankContext(
        rank=rank, size=4, local_rank=rank, local_size=4, device_id=4 + rank, ascend_device_id=4 + rank,
        run_dir="/r", run_id="j-1", backend=backend, threads=2, launch_dir="/l", visible=(4, 5, 6, 7),
        meeting=Meeting("10.0.0.1", 25000, ENDS),
    )  # fmt: skip
    return environment.of_rank({}, context, choice.profile(framework))


def refused(framework: str, backend: str = "npu", **own: str) -> str:
    """Return why a job's variables are refused; "" when they are not."""
    try:
        contradictions.refuse(choice.profile(framework), made(framework, backend), own, Provenance())
    except ConfigError as error:
        return str(error)
    return ""


@pytest.mark.parametrize(
    "framework, name, value, plan",
    [
        ("torch", "RANK", "0", "1"), ("torch", "LOCAL_RANK", "0,1", "1"), ("torch", "WORLD_SIZE", "8", "4"),
        ("mindspore", "MS_WORKER_NUM", "8", "4"), ("mindspore", "MS_ROLE", "MS_SCHED", "MS_WORKER"),
        ("paddle", "PADDLE_TRAINER_ID", "0", "1"), ("paddle", "PADDLE_TRAINERS_NUM", "2", "4"),
    ],
)  # fmt: skip
def test_a_number_of_a_rank_that_the_plan_does_not_give_is_refused(
    framework: str, name: str, value: str, plan: str
) -> None:
    text = refused(framework, "cpu", **{name: value})
    assert f"env.{name}: {value!r}, but it is {plan} for rank 1 in the plan; remove it" in text
    assert refused(framework, "cpu", **{name: plan}) == ""
    assert refused("none", "cpu", **{name: value}) == ""


def test_a_role_for_mindspore_s_ranks_with_a_rank_table_is_refused() -> None:
    said = "'MS_WORKER', but it is not set for rank 1 in the plan"
    text = refused("mindspore", MS_ROLE="MS_WORKER")
    assert said in text and text.endswith("remove it: the rank table says it, without rank_table_free")


def test_an_empty_role_is_none() -> None:
    assert refused("mindspore", MS_ROLE="") == ""


@pytest.mark.parametrize("framework", ["torch", "tensorflow", "paddle", "none"])
def test_a_list_with_blanks_is_told_without_them(framework: str) -> None:
    said = "env.ASCEND_RT_VISIBLE_DEVICES: '4, 5': CANN takes ascending ids alone, else it fails (EE1001)"
    assert said + "; give 4,5" in refused(framework, ASCEND_RT_VISIBLE_DEVICES="4, 5")


def test_where_the_ranks_meet_is_the_job_s_to_say() -> None:
    assert refused("torch", MASTER_ADDR="10.0.0.9", MASTER_PORT="29500", TORCHELASTIC_RUN_ID="x") == ""


@pytest.mark.parametrize(
    "framework, devices, said",
    [
        ("torch", "4,5", ""), ("torch", "4,5,6,7", ""),
        ("torch", "0,4", "0 is no device of this host's ranks (expected 4,5,6,7)"),
        ("torch", "5", ""),  # its own alone, by $ASCEND_DEVICE_ID or so
        ("tensorflow", "4,5,6,7", "ASCEND_DEVICE_ID=5 counts in it, and is not device 5 of rank 1"),
        ("tensorflow", "0,1,2,3,4,5,6,7", ""), ("paddle", "4,5", "FLAGS_selected_npus=5 counts in it"),
        ("mindspore", "4,5", "DEVICE_ID=5 counts in it"), ("none", "4,5", ""),
    ],
)  # fmt: skip
def test_a_list_of_devices_must_have_those_of_the_plan_where_cann_looks(
    framework: str, devices: str, said: str
) -> None:
    text = refused(framework, ASCEND_RT_VISIBLE_DEVICES=devices)
    assert (said in text) if said else text == ""
    assert refused(framework, "cpu", ASCEND_RT_VISIBLE_DEVICES=devices) == ""


def test_a_command_of_which_nothing_is_known_counts_its_devices_itself(tmp_path: Path) -> None:
    (tmp_path / "train.py").write_text("import tensorflow\n")
    table = RankTable.from_hosts(virtual_cpu((0, 1), "h").hosts)
    placement = Placement(table, render(table), "h", "npu", {("h", 0): 0, ("h", 1): 1})
    # Each rank sees its own device alone: with torch in the shell script it is npu:0 to it.
    given = JobConfig(framework="tensorflow", env={"ASCEND_RT_VISIBLE_DEVICES": "$DEVICE_ID"})

    def visible(job: JobConfig, *command: str) -> list[str]:
        config = choice.settle(job, Provenance(), command, str(tmp_path)).config
        launch = LaunchContext(
            placement=placement, run_id="j-1", run_dir="/r/j-1", launch_dir=str(tmp_path),
            environ={"PATH": "/usr/bin:/bin"}, cores=(0, 1),
        )  # fmt: skip
        plan = build_plan(config, command, launch)
        return [rank.env["ASCEND_RT_VISIBLE_DEVICES"] for rank in plan.ranks]

    unknown = replace(given, framework="")
    assert visible(unknown, "sh", "run.sh") == ["0", "1"]
    for job, program in ((unknown, "train.py"), (given, "run.sh")):
        with pytest.raises(ConfigError, match="ASCEND_DEVICE_ID=1 counts in it"):
            visible(job, "sh", program)


@pytest.mark.parametrize("framework", ["mindspore", "paddle", "tensorflow"])
def test_an_index_must_lead_to_the_rank_s_device(framework: str) -> None:
    name = choice.profile(framework).device_index
    text = refused(framework, **{name: "0"})
    assert text == "" if framework == "tensorflow" else f"env.{name}: '0', but it is 5 for rank 1" in text
    assert refused(framework, "cpu", **{name: "0"}) == ""
    assert refused(framework, **{name: "5"}) == ""
    alone = {"ASCEND_RT_VISIBLE_DEVICES": "5", name: "0"}  # each rank sees but its own device
    assert refused(framework, **alone) == ""
    assert "is not device 5 of rank 1" in refused(framework, **{**alone, name: "x"})


def test_a_shell_s_list_is_what_the_plan_has_counted_in() -> None:
    plan = {**made("tensorflow"), "ASCEND_RT_VISIBLE_DEVICES": "2,3,6,7", "ASCEND_DEVICE_ID": "2"}
    for own in ({"ASCEND_RT_VISIBLE_DEVICES": "2,3,6,7"}, {"ASCEND_RT_VISIBLE_DEVICES": "0,1,6"}):
        contradictions.refuse(TENSORFLOW, plan, own, Provenance())
    free = without_rank_table(plan, chief_ip="10.0.0.1", chief_device=0, worker_ip="10.0.0.1")
    for one in (plan, free):
        with pytest.raises(ConfigError, match="is not device 6 of rank 1"):
            contradictions.refuse(TENSORFLOW, one, {"ASCEND_RT_VISIBLE_DEVICES": "6,7"}, Provenance())


def test_the_shell_s_numbers_are_named_in_one_note() -> None:
    pod = {"RANK": "1", "LOCAL_RANK": "0,1", "MASTER_ADDR": "pod-0", "MS_ROLE": "MS_SCHED", "CM_RANK": "1"}
    shell = {**pod, "SLURM_PROCID": "0", "TF_CONFIG": "{}", "PATH": "/bin"}
    [note] = contradictions.not_passed_on(shell, choice.profile("torch"))
    names = "CM_RANK, LOCAL_RANK, MASTER_ADDR, MS_ROLE, RANK"
    assert note.startswith(f"not passed on to the ranks: the shell's {names} (")
    assert "RANK is the number of a pod under MindCluster" in note and "SLURM" not in note
    [note] = contradictions.not_passed_on(shell, choice.profile("tensorflow"))
    assert "the shell's CM_RANK, LOCAL_RANK, MASTER_ADDR, RANK (" in note
    assert list(contradictions.not_passed_on(shell, choice.profile("none"))) == []
    assert list(contradictions.not_passed_on({"PATH": "/bin"}, choice.profile("torch"))) == []


@pytest.mark.parametrize(
    "text, better",
    [
        ("0,1,7", ""), ("", ""), ("3", ""), ("0,2,4,6,1,3,5,7", "0,1,2,3,4,5,6,7"), ("1,0", "0,1"),
        ("0,0,1", "0,1"), ("0, 1", "0,1"), ("a,1", "1"),
    ],
)  # fmt: skip
def test_devices_that_cann_refuses_are_told_in_ascending_order(text: str, better: str) -> None:
    problem = variables.visible_devices(text)
    assert problem.endswith(f"(EE1001); give {better}") if better else problem == ""
    found = [name for _, name, _ in variables.findings({"ASCEND_RT_VISIBLE_DEVICES": text})]
    assert found == ["ASCEND_RT_VISIBLE_DEVICES"] * bool(better)


@pytest.mark.parametrize("place", ["here", "an inventory file"])
def test_a_shell_s_list_that_cann_refuses_is_named_before_devices_are_sought(
    tmp_path: Path, place: str
) -> None:
    device = "{device_id: 0, device_ip: 192.168.1.4}"
    (tmp_path / "hosts.yaml").write_text(f"hosts:\n- {{server_id: 10.0.0.1, devices: [{device}]}}\n")
    words = ["inventory=hosts.yaml"] if place != "here" else []
    env = {"ASCEND_RT_VISIBLE_DEVICES": "0,2,1"}
    done = launch(tmp_path, "--backend", "npu", "--dry-run", *words, "--", "/bin/true", env=env)
    text = "environment: ASCEND_RT_VISIBLE_DEVICES: '0,2,1': CANN takes ascending ids alone"
    assert done.returncode == 2 and text in done.stderr
    cpu = launch(tmp_path, "--backend", "cpu", "--dry-run", "--", "/bin/true", env=env)
    assert cpu.returncode == 0


@pytest.mark.parametrize(
    "env, said",
    [
        ({"HCCL_EXEC_TIMEOUT": "1836"}, ""), ({"HCCL_EXEC_TIMEOUT": "0"}, "0 means never on A2 and A3 alone"),
        ({"HCCL_EXEC_TIMEOUT": "0", "HCCL_OP_EXPANSION_MODE": "AIV"}, "0 means 1091 s with"),
        ({"HCCL_EXEC_TIMEOUT": "1836", "HCCL_OP_EXPANSION_MODE": "AIV"}, "1836 means 1091 s with"),
        ({"HCCL_EXEC_TIMEOUT": "0.05", "HCCL_OP_EXPANSION_MODE": "AIV"}, ""),
    ],
)  # fmt: skip
def test_an_execution_time_out_that_is_not_as_long_as_it_reads(env: dict[str, str], said: str) -> None:
    found = list(variables.findings(env, "A2"))
    assert [level for level, _, _ in found] == ["note"] * bool(said)
    assert all(text.startswith(said) for _, _, text in found)


@pytest.mark.parametrize(
    "value, level",
    [
        ("0", ""), ("1", "note"), ("2", "note"), ("mode:1", "note"), ("mode:0,npu0:0-1", ""),
        ("2,force:1,npu0:0-3", "error"), ("npu0:0-3,1", "note"), ("0,force:1", ""), ("", ""),
        ("1,force:0", "note"), ("npu0:0-1", ""),
    ],
)  # fmt: skip
def test_torch_npu_s_own_binding_beside_bind(value: str, level: str) -> None:
    env = {"CPU_AFFINITY_CONF": value, "NPU_LAUNCH_FRAMEWORK": "torch"}
    assert [one for one, _, _ in rivals(env)] == [level] * bool(level)
    assert list(rivals({**env, "NPU_LAUNCH_FRAMEWORK": "paddle"})) == []


def test_mindspore_s_own_binding_beside_bind() -> None:
    env = {"MS_ENABLE_NUMA": "True", "DATASET_ENABLE_NUMA": "true", "NPU_LAUNCH_FRAMEWORK": "mindspore"}
    assert [name for _, name, _ in rivals(env)] == ["MS_ENABLE_NUMA"]  # True alone turns it on


@pytest.mark.parametrize(
    "env, said",
    [
        ({"TORCHELASTIC_USE_AGENT_STORE": "True"}, "the ranks would wait for torchrun's own store"),
        ({"TORCHELASTIC_USE_AGENT_STORE": "False"}, ""),
        ({"MASTER_PORT": "70000"}, "'70000': invalid value (expected a whole number from 1 to 65535)"),
        ({"MASTER_PORT": "29500"}, ""),
    ],
)  # fmt: skip
@pytest.mark.parametrize("backend", ["npu", "cpu"])
def test_what_torch_s_ranks_would_wait_on_for_ever(env: dict[str, str], said: str, backend: str) -> None:
    whole = {**made("torch", backend), **env}
    errors, notes = environment.review(whole, backend, profile=choice.profile("torch"))
    assert [name for name, _ in errors] == [*env] * bool(said) and notes == []
    assert all(said in text for _, text in errors)


@pytest.mark.parametrize(
    "env, said",
    [
        ({"MS_NODE_TIMEOUT": "20"}, "20 s, not above MS_HEARTBEAT_RETRY_TIMEOUT (20 s)"),
        ({"MS_HEARTBEAT_RETRY_TIMEOUT": "60"}, "give more than 60"),
        ({"MS_NODE_TIMEOUT": "90", "MS_HEARTBEAT_RETRY_TIMEOUT": "60"}, ""),
        ({"MS_NODE_TIMEOUT": "5", "MS_DISABLE_HEARTBEAT": "1"}, ""),
        ({"MS_NODE_TIMEOUT": "1min"}, "'1min': invalid value (expected a whole number from 1) of seconds"),
        ({"MS_SCHED_PORT": "80"}, "(expected a whole number from 1024 to 65535)"),
    ],
)  # fmt: skip
def test_times_and_ports_of_mindspore_s_dynamic_cluster(env: dict[str, str], said: str) -> None:
    whole = {**made("mindspore", "cpu"), **env}
    errors, _ = environment.review(whole, "cpu", profile=choice.profile("mindspore"))
    assert [said in text for _, text in errors] == [True] * bool(said)
    table = {**made("mindspore"), **env}
    assert environment.review(table, "npu", profile=choice.profile("mindspore")) == ([], [])


@pytest.mark.parametrize("value", ["10.0.0.1", "", ":8312", "10.0.0.1:", "10.0.0.1:0", "a:port"])
@pytest.mark.parametrize("backend", ["npu", "cpu"])
def test_the_master_of_paddle_has_an_address_and_a_port(value: str, backend: str) -> None:
    plan, profile = made("paddle", backend), choice.profile("paddle")
    assert environment.review(plan, backend, profile=profile) == ([], [])
    errors, _ = environment.review({**plan, "PADDLE_MASTER": value}, backend, profile=profile)
    assert [name for name, _ in errors] == ["PADDLE_MASTER"] and "such as 10.0.0.1:8312" in errors[0][1]


def test_a_job_that_numbers_its_ranks_is_refused_at_its_line(tmp_path: Path) -> None:
    (tmp_path / "train.py").write_text("import torch\n")
    (tmp_path / "job.yaml").write_text("program: train.py\nenv:\n  RANK: 0\n  LANG: C\n")
    done = launch(tmp_path, "--backend", "cpu", "--devices", "0-1", "--dry-run", "job.yaml")
    assert done.returncode == 2
    assert "job.yaml:3: env.RANK: '0', but it is 1 for rank 1 in the plan; remove it" in done.stderr


def test_a_shell_of_a_pod_is_told_what_is_not_passed_on(tmp_path: Path) -> None:
    (tmp_path / "train.py").write_text("import torch\n")
    pod = {"RANK": "3", "LOCAL_RANK": "0,1", "MASTER_ADDR": "pod-0"}
    done = launch(tmp_path, "--backend", "cpu", "--dry-run", "--", "train.py", env=pod)
    assert done.returncode == 0, done.stderr
    note = "not passed on to the ranks: the shell's LOCAL_RANK, MASTER_ADDR, RANK ("
    assert (done.stdout + done.stderr).count(note) == 1
