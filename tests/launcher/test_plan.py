"""The plan: a pure function of the job, the table and the environment; and what --dry-run shows of it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from launcher.config.job import JobConfig, Provenance
from launcher.errors import ConfigError, NotExecutableError, NotFoundError
from launcher.plan import dry_run
from launcher.plan.build import LaunchContext, build_plan
from launcher.plan.command import missing_program
from launcher.plan.model import Plan
from launcher.plan.placement import Placement
from rank_table.inventory import virtual_cpu
from rank_table.render import render
from rank_table.table import RankTable

OUTER = {"PATH": "/usr/bin:/bin", "HOME": "/root", "POD_NAME": "x", "CM_CHIEF_IP": "10.0.0.1", "RANK_ID": "7"}


def plan(
    devices: tuple[int, ...] = (4, 6),
    command: Any = ("sh", "-c", "true"),
    bound: Any = None,
    quota: float = float("inf"),
    **keys: Any,
) -> Plan:
    hosts = virtual_cpu(devices, "10.0.0.9").hosts
    table = RankTable.from_hosts(hosts)
    logical = {(h.server_id, d.device_id): d.logical_id for h in hosts for d in h.devices}
    launch = LaunchContext(
        placement=Placement(table, render(table), "10.0.0.9", "cpu", logical),
        run_id="job-1",
        run_dir="/r/runs/job-1",
        launch_dir="/r",
        environ=OUTER,
        cores=(0, 1, 2, 3),
        bound=bound or {},
        quota=quota,
    )
    return build_plan(JobConfig(**keys), command, launch)


def test_the_same_inputs_give_the_same_plan() -> None:
    assert plan() == plan()


def test_a_rank_has_the_environment_of_the_contract() -> None:
    env = plan().ranks[1].env
    expected: dict[str, str] = {
        "RANK_TABLE_FILE": "/r/runs/job-1/rank_table.json",
        "RANK_ID": "1",
        "RANK_SIZE": "2",
        "DEVICE_ID": "6",
        "ASCEND_DEVICE_ID": "1",
        "DEVICE_INDEX": "1",
        "LOCAL_RANK": "1",
        "LOCAL_SIZE": "2",
        "HCCL_CONNECT_TIMEOUT": "600",
        "OMP_NUM_THREADS": "2",
        "PYTHONUNBUFFERED": "1",
        "NPU_LAUNCH_RUN_DIR": "/r/runs/job-1",
        "NPU_LAUNCH_RANK_DIR": "/r/runs/job-1/ranks/1",
        "NPU_LAUNCH_RUN_ID": "job-1",
        "NPU_LAUNCH_ATTEMPT": "0",
        "HOME": "/root",
    }
    assert {name: env.get(name) for name in expected} == expected
    assert env["JOB_ID"] and env["ASCEND_PROCESS_LOG_PATH"].startswith("/r/runs/job-1/ranks/1")


def test_what_would_mislead_a_rank_is_removed() -> None:
    assert not {"POD_NAME", "CM_CHIEF_IP", "TF_CONFIG"} & set(plan().ranks[0].env)


def test_one_device_gets_the_very_variables_of_eight() -> None:
    one, eight = plan((0,)).ranks[0].env, plan(tuple(range(8))).ranks[0].env
    assert set(one) == set(eight) and one["RANK_SIZE"] == "1"


def test_the_users_environment_wins() -> None:
    assert plan(env={"OMP_NUM_THREADS": "1", "X": "y"}).ranks[0].env["OMP_NUM_THREADS"] == "1"


@pytest.mark.parametrize(
    ("written", "given"),
    [
        ("/x:$PATH", "/x:/usr/bin:/bin"),
        ("${HOME}/a", "/root/a"),
        ("/log/$RANK_ID", "/log/1"),  # the rank's own, not the shell's
        ("$FIRST.$FIRST", "1.1"),
        ("$$HOME", "$HOME"),
        ("${NOPE:-}:${NOPE:-a b}:${HOME:-c}", ":a b:/root"),
        ("$POD_NAME", "x"),
        ("a$ $5 5%", "a$ $5 5%"),
    ],
)
def test_a_variable_of_the_job_may_refer_to_others(written: str, given: str) -> None:
    assert plan(env={"FIRST": "1", "X": written}).ranks[1].env["X"] == given
    assert plan(env={"PATH": "/x:$PATH"}).ranks[0].env["PATH"] == "/x:/usr/bin:/bin"


@pytest.mark.parametrize(
    ("written", "words"),
    [
        ("$NOPE", ["env.X: $NOPE is not set", "${NOPE:-}"]),
        ("$LATER", ["$LATER is not set"]),
        ("$(hostname)", ["needs a shell"]),
        ("${PATH:+:$PATH}", ["needs a shell"]),
    ],
)
def test_a_reference_to_nothing_is_refused(written: str, words: list[str]) -> None:
    with pytest.raises(ConfigError) as caught:
        plan(env={"X": written, "LATER": "1"})
    assert all(word in str(caught.value) for word in words), str(caught.value)


@pytest.mark.parametrize(
    ("program", "advice"),
    [
        ("python train.py --x 1", '[python, train.py, --x, "1"]'),
        ("bash run.sh", "[bash, run.sh]"),
        ("torchrun --nproc_per_node 8 train.py", '[torchrun, --nproc_per_node, "8", train.py]'),
        ("train.py --x 'a b'", '[python, train.py, --x, "a b"]'),
        ("squad.run_squad --do_train", "[python, -m, squad.run_squad, --do_train]"),
        ("run.sh", "[run.sh]"),
        ("./train", "[./train]"),
        ("echo 'open", """[echo, "'open"]"""),
    ],
)
def test_a_command_as_one_text_is_refused_with_the_list_to_write(program: str, advice: str) -> None:
    with pytest.raises(ConfigError, match="write it as a list") as caught:
        missing_program(JobConfig(program=program), (), Provenance("job.yaml", {"program": 3}))
    assert str(caught.value).startswith("job.yaml:3: program: ") and str(caught.value).endswith(advice)


def test_a_module_a_script_and_a_list_are_programs(tmp_path: Path) -> None:
    (tmp_path / "my train.py").write_text("")
    for program in ("json.tool", "train", "train.py", str(tmp_path / "my train.py"), ["echo", "a b"]):
        missing_program(JobConfig(program=program), (), Provenance())
    for empty in ("", "  ", [], [" "]):
        with pytest.raises(ConfigError, match="missing"):
            missing_program(JobConfig(program=empty), (), Provenance())


def test_a_quota_of_cpu_time_counts_as_cores_do() -> None:
    def threads(quota: float, **more: Any) -> list[str]:
        return [rank.env["OMP_NUM_THREADS"] for rank in plan(quota=quota, **more).ranks]

    assert threads(float("inf")) == ["2", "2"]
    assert threads(3.5) == ["1", "1"] and threads(0.5) == ["1", "1"] and threads(16.0) == ["2", "2"]
    assert threads(2.0, bound={0: (0, 1), 1: (2, 3)}) == ["1", "1"]


def test_a_dry_run_shows_no_secret() -> None:
    words = ("sh", "--token", "leak", "--password=leak")
    planned = plan(command=words, env={"MY_KEY": "leak a, b"})
    assert planned.ranks[0].env["MY_KEY"] == "leak a, b"
    text = "\n".join(dry_run.as_lines(planned, OUTER)) + json.dumps(dry_run.as_dict(planned))
    assert "leak" not in text and "MY_KEY" in text
    assert Plan.from_json(planned.to_json(masked=True)).ranks[0].env["MY_KEY"] == "***"


def test_policy_takes_every_key_of_the_job_that_it_knows() -> None:
    policy = plan(grace=3.0, max_restarts=2, restart_on=["hang"], hang_timeout=9.0, max_log_bytes=5).policy
    assert (policy.grace, policy.max_restarts, policy.restart_on) == (3.0, 2, ("hang",))
    assert (policy.hang_timeout, policy.max_log_bytes) == (9.0, 5)


def test_a_bound_rank_has_its_cores_and_as_many_threads() -> None:
    first, second = plan(bound={0: (0,), 1: (1, 2, 3)}).ranks
    assert (first.cores, second.cores) == ((0,), (1, 2, 3))
    assert (first.env["OMP_NUM_THREADS"], second.env["OMP_NUM_THREADS"]) == ("1", "3")
    text = "\n".join(dry_run.as_lines(plan(bound={1: (1, 2, 3)}), OUTER))
    assert ["1", "1-3"] in [line.split()[3:5] for line in text.splitlines()]


def test_a_command_runs_where_the_user_is_and_a_python_program_in_its_rank_folder() -> None:
    assert plan().ranks[0].cwd == "/r"
    assert plan(command=(), program="json.tool").ranks[1].cwd == "/r/runs/job-1/ranks/1"


def test_flags_and_words_reach_the_program_unchanged() -> None:
    words = ("sh", "-c", "echo '*' \"$RANK_ID\"", "--x", "a b")
    assert plan(command=words).ranks[0].argv[1:] == words[1:]
    assert plan(command=(), program="json.tool", args={"a": "b c", "n": None}).ranks[0].argv[-1] == "--a=b c"


def test_a_missing_program_is_not_found(tmp_path: Path) -> None:
    with pytest.raises(NotFoundError):
        plan(command=("no-such-program-anywhere",))
    with pytest.raises(NotFoundError):
        plan(command=(), program=str(tmp_path / "none.py"))


def test_a_program_without_the_right_is_not_executable(tmp_path: Path) -> None:
    (tmp_path / "plain").write_text("x")
    with pytest.raises(NotExecutableError):
        plan(command=(str(tmp_path / "plain"),))
    with pytest.raises(NotExecutableError):
        plan(command=(str(tmp_path) + "/",))


def test_dry_run_shows_ids_cores_logs_environment_command_and_table() -> None:
    text = "\n".join(dry_run.as_lines(plan(), OUTER))
    lines = [line.split() for line in text.splitlines()]
    assert ["1", "10.0.0.9", "6", "1", "any", "logs/rank_1.log"] in lines
    assert "  RANK_ID=0" in text and "(removed) POD_NAME" in text and "rank 1 differs by" in text
    assert "sh -c true" in text
    assert json.loads(text.rpartition("\nrank_table.json\n")[2])["status"] == "completed"


def test_dry_run_as_json_holds_the_whole_plan() -> None:
    value = json.loads(json.dumps(dry_run.as_dict(plan())))
    assert value["ranks"][1]["env"]["DEVICE_ID"] == "6"
    assert value["rank_table"]["server_list"][0]["device"][1]["device_id"] == "6"
    assert value["ranks"][1]["log"].endswith("logs/rank_1.log")
