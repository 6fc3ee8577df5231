"""What a rank's environment holds, and what of it is refused before anything starts."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner
from hypothesis import given
from hypothesis import strategies as st

from launcher.cli import main
from launcher.config import ascend_env
from launcher.errors import ConfigError
from launcher.hccl import variables
from launcher.plan import environment
from launcher.profiles import tensorflow
from launcher.profiles.base import Profile, RankContext

RANK = RankContext(
    rank=1, size=2, local_rank=1, local_size=2, device_id=5, ascend_device_id=1,
    run_dir="/runs/r", run_id="bert-1", backend="npu", threads=4, launch_dir="/here",
)  # fmt: skip


def rank_env(outer: dict[str, str]) -> dict[str, str]:
    return environment.of_rank(outer, RANK)


def free_env(chief: str = "10.0.0.1", outer: dict[str, str] = {}) -> dict[str, str]:  # noqa: B006
    return tensorflow.without_rank_table(
        rank_env(outer), chief_ip=chief, chief_device=0, worker_ip="10.0.0.2"
    )


def errors(env: dict[str, str], chip: str = "") -> list[str]:
    return [name for name, _ in environment.review(env, "npu", chip)[0]]


def test_what_would_mislead_a_rank_is_removed_and_the_rest_inherited() -> None:
    outer = {"POD_NAME": "p", "CM_CHIEF_IP": "1", "CM_RANK": "0", "TF_CONFIG": "{}", "LANG": "C"}
    outer.update(AOE_MODE="2", HELP_CLUSTER="1", RANK="0", WORLD_SIZE="16", MASTER_ADDR="pod-0")
    outer.update(PET_NNODES="2", TORCHELASTIC_RUN_ID="x")
    outer["NPU_LAUNCH_RUN_ID"] = "of an outer launch"
    env = rank_env(outer)
    assert set(outer) & set(env) == {"LANG", "NPU_LAUNCH_RUN_ID"}
    assert env["LANG"] == "C" and env["NPU_LAUNCH_RUN_ID"] == "bert-1"
    assert environment.review(env, "npu") == ([], [])


def test_a_program_of_no_framework_gets_the_common_environment_alone() -> None:
    env = environment.of_rank({"TF_CONFIG": "{}", "CM_RANK": "0", "NPU_LAUNCH_RANK": "9"}, RANK, Profile())
    assert {"TF_CONFIG", "CM_RANK", "RANK_ID"} <= set(env)
    assert not {"JOB_ID", "NPU_LAUNCH_RANK"} & set(env)
    assert environment.review(dict(env, POD_NAME="p"), "npu", profile=Profile()) == ([], [])


@pytest.mark.parametrize("name", ["AOE_MODE", "HELP_CLUSTER"])
def test_what_the_adapter_reads_of_a_shell_reaches_a_rank_only_when_the_job_says_so(
    job: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    monkeypatch.setenv(name, "2")
    plan = plan_of()
    assert not [rank for rank in plan["ranks"] if name in rank["env"]]
    assert not [note for note in plan["notes"] if name in note]
    plan = plan_of(f"env={{{name}: '1'}}")
    assert [rank["env"][name] for rank in plan["ranks"]] == ["1", "1"]
    [note] = [note for note in plan["notes"] if name in note]
    assert note.startswith(f"{name}: set: the adapter ")


def test_device_id_is_physical_ascend_device_id_logical() -> None:
    env = rank_env({})
    assert (env["DEVICE_ID"], env["ASCEND_DEVICE_ID"], env["RANK_ID"], env["RANK_SIZE"]) == (
        "5",
        "1",
        "1",
        "2",
    )


def test_what_cann_writes_goes_to_the_ranks_folder() -> None:
    env = rank_env({"DUMP_GE_GRAPH": "2"})
    for name in ("ASCEND_WORK_PATH", "ASCEND_PROCESS_LOG_PATH", "DUMP_GRAPH_PATH"):
        assert env[name].startswith("/runs/r/ranks/1")
    assert "DUMP_GRAPH_PATH" not in rank_env({})


def test_the_connect_timeout_is_the_users_or_600() -> None:
    assert rank_env({})["HCCL_CONNECT_TIMEOUT"] == "600"
    assert rank_env({"HCCL_CONNECT_TIMEOUT": "900"})["HCCL_CONNECT_TIMEOUT"] == "900"


@given(st.text(max_size=40))
def test_every_run_gets_a_job_id_that_the_adapter_takes(name: str) -> None:
    made = tensorflow.job_id(name)
    assert re.match(r"[A-Za-z0-9_-]+\Z", made) and not re.match(r"0\d*\Z", made)
    assert "JOB_ID" not in errors(dict(rank_env({}), JOB_ID=made))


def test_a_bad_job_id_of_the_users_is_refused() -> None:
    for bad in ("", "0123", "a b", "a.b"):
        assert errors(dict(rank_env({}), JOB_ID=bad)) == ["JOB_ID"]


def test_both_families_of_variables_together_are_refused() -> None:
    found, _ = environment.review(dict(rank_env({}), CM_WORKER_SIZE="2"), "npu")
    assert [name for name, _ in found] == ["CM_WORKER_SIZE"]
    assert "train alone" in found[0][1]


def test_a_pod_name_beside_a_rank_table_is_refused() -> None:
    assert errors(dict(rank_env({}), POD_NAME="pod-0")) == ["POD_NAME"]


def test_without_a_rank_table_hccl_finds_the_ranks_and_we_still_know_ours() -> None:
    env = free_env(outer={"RANK_TABLE_FILE": "/old.json"})
    assert set(tensorflow.TABLE_FAMILY) & set(env) == set()
    assert env["CM_WORKER_SIZE"] == "2" and env["CM_CHIEF_IP"] == "10.0.0.1" and env["CM_CHIEF_DEVICE"] == "0"
    assert env["NPU_LAUNCH_RANK"] == "1" and env["NPU_LAUNCH_RANK_TABLE"] == "/runs/r/rank_table.json"
    assert errors(env) == errors(env, "910A") == errors(env, "A2") == []


def test_without_a_rank_table_only_910a_and_a2_and_addresses_will_do() -> None:
    assert errors(free_env(), "A3") == ["rank_table_free"]
    assert errors(free_env("node-1")) == ["CM_CHIEF_IP"]
    assert errors(dict(free_env(), CM_CHIEF_PORT="65521", CM_WORKER_SIZE="x")) == [
        "CM_CHIEF_PORT",
        "CM_WORKER_SIZE",
    ]


@given(st.text(max_size=30))
def test_the_chiefs_port_is_free_of_hccls_own_and_the_same_everywhere(run_id: str) -> None:
    assert tensorflow.chief_port(run_id) == tensorflow.chief_port(run_id)
    assert 60032 <= tensorflow.chief_port(run_id) <= 65520


GOOD = {
    "HCCL_CONNECT_TIMEOUT": ["120", "600", "7200"],
    "HCCL_BUFFSIZE": ["1", "200"],
    "HCCL_IF_BASE_PORT": ["1024", "65520"],
    "HCCL_IF_IP": ["10.1.2.3", "fe80::1%eth0"],
    "HCCL_SOCKET_IFNAME": ["eth", "^eth,enp", "=eth0", "^=eth0,enp3s0"],
    "HCCL_SOCKET_FAMILY": ["AF_INET", "AF_INET6"],
    "HCCL_RDMA_TC": ["0", "132", "252"],
    "HCCL_NPU_SOCKET_PORT_RANGE": ["auto", "61000", "61000,61050-61100"],
    "HCCL_OP_RETRY_ENABLE": ["L1:0,L2:0", "L1:1, L2:1"],
    "HCCL_DEBUG_CONFIG": ["ALG,TASK,RESOURCE", "^task"],
    "HCCL_DETERMINISTIC": ["true", "strict"],
    "HCCL_EXEC_TIMEOUT": ["0", "1836", "0.05"],
    "HCCL_LOGIC_SUPERPOD_ID": ["super_pod_id_1"],
}
BAD = {
    "HCCL_CONNECT_TIMEOUT": ["119", "7201", "ten", "600s", ""],
    "HCCL_BUFFSIZE": ["0", "200MB"],
    "HCCL_IF_BASE_PORT": ["1023", "65521"],
    "HCCL_IF_IP": ["eth0", "10.1.2"],
    "HCCL_SOCKET_IFNAME": ["eth 0", "==eth0"],
    "HCCL_SOCKET_FAMILY": ["IPv4"],
    "HCCL_RDMA_TC": ["133", "256"],
    "HCCL_NPU_SOCKET_PORT_RANGE": ["0", "61100-61000", "61000-61050,61050", "61000 61001"],
    "HCCL_OP_RETRY_ENABLE": ["1"],
    "HCCL_DEBUG_CONFIG": ["alg, task"],
    "HCCL_DETERMINISTIC": ["yes"],
    "HCCL_EXEC_TIMEOUT": ["-1", "never"],
    "HCCL_LOGIC_SUPERPOD_ID": ["x" * 128],
}


@pytest.mark.parametrize("name", sorted(GOOD))
def test_documented_values_pass_and_others_are_refused_before_the_start(name: str) -> None:
    for value in GOOD[name]:
        assert "error" not in [level for level, _, _ in variables.findings({name: value})], value
    for value in filter(None, BAD[name]):
        [(level, found, message)] = variables.findings({name: value})
        assert (level, found) == ("error", name) and repr(value) in message


def test_every_rule_has_a_test() -> None:
    simple = {name for name, rule in variables.RULES.items() if rule} - set(GOOD)
    assert all(list(variables.findings({name: "no such value"})) for name in simple)


def test_a_misspelt_name_is_told_with_the_right_one() -> None:
    errors_, notes = environment.review(dict(rank_env({}), HCCL_BUFFERSIZE="200"), "npu")
    assert errors_ == [] and notes == ["HCCL_BUFFERSIZE: did you mean HCCL_BUFFSIZE?"]
    [(_, _, text)] = variables.findings({"HCCL_FROBNICATE": "1"})
    assert "ignores" in text


@pytest.mark.parametrize(
    "pcie, roce, legal",
    [("1", None, True), ("1", "0", True), ("0", "1", True), (None, "1", True), ("0", "0", True),
     (None, None, True), ("1", "1", False), ("0", None, False), (None, "0", False)],
)  # fmt: skip
def test_only_the_documented_pairs_of_links_pass(pcie: Any, roce: Any, legal: bool) -> None:
    env = {"HCCL_INTRA_PCIE_ENABLE": pcie, "HCCL_INTRA_ROCE_ENABLE": roce}
    assert (list(variables.findings({k: v for k, v in env.items() if v})) == []) is legal


def test_910a_has_rules_of_its_own() -> None:
    assert [f[0] for f in variables.findings({"HCCL_EXEC_TIMEOUT": "0"}, "910A")] == ["error"]
    [(level, _, text)] = variables.findings({"HCCL_EXEC_TIMEOUT": "600"}, "910A")
    assert level == "note" and "544" in text


def test_a_whitelist_needs_its_file() -> None:
    assert [f[1] for f in variables.findings({"HCCL_WHITELIST_DISABLE": "0"})] == ["HCCL_WHITELIST_FILE"]


def test_cpu_ranks_are_not_troubled_with_hccl() -> None:
    assert environment.review({"HCCL_CONNECT_TIMEOUT": "1"}, "cpu") == ([], [])


@pytest.fixture
def script(tmp_path: Path) -> Path:
    path = tmp_path / "set_env.sh"
    path.write_text(
        "echo sourced\n"
        "export ASCEND_HOME_PATH=/opt/cann\nexport PATH=$ASCEND_HOME_PATH/bin:$PATH\n"
        'export TWO_LINES="a\nb"\nunset GONE\nhelper() { :; }\nexport -f helper\n'
    )
    return path


def test_a_sourced_script_changes_sets_and_unsets_variables(script: Path) -> None:
    before = {"PATH": "/usr/bin:/bin", "GONE": "x", "KEPT": "y", "PWD": "/somewhere"}
    after, note = ascend_env.load(str(script), before)
    assert after["PATH"] == "/opt/cann/bin:/usr/bin:/bin" and after["TWO_LINES"] == "a\nb"
    assert "GONE" not in after and after["KEPT"] == "y" and after["PWD"] == "/somewhere"
    assert not [name for name in after if "BASH" in name or name in ("SHLVL", "_")]
    assert note.endswith("sets ASCEND_HOME_PATH, PATH, TWO_LINES")


def test_the_users_start_up_files_of_bash_are_not_read(script: Path, tmp_path: Path) -> None:
    (tmp_path / "rc").write_text("export FROM_RC=1\n")
    (tmp_path / ".bashrc").write_text("export FROM_RC=1\n")
    after, _ = ascend_env.load(
        str(script), {"PATH": "/bin", "BASH_ENV": str(tmp_path / "rc"), "HOME": str(tmp_path)}
    )
    assert "FROM_RC" not in after


def test_without_a_script_the_environment_stays() -> None:
    assert ascend_env.load("", {"A": "1"}) == ({"A": "1"}, "")


def test_a_missing_or_failing_script_is_an_error_that_names_it(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"nowhere\.sh: no such file"):
        ascend_env.load("nowhere.sh", {"PATH": "/bin"}, str(tmp_path))
    (tmp_path / "bad.sh").write_text("echo no driver >&2\nreturn 3\n")
    with pytest.raises(ConfigError, match=r"ascend_env: .*bad\.sh: exit code 3: no driver"):
        ascend_env.load("bad.sh", {"PATH": "/bin"}, str(tmp_path))


@pytest.mark.parametrize(
    ("text", "sets", "ending"),
    [
        ("export A=1\n[ -d /nowhere ] && export B=2\n", {"A": "1"}, "sets A; it ended with 1: no message"),
        ("echo loud\nexport A=1\ntest -z x\n", {"A": "1"}, "it ended with 1: loud"),
        ("export A=1\necho no driver >&2\nreturn 2\n", {"A": "1"}, "it ended with 2: no driver"),
        ("export PATH=/nowhere A=1\n", {"A": "1", "PATH": "/nowhere"}, "sets A, PATH"),
        ("set -eu\nexport A=$#\n", {"A": "0"}, "sets A"),
        ("set -a\nA=1\n", {"A": "1"}, "sets A"),
        ("exec >/dev/null\nA() { :; }\nexport A=1\n", {"A": "1"}, "sets A"),
    ],
)
def test_a_script_is_judged_by_what_it_sets(
    tmp_path: Path, text: str, sets: dict[str, str], ending: str
) -> None:
    (tmp_path / "set_env.sh").write_text(text)
    before = {"PATH": "/usr/bin:/bin"}
    after, note = ascend_env.load("set_env.sh", before, str(tmp_path))
    assert after == {**before, **sets} and note.endswith(ending)


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("export A=1\necho no >&2\nexit 3\n", "exit code 3: no"),
        ("export A=1\nif true; then\n", "syntax error"),
        ("if then\nfi\n", "syntax error"),
        ("set -e\nexport A=1\nls /nowhere/at/all\nexport B=2\n", "nowhere/at/all"),
        ("set -u\nexport A=$NOT_SET\n", "NOT_SET"),
        ("false\n", "exit code 1: no message; it sets nothing"),
    ],
)
def test_a_script_that_gives_up_is_refused(tmp_path: Path, text: str, reason: str) -> None:
    (tmp_path / "set_env.sh").write_text(text)
    with pytest.raises(ConfigError) as caught:
        ascend_env.load("set_env.sh", {"PATH": "/usr/bin:/bin"}, str(tmp_path))
    assert reason in str(caught.value) and "ascend_env: " in str(caught.value)


def test_a_script_whose_variables_are_set_already_is_taken(tmp_path: Path) -> None:
    (tmp_path / "set_env.sh").write_text("export ASCEND_HOME_PATH=/opt/cann\nfalse\n")
    before = {"PATH": "/usr/bin:/bin", "ASCEND_HOME_PATH": "/opt/cann"}
    assert ascend_env.load("set_env.sh", before, str(tmp_path))[0] == before


def test_a_script_that_does_not_end_is_given_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ascend_env, "TIMEOUT", 0.3)
    (tmp_path / "slow.sh").write_text("exec sleep 60\n")
    with pytest.raises(ConfigError, match=r"still running after 0\.3 s"):
        ascend_env.load("slow.sh", {"PATH": "/usr/bin:/bin"}, str(tmp_path))


@pytest.fixture
def job(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    devices = "[{device_id: 4, device_ip: 192.168.1.1}, {device_id: 5, device_ip: 192.168.1.2}]"
    (tmp_path / "inventory.yaml").write_text(f"hosts:\n  - server_id: 10.0.0.1\n    devices: {devices}\n")
    (tmp_path / "job.yaml").write_text(
        "job: v1.0\nprogram: ['true']\nbackend: npu\ndevices: 4-5\ninventory: inventory.yaml\n"
    )
    return tmp_path / "job.yaml"


def plan_of(*words: str) -> Any:
    result = CliRunner().invoke(main, ["run", "--dry-run", "--json", "job.yaml", *words])
    assert result.exit_code == 0, result.output
    return json.loads(result.output)


def test_dry_run_shows_what_the_script_sets_and_the_notes(job: Path, script: Path) -> None:
    plan = plan_of(f"ascend_env={script}", "env={HCCL_BUFFERSIZE: '1'}")
    first, second = (rank["env"] for rank in plan["ranks"])
    assert first["ASCEND_HOME_PATH"] == "/opt/cann" and second["PATH"].startswith("/opt/cann/bin:")
    assert (first["DEVICE_ID"], first["ASCEND_DEVICE_ID"]) == ("4", "0")
    assert not first["JOB_ID"].startswith("v1.0") and first["JOB_ID"].startswith("v1-0")
    assert [note for note in plan["notes"] if "set_env.sh sets" in note]
    assert [note for note in plan["notes"] if "did you mean HCCL_BUFFSIZE" in note]


def test_dry_run_without_a_rank_table_shows_the_other_family(job: Path) -> None:
    envs = [rank["env"] for rank in plan_of("rank_table_free=true")["ranks"]]
    assert [env["CM_CHIEF_DEVICE"] for env in envs] == ["0", "0"] and "RANK_ID" not in envs[0]
    assert [env["NPU_LAUNCH_RANK"] for env in envs] == ["0", "1"]


def test_a_bad_value_stops_the_launch_with_file_and_line(job: Path) -> None:
    job.write_text(job.read_text() + "env:\n  HCCL_CONNECT_TIMEOUT: '60'\n  HCCL_IF_IP: eth0\n")
    result = CliRunner().invoke(main, ["run", "--dry-run", "job.yaml"])
    lines = result.output.strip().splitlines()
    assert result.exit_code == 2 and len(lines) == 2
    wrong = "HCCL_CONNECT_TIMEOUT: '60': invalid value (expected a whole number from 120 to 7200)"
    assert "job.yaml:7: env." + wrong in lines[0]
    assert "job.yaml:8: env.HCCL_IF_IP" in lines[1]


def test_a_bad_value_of_the_shell_is_told_as_such(job: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HCCL_CONNECT_TIMEOUT", "60")
    result = CliRunner().invoke(main, ["run", "--dry-run", "job.yaml"])
    assert result.exit_code == 2
    wrong = "HCCL_CONNECT_TIMEOUT: '60': invalid value (expected a whole number from 120 to 7200)"
    assert "environment: " + wrong in result.output
