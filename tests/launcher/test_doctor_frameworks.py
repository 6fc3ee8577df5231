"""Doctor on torch, MindSpore and Paddle: what is installed, what it lacks, and the CANN that it wants."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner

from launcher.checks import frameworks, pairs, variables
from launcher.checks.machine import RecordingMachine
from launcher.cli import main
from launcher.commands.doctor import doctor
from tests.launcher.machines import TOOLKIT, by_name, server, table, write

MINDSPORE = "class GPUEnvChecker:\n    self.version = ['11.6']\nclass AscendEnvChecker(EnvChecker):\n"


def installed(root: Path, *names: str) -> None:
    """Install packages as pip leaves them: a folder with METADATA for each."""
    for text in names:
        name, _, version = text.partition("-")
        metadata = f"Metadata-Version: 2.1\nName: {name.replace('_', '-')}\nVersion: {version}\n"
        write(root, f"env/{text}.dist-info/METADATA", metadata)


def machine(root: Path, cann: str, *names: str) -> RecordingMachine:
    """Build a server with a CANN of this release, whose ranks' Python has these packages."""
    made = server(root, table(kind="910B3"))
    info = "usr/local/Ascend/ascend-toolkit/latest/x-linux/ascend_toolkit_install.info"
    write(root, info, TOOLKIT.replace("7.0.T10", cann))
    installed(root, *names)
    made.paths = [str(root / "env")]
    return made


@pytest.mark.parametrize(
    "torch, npu, cann, level, said",
    [
        ("2.7.1+cpu", "2.7.1.post2", "8.5.0", "ok", "torch 2.7.1+cpu, torch_npu 2.7.1.post2 for CANN 8.5.0"),
        ("2.1.0", "2.1.0.post12", "8.3.RC1", "ok", "for CANN 8.1.RC1"),  # published as compatible
        ("2.9.0", "2.9.0.post2", "9.1.0.beta1", "ok", "for CANN 9.0.0"),
        ("2.7.1", "2.7.1.post2", "8.2.RC1", "warning", "pip install torch-npu==2.7.1, or source the"),
        ("2.1.0", "2.1.0.post3", "8.0.RC2", "warning", "pip install torch-npu==2.1.0.post6, or source the"),
        ("2.12.0", "2.12.0", "8.0.0", "warning", "9.1.0, but the ranks would use Ascend-cann"),
        ("2.6.0+cpu", "2.7.1.post2", "8.5.0", "warning", "torch==2.7.1, or torch-npu==2.6.0"),
        ("2.8.0a0+git1f", "2.8.0.post2", "8.5.0", "ok", "for CANN 8.5.0"),  # built from source
        ("2.12.0", "2.12.0", "9.2.0", "ok", "for CANN 9.1.0"),  # the tables know nothing of it
        ("2.6.0", "2.6.0", "10.0.RC1", "ok", "for CANN 8.2.RC1"),
        ("2.14.0", "2.14.0", "9.1.0", "ok", "of no release in npu-launch's table"),
        ("2.7.1", "2.7.1.post3", "8.0.0", "ok", "of no release in npu-launch's table"),
        ("2.7.1", "2.7.1.post2+git1a2b", "7.0.T10", "ok", "for CANN 8.5.0"),  # an unreleased CANN
    ],
)  # fmt: skip
def test_torch_its_plugin_and_cann_are_a_set_that_is_published(
    tmp_path: Path, torch: str, npu: str, cann: str, level: str, said: str
) -> None:
    finding = by_name(machine(tmp_path, cann, f"torch-{torch}", f"torch_npu-{npu}"))["torch"]
    assert (finding.level, said in str(finding)) == (level, True), str(finding)


