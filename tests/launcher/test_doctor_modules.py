"""Doctor on modules of others that have the names of ours."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from launcher.checks import modules
from launcher.checks.finding import Finding
from launcher.checks.machine import RecordingMachine
from tests.launcher.machines import write
from tests.launching import ROOT


def foreign(folder: Path, name: str, distribution: str = "") -> str:
    """Install a package with a name of npu-launch into a folder, by a distribution or by hand."""
    write(folder, f"{name}/__init__.py", "raise RuntimeError('imported')\n")
    if distribution:
        write(folder, f"{distribution}.dist-info/RECORD", f"other.py,,\n{name}/__init__.py,sha256=x,9\n")
    return str(folder)


def test_a_module_of_another_distribution_before_our_own_is_an_error(tmp_path: Path) -> None:
    """Runs the command with a second package on the path of a real interpreter."""
    other = foreign(tmp_path / "site", "squad", "squad_metrics-1.0")
    foreign(tmp_path / "site", "bert")
    env = dict(os.environ, PYTHONPATH=os.pathsep.join((other, str(ROOT))))
    line = [sys.executable, "-c", "from launcher.cli import main; main()", "doctor", "--json"]
    done = subprocess.run(line, cwd=str(tmp_path), env=env, stdout=subprocess.PIPE, check=False)
    found = [Finding(**item) for item in json.loads(done.stdout.decode()) if item["name"] == "modules"]
    assert done.returncode == 78 and [finding.level for finding in found] == ["error", "error"]
    assert f"`import bert` finds {other}/bert/__init__.py, not npu-launch's own" in found[0].what
    assert found[0].todo.startswith(f"take {other} off PYTHONPATH")
    assert f"finds {other}/squad/__init__.py of squad_metrics-1.0" in found[1].what
    assert found[1].todo.startswith("`pip uninstall squad_metrics`")


def test_a_module_in_the_launch_folder_is_a_warning_and_a_folder_without_init_is_none(tmp_path: Path) -> None:
    machine = RecordingMachine({"PATH": ""}, str(tmp_path), folder=str(tmp_path), paths=[str(ROOT)])
    (tmp_path / "templates").mkdir()  # a namespace package: every other module of that name wins
    (found,) = modules.check_modules(machine)
    assert (found.level, found.what) == ("ok", f"bert, launcher, rank_table, squad, templates from {ROOT}")
    write(tmp_path, "bert.py")
    (found,) = modules.check_modules(machine)
    assert found.level == "warning" and f"`import bert` finds {tmp_path}/bert.py" in found.what


def test_a_distribution_that_installed_over_ours_is_an_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(modules, "HOME", foreign(tmp_path / "site", "templates", "flask_templates-2.1"))
    write(tmp_path / "site", "npu_launch-0.1.0.dist-info/top_level.txt", "templates\n")
    machine = RecordingMachine({}, str(tmp_path), folder=str(tmp_path), paths=[modules.HOME])
    found = [finding for finding in modules.check_modules(machine) if "templates" in finding.what]
    assert [finding.level for finding in found] == ["error"]
    assert found[0].what.startswith("flask_templates-2.1 has installed its own templates over")
