"""The checks of doctor and the preflight on the packages as they are really installed; none is imported."""

from __future__ import annotations

import os
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest

from launcher.checks import frameworks, job_framework, job_python
from launcher.checks.machine import RecordingMachine
from launcher.config.job import JobConfig
from launcher.plan.command import WORKER
from tests.frameworks.needs import needs

pytestmark = pytest.mark.frameworks
INSTALLED = {"torch": "torch", "mindspore": "mindspore", "paddle": "paddlepaddle"}


def version(name: str) -> str:
    """Return a version as pip knows it; Python 3.7, which collects this file, has no such module."""
    from importlib import metadata

    return metadata.version(name)


def machine() -> RecordingMachine:
    found = job_python.ask(sys.executable, os.environ)
    return RecordingMachine({"PATH": ""}, paths=found.paths, python=found.version)


@pytest.mark.parametrize("name", [pytest.param(name, marks=needs(name)) for name in INSTALLED])
def test_a_version_is_told_as_the_package_itself_tells_it(name: str) -> None:
    assert frameworks.version_of(machine(), name) == version(INSTALLED[name])


@pytest.mark.parametrize(
    "name, said",
    [
        pytest.param("torch", "without torch_npu: a job for NPUs fails late", marks=needs("torch")),
        pytest.param("paddle", "without paddle-custom-npu: a job for NPUs fails late", marks=needs("paddle")),
    ],
)  # fmt: skip
def test_a_job_for_npus_with_the_packages_for_cpus_is_refused(tmp_path: Path, name: str, said: str) -> None:
    (tmp_path / "train.py").write_text(f"import {name}\n")
    argv = (sys.executable, "-u", WORKER, str(tmp_path / "train.py"))
    env = {**os.environ, "NPU_LAUNCH_CWD": str(tmp_path)}
    [(level, what, todo)] = job_framework.problems(name, JobConfig(), argv, env)
    assert level == "error" and said in what and "install" in todo


@pytest.mark.parametrize("name", [pytest.param("mindspore", marks=needs("mindspore"))])
def test_mindspore_s_wheel_has_its_plugin_and_its_list_of_cann_where_they_are_looked_for(name: str) -> None:
    [finding] = frameworks.check_mindspore(machine())
    assert finding.level == "ok" and f"{name} {version(name)} for CANN " in finding.what, finding.what


@pytest.mark.parametrize("name", [pytest.param("torch", marks=needs("torch"))])
def test_this_torch_loads_torch_npu_by_itself_unless_the_variable_forbids_it(name: str) -> None:
    spec = find_spec(name)
    assert spec is not None and spec.origin is not None
    text = Path(spec.origin).read_text(encoding="utf-8")
    assert f'os.getenv("{job_framework.AUTOLOAD}", "1") == "1"' in text