def test_torch_alone_on_a_server_with_npus_is_named_with_the_plugin_that_fits(tmp_path: Path) -> None:
    found = by_name(machine(tmp_path, "8.1.RC1", "torch-2.5.1+cpu"))
    assert found["torch"].level == "warning"
    assert str(found["torch"]) == (
        "torch 2.5.1+cpu without torch_npu: a job for NPUs fails late, or trains on the CPU; "
        "pip install torch-npu==2.5.1"
    )
    assert "tensorflow" not in found and "adapter" not in found  # nobody asked for them


def test_torch_alone_is_no_problem_where_there_is_no_npu(tmp_path: Path) -> None:
    installed(tmp_path, "torch-2.5.1+cpu")
    here = RecordingMachine({"PATH": ""}, str(tmp_path), folder=str(tmp_path), paths=[str(tmp_path / "env")])
    assert by_name(here)["torch"].level == "ok"


@pytest.mark.parametrize(
    "version, listed, cann, number, level, said",
    [
        ("2.7.1", '["8.2", "8.3"]', "8.3.RC1", "8.3.0.1.200", "ok", "for CANN 8.3.RC1"),
        ("2.4.10", '["7.3", "7.5", "7.6"]', "8.0.0", "7.6.0.1.220", "ok", "for CANN 8.0.0"),
        ("2.4.10", '["7.3", "7.5", "7.6"]', "8.0.RC3", "7.5.0.1.129", "ok", "for CANN 8.0.0"),  # it takes it
        ("2.4.10", '["7.3", "7.5", "7.6"]', "8.5.0", "", "warning", "set_env.sh of CANN 8.0.0"),
        ("2.10.0", '["8.2", "8.3", "8.5"]', "8.0.0", "7.6.0.1.220", "warning", "8.2 or 8.3 or 8.5, but"),
        ("2.10.0", '["8.2", "8.3", "8.5"]', "8.5.0", "", "ok", "for CANN 8.2 or 8.3 or 8.5"),
        ("2.99.0", "", "8.5.0", "", "ok", "of no release in npu-launch's table"),
    ],
)  # fmt: skip
def test_mindspore_and_cann_are_compared_by_mindspore_s_own_list(
    tmp_path: Path, version: str, listed: str, cann: str, number: str, level: str, said: str
) -> None:
    here = machine(tmp_path, cann, f"mindspore-{version}")
    write(tmp_path, "env/mindspore/lib/plugin/libmindspore_ascend.so.2")
    text = MINDSPORE + f"        self.version = {listed}\n" if listed else ""
    write(tmp_path, "env/mindspore/run_check/_check_version.py", text)
    if number:
        folder = "usr/local/Ascend/ascend-toolkit/latest"
        write(tmp_path, f"{folder}/compiler/version.info", f"Version={number}\n")
    finding = by_name(here)["mindspore"]
    assert (finding.level, said in str(finding)) == (level, True), str(finding)


def test_a_mindspore_for_cpus_is_known_by_the_plugin_that_it_lacks(tmp_path: Path) -> None:
    finding = by_name(machine(tmp_path, "8.5.0", "mindspore-2.7.2"))["mindspore"]
    assert finding.level == "warning" and "mindspore 2.7.2 without its Ascend plugin" in finding.what


@pytest.mark.parametrize(
    "names, built_with, level, said",
    [
        (("paddlepaddle-3.0.0",), "", "warning", "without paddle-custom-npu"),
        (("paddlepaddle-3.0.0", "paddle_custom_npu-3.0.0"), "8.0.0", "ok", "for CANN 8.0.0"),
        (("paddlepaddle-3.0.0", "paddle_custom_npu-3.0.0"), "", "ok", "for CANN 8.0.0"),
        (("paddlepaddle-3.0.0", "paddle_custom_npu-3.0.0"), "8.0.RC1", "warning", "of CANN 8.0.RC1"),
        (("paddlepaddle-3.0.0", "paddle_custom_npu-3.0.0"), "8.0.T13", "ok", "for CANN 8.0.T13"),
        (("paddlepaddle-3.1.0", "paddle_custom_npu-3.0.0"), "8.0.0", "warning", "paddlepaddle==3.0.0"),
    ],
)  # fmt: skip
def test_paddle_its_plugin_and_the_cann_that_it_was_built_with(
    tmp_path: Path, names: tuple[str, ...], built_with: str, level: str, said: str
) -> None:
    here = machine(tmp_path, "8.0.0", *names)
    if built_with:
        write(tmp_path, "env/paddle_custom_device/npu/__init__.py", f"cann_version  = '{built_with}'\n")
    finding = by_name(here)["paddle"]
    assert (finding.level, said in str(finding)) == (level, True), str(finding)


