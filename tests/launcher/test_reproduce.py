"""npu-launch reproduce, and the line of the page: both are started for real, and the plans compared."""

from __future__ import annotations

import hashlib
import html
import json
import os
import shutil
import stat
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from launcher.checks import provenance
from launcher.page import run_page
from launcher.plan.environment import is_telling
from launcher.reproduce import job
from launcher.run_dir import RunDir
from launcher.runs import registry
from tests.launcher.runs_made import finished
from tests.launching import launch

ROOT = Path(__file__).parents[2]
PROGRAM = "import sys\nprint(sys.argv[1:])\nsys.exit(3 if '--fail' in sys.argv else 0)\n"
OF_A_RUN = ("JOB_ID", "NPU_LAUNCH_RUN_ID", "NPU_LAUNCH_RUN_DIR", "NPU_LAUNCH_RANK_DIR", "RANK_TABLE_FILE",
            "ASCEND_PROCESS_LOG_PATH", "ASCEND_WORK_PATH", "PWD", "OLDPWD", "SHLVL", "_", "PATH",
            "PYTHONPATH")  # fmt: skip


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "x.py").write_text(PROGRAM)
    return tmp_path


def runs(folder: Path) -> list[RunDir]:
    return registry.all_runs(str(folder / "runs"))


def asked(run: RunDir) -> list[Any]:
    """Return what a plan asks for, without what is each run's own."""
    plan = registry.read_plan(run)
    ranks = [
        (one.rank, one.device_id, one.argv, one.cwd.replace(plan.run_id, "RUN"),
         {name: value for name, value in one.env.items() if name not in OF_A_RUN})
        for one in plan.ranks
    ]  # fmt: skip
    return [plan.job, plan.backend, plan.policy, ranks]


def assert_same(a: RunDir, b: RunDir) -> None:
    one, other = asked(a), asked(b)
    assert one[:3] == other[:3]
    for left, right in zip(one[3], other[3]):
        assert left[:4] == right[:4]
        assert left[4] == right[4]
    assert len(one[3]) == len(other[3])


def shell(folder: Path, line: str) -> int:
    """Start a line as a person does, with npu-launch on PATH, in another folder and without our PWD."""
    own = folder / "bin" / "npu-launch"
    own.parent.mkdir()
    own.write_text(f'#!/bin/sh\nexec {sys.executable} {ROOT}/launcher/__main__.py "$@"\n')
    own.chmod(own.stat().st_mode | stat.S_IXUSR)
    environ = {**os.environ, "PATH": f"{own.parent}:{os.environ['PATH']}"}
    environ.pop("HCCL_BUFFSIZE", None)
    return subprocess.run(["sh", "-c", line], cwd="/", env=environ, check=False).returncode


@pytest.mark.parametrize(
    "words",
    [("--", "x.py", "two words", "--n=1"), ("program=x.py", "n=1"), ("--", "sh", "-c", "echo '$RANK_ID'")],
)
def test_the_line_of_the_page_starts_the_same_job(folder: Path, words: tuple[str, ...]) -> None:
    setting = {"HCCL_BUFFSIZE": "200", "PWD": "/"}
    first = launch(folder, "--devices", "0-1", "--grace", "7", "--backend", "cpu", *words, env=setting)
    assert first.returncode == 0
    (run,) = runs(folder)
    line = job.read(run).line()
    assert line in html.unescape(run_page.page(run)) and "worker.py" not in line
    assert shell(folder, line) == 0
    one, other = runs(folder)
    assert_same(one, other)


@pytest.mark.parametrize("framework", ["torch", "mindspore", "paddle"])
def test_variables_of_a_framework_are_set_again_and_not_its_ranks_own(folder: Path, framework: str) -> None:
    given = {"torch": "TASK_QUEUE_ENABLE", "mindspore": "MS_DEV_RUNTIME_CONF", "paddle": "FLAGS_npu_jit"}
    words = ("--backend", "cpu", f"framework={framework}", "--", "x.py")
    assert launch(folder, *words, env={given[framework]: "2"}).returncode == 0
    (run,) = runs(folder)
    shell = {**os.environ, "TF_CPP_MIN_LOG_LEVEL": "of tests.launching"}
    found = {name: value for name, value in job.read(run).environ.items() if name not in shell}
    assert found == {given[framework]: "2"}


def test_variables_of_deterministic_computing_are_set_again() -> None:
    asked = "HCCL_DETERMINISTIC LCCL_DETERMINISTIC ATB_MATMUL_SHUFFLE_K_ENABLE CLOSE_MATMUL_K_SHIFT XLA_FLAGS"
    places = ("ATB_HOME_PATH", "XLA_CACHE_DIR", "PATH", "LCCL")
    assert [name for name in (*asked.split(), *places) if is_telling(name)] == asked.split()


