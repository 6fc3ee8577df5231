"""The preflight of jobs with torch, MindSpore or Paddle: none that asked for NPUs trains on CPUs."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from launcher.checks import job_framework, job_python
from launcher.config.job import JobConfig
from launcher.errors import UsageError
from launcher.plan.command import WORKER
from tests.launcher.machines import TOOLKIT, write
from tests.launcher.test_doctor_frameworks import installed


class Job:
    """A job whose ranks have a Python with these packages, on a host with CANN 8.5.0."""

    def __init__(self, root: Path, *packages: str, program: str = "import torch\n") -> None:
        self.root = root
        installed(root, *packages)
        info = "usr/local/Ascend/ascend-toolkit/latest/x-linux/ascend_toolkit_install.info"
        write(root, info, TOOLKIT.replace("7.0.T10", "8.5.0"))
        self.program = str(write(root, "train.py", program))
        self.env = {"PYTHONPATH": str(root / "env"), "NPU_LAUNCH_CWD": str(root)}

    def found(self, name: str, *argv: str, **env: str) -> list[tuple[str, str]]:
        command = argv or (sys.executable, "-u", WORKER, self.program)
        rows = job_framework.problems(name, JobConfig(), command, {**self.env, **env}, str(self.root))
        return [(level, f"{what}; {todo}") for level, what, todo in rows]


def test_a_complete_torch_has_no_finding(tmp_path: Path) -> None:
    assert Job(tmp_path, "torch-2.7.1+cpu", "torch_npu-2.7.1.post2").found("torch") == []


@pytest.mark.parametrize(
    "name, packages, said",
    [
        ("torch", ("torch-2.7.1",), "torch 2.7.1 without torch_npu: a job for NPUs fails late, or trains "
         "on the CPU; pip install torch-npu==2.7.1.post2"),
        ("mindspore", ("mindspore-2.7.2",), "mindspore 2.7.2 without its Ascend plugin"),
        ("paddle", ("paddlepaddle-3.0.0",), "paddlepaddle 3.0.0 without paddle-custom-npu"),
        ("mindspore", (), f"{sys.executable} has no mindspore; install it there, name the "
         "Python that has it (python:), or say another framework:"),
    ],
)  # fmt: skip
def test_a_framework_without_its_part_for_npus_is_refused(
    tmp_path: Path, name: str, packages: tuple[str, ...], said: str
) -> None:
    [(level, text)] = Job(tmp_path, *packages).found(name)
    assert level == "error" and text.startswith(said)


def test_a_cann_of_another_release_is_a_warning(tmp_path: Path) -> None:
    [(level, text)] = Job(tmp_path, "torch-2.4.0", "torch_npu-2.4.0").found("torch")[:1]
    assert level == "warning" and "for CANN 8.0.RC3, but the ranks would use Ascend-cann-toolkit 8.5" in text


OFF = {"TORCH_DEVICE_BACKEND_AUTOLOAD": "0"}


@pytest.mark.parametrize(
    "version, program, env, said",
    [
        ("2.6.0", "import torch\n", {}, ""),  # torch loads it
        ("2.6.0", "import torch\n", OFF, "(TORCH_DEVICE_BACKEND_AUTOLOAD=0)"),
        ("2.6.0", "import torch_npu\n", OFF, ""),
        ("2.1.0", "import torch\n", {}, "(it is older than 2.5)"),
        ("2.1.0", "import torch, torch_npu\n", {}, ""),
        ("2.1.0", "from accelerate import Accelerator\n", {}, ""),
        ("2.1.0", "import torch\n", OFF, "(it is older than 2.5)"),
    ],
)  # fmt: skip
def test_a_program_that_nothing_loads_torch_npu_for_is_named(
    tmp_path: Path, version: str, program: str, env: dict[str, str], said: str
) -> None:
    post = {"2.6.0": "2.6.0.post5", "2.1.0": "2.1.0.dev20250101"}[version]
    found = Job(tmp_path, f"torch-{version}", f"torch_npu-{post}", program=program).found("torch", **env)
    assert [level for level, _ in found] == ["warning"] * bool(said)
    what = "train.py does not name it; `import torch_npu` there"
    assert all(said in text and what in text for _, text in found)


def test_a_command_that_is_no_python_is_not_asked(tmp_path: Path) -> None:
    assert Job(tmp_path).found("torch", "/bin/sh", "train.sh") == []
    assert job_python.interpreter(("/opt/env/bin/python3.10", "train.py")) == "/opt/env/bin/python3.10"


@pytest.mark.parametrize("text", ["exit 3", "echo hello"])
def test_a_python_that_does_not_answer_costs_a_warning(tmp_path: Path, text: str) -> None:
    python = write(tmp_path, "bin/python", f"#!/bin/sh\n{text}\n")
    python.chmod(0o755)
    [(level, said)] = Job(tmp_path).found("torch", str(python), "train.py")
    assert level == "warning" and "so it is not known whether torch is there for NPUs" in said
    with pytest.raises(UsageError, match="does not answer as Python does"):
        job_python.ask(str(python), {})


def test_a_site_that_prints_does_not_hide_the_answer(tmp_path: Path) -> None:
    text = "import atexit\nprint('hello', end='')\natexit.register(print, 'bye')\n"
    write(tmp_path, "env/sitecustomize.py", text)
    found = job_python.ask(sys.executable, {"PYTHONPATH": str(tmp_path / "env")})
    assert str(tmp_path / "env") in found.paths and found.version == sys.version_info[:2]