def test_older_wheels_that_are_for_npus_alone_lack_nothing(tmp_path: Path) -> None:
    here = machine(tmp_path, "7.0.0", "mindspore_ascend-1.10.1", "paddlepaddle_npu-2.5.0")
    found = {finding.name: finding for finding in frameworks.check_frameworks(here)}
    assert {name: finding.level for name, finding in found.items()} == {"mindspore": "ok", "paddle": "ok"}


def test_a_framework_on_the_path_that_pip_did_not_install_is_found(tmp_path: Path) -> None:
    here = machine(tmp_path, "8.5.0")
    write(tmp_path, "env/torch/__init__.py")
    write(tmp_path, "env/torch_npu/__init__.py")
    assert [finding.what for finding in frameworks.check_torch(here)] == [
        "torch ?, torch_npu ? (of no release in npu-launch's table: its CANN is not checked)"
    ]


def test_a_torch_npu_is_published_for_one_cann_alone() -> None:
    every = [name for names in pairs.TORCH_NPU.values() for name in names]
    assert len(every) == len(set(every))
    assert all(pairs.release(cann) == cann for cann in (*pairs.TORCH_NPU, *pairs.MINDSPORE.values()))


def test_numbers_of_a_pod_that_no_rank_gets_are_named(tmp_path: Path) -> None:
    here = machine(tmp_path, "8.5.0", "torch-2.7.1", "torch_npu-2.7.1.post2")
    here.environ = {**here.environ, "RANK": "3", "LOCAL_RANK": "0,1", "MS_ROLE": "MS_SCHED", "CM_RANK": "3"}
    texts = [str(finding) for finding in variables.check_misleading(here)]
    assert texts[0].startswith("CM_RANK set: ")
    assert texts[1].startswith("LOCAL_RANK, MS_ROLE, RANK set: of a pod or another launch")
    assert len(texts) == 2
    here.paths = []  # no framework, whose program may be a shell script
    assert str(list(variables.check_misleading(here))[1]).startswith("LOCAL_RANK, RANK set: ")


def test_a_list_of_devices_that_cann_refuses_is_an_error(tmp_path: Path) -> None:
    here = machine(tmp_path, "8.5.0", "torch-2.7.1", "torch_npu-2.7.1.post2")
    here.environ = {**here.environ, "ASCEND_RT_VISIBLE_DEVICES": "3,1"}
    finding = by_name(here)["environment"]
    assert finding.level == "error" and "(EE1001); give 1,3" in finding.what


def test_the_python_of_the_jobs_is_looked_at_instead_of_this_one(tmp_path: Path) -> None:
    installed(tmp_path, "torch-2.5.1+cpu")
    script = f'#!/bin/sh\nPYTHONPATH={tmp_path}/env exec {sys.executable} "$@"\n'
    python = write(tmp_path, "bin/python3", script)
    python.chmod(0o755)
    done = CliRunner().invoke(doctor, ["--json", "--python", str(python)])
    rows = {row["name"]: row["what"] for row in json.loads(done.output)}
    assert rows["torch"] == "torch 2.5.1+cpu without torch_npu"
    bad = CliRunner().invoke(main, ["doctor", "--python", "/bin/false"])
    assert bad.exit_code == 2 and "/bin/false: it does not answer as Python does" in bad.output