def test_a_run_of_an_older_launcher_is_rebuilt_from_its_plan(folder: Path) -> None:
    launch(folder, "--backend", "cpu", "--", "x.py", "a b", "--n=1")
    (run,) = runs(folder)
    text = run.job_yaml.read_text()
    start = text.index("program:")
    run.job_yaml.write_text(text[:start] + "program: ''\n" + text[text.index("args:") :])
    known = job.read(run)
    assert any("older" in line for line in known.unknown)
    assert shell(folder, known.line()) == 0
    one, other = runs(folder)
    assert_same(one, other)


def test_the_command_starts_a_new_run_and_exits_as_it_does(folder: Path) -> None:
    assert launch(folder, "--backend", "cpu", "--", "x.py", "--fail").returncode == 3
    before = {path: path.read_bytes() for path in runs(folder)[0].path.rglob("*") if path.is_file()}
    done = launch(folder, "reproduce", "last", "--run")
    assert done.returncode == 3 and len(runs(folder)) == 2
    assert before == {path: path.read_bytes() for path in before}


def test_a_changed_program_is_a_difference(folder: Path) -> None:
    launch(folder, "--backend", "cpu", "--", "x.py")
    same = json.loads(launch(folder, "reproduce", "--json").stdout)
    assert not same["differs"] and not same["refused"] and not same["not_known"]
    (folder / "x.py").write_text(PROGRAM.replace("3", "4"))
    differs = json.loads(launch(folder, "reproduce", "--json").stdout)["differs"]
    assert [one["name"] for one in differs] == ["x.py sha256"]
    shutil.move(str(folder / "x.py"), str(folder / "y.py"))
    (refusal,) = json.loads(launch(folder, "reproduce", "--json").stdout)["refused"]
    assert "x.py" in refusal


def test_a_secret_is_needed_by_name_and_can_be_given(folder: Path) -> None:
    launch(folder, "--backend", "cpu", "program=x.py", "env.MY_TOKEN=abcdefgh1234")
    told = json.loads(launch(folder, "reproduce", "--json").stdout)
    assert told["secrets"] == ["env.MY_TOKEN"]
    refused = launch(folder, "reproduce", "--run")
    assert refused.returncode == 2 and "env.MY_TOKEN" in refused.stderr and len(runs(folder)) == 1
    assert launch(folder, "reproduce", "last", "env.MY_TOKEN=abcdefgh1234", "--run").returncode == 0


def test_what_a_damaged_run_does_not_tell_is_said(folder: Path) -> None:
    launch(folder, "--backend", "cpu", "--", "x.py")
    (run,) = runs(folder)
    digest = hashlib.sha256((folder / "x.py").read_bytes()).hexdigest()
    assert digest in run_page.page(run) and "was killed" not in run_page.page(run)
    run.result.unlink()  # as after kill -9
    assert "was killed" in run_page.page(run)
    assert json.loads(launch(folder, "reproduce", "--json").stdout)["not_known"][0].startswith("versions")
    run.plan.write_text("{")
    told = launch(folder, "reproduce", "--json")
    assert told.returncode == 0 and any("plan.json" in line for line in json.loads(told.stdout)["not_known"])
    for text in ("\0\xff", "[", "program: [\n"):
        run.job_yaml.write_text(text)
        damaged = launch(folder, "reproduce")
        assert damaged.returncode in (0, 2) and "Traceback" not in damaged.stderr
    run.job_yaml.unlink()
    absent = launch(folder, "reproduce")
    assert absent.returncode == 2 and "train.yaml: not there" in absent.stderr


def test_a_big_file_is_hashed_by_samples(tmp_path: Path) -> None:
    data = bytearray(3 << 20)
    (tmp_path / "a").write_bytes(data)
    first = [provenance.digest(str(tmp_path / "a"), whole) for whole in (True, False)]
    data[-1] = 1
    (tmp_path / "a").write_bytes(data)
    second = [provenance.digest(str(tmp_path / "a"), whole) for whole in (True, False)]
    assert len({*first, *second}) == 4
    assert provenance.digest(str(tmp_path / "none"), True) == ""


def test_the_page_does_not_miss_a_framework_where_tensorflow_is(tmp_path: Path) -> None:
    run = finished(tmp_path)
    result = json.loads(run.result.read_text())
    result["provenance"] = {"launcher": "1", "tensorflow": "2.21.0", "numpy": "2.0.1"}
    run.result.write_text(json.dumps(result))
    page = run_page.page(run)
    assert "2.0.1" in page and "Framework" not in page
