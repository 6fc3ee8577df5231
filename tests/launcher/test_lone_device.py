"""`ask` and `score` hold the NPU that they use as a launch holds its own."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Iterator

import pytest

from launcher.commands import lone_device
from launcher.errors import PreflightError
from launcher.run_dir import RunDir
from launcher.runs.locks import hold, holders
from rank_table.sources.tools import Machine
from tests.launching import ROOT, launch

# Holds, becomes another program as `ask` does, and starts one that lives longer than it.
HOLDER = """
import os, sys
from launcher.commands import lone_device
lone_device.hold(["x", "--backend=npu"], "ask", os.environ)
os.execv(sys.executable, [sys.executable, "-c", sys.argv[1]])
"""
PROGRAM = """
import subprocess
from bert import environment
environment.keep_descriptors()
child = subprocess.Popen(["sleep", "60"], close_fds=False)
print(child.pid, flush=True)
input()
"""


@pytest.fixture(autouse=True)
def lock_dir(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NPU_LAUNCH_LOCK_DIR", str(tmp_path / "locks"))


@pytest.fixture
def asking() -> Iterator[subprocess.Popen[str]]:
    """Start an `ask` on device 3, as it is once it has become the program that answers."""
    command = [sys.executable, "-c", HOLDER, PROGRAM]
    env = dict(os.environ, PYTHONPATH=str(ROOT), ASCEND_DEVICE_ID="3")
    with subprocess.Popen(
        command, env=env, stdin=subprocess.PIPE, stdout=subprocess.PIPE, universal_newlines=True
    ) as process:
        yield process
        process.kill()


@pytest.mark.parametrize("command", ["ask", "score"])
def test_a_device_that_a_launch_holds_is_refused_with_the_holder(tmp_path: Path, command: str) -> None:
    with hold([3], RunDir.create(tmp_path / "runs" / "theirs-1", [])):
        words = [command, "x", "--backend", "npu"]
        done = launch(tmp_path, *words, env={"ASCEND_DEVICE_ID": "3"})
        assert done.returncode == 78
        (line,) = done.stderr.splitlines()
        assert line.startswith(f"npu-launch: device 3 is held by run theirs-1 (pid {os.getpid()}, user ")
        advice = "set ASCEND_DEVICE_ID to another device's, or give --backend cpu"
        assert line.endswith(f"; `npu-launch stop theirs-1`, {advice}")
        for free in ({"ASCEND_DEVICE_ID": "2"}, {"ASCEND_DEVICE_ID": "3", "NPU_LAUNCH_RANK_DIR": "x"}):
            done = launch(tmp_path, *words, env=free)
            assert done.returncode == 2 and "no such" in done.stderr  # checkpoint
        for asked in ("-h", "--help"):
            assert launch(tmp_path, *words, asked, env={"ASCEND_DEVICE_ID": "3"}).returncode == 0
    for backend in ("cpu", "auto"):  # there is no NPU here
        with hold([0], RunDir.create(tmp_path / "runs" / backend, [])):
            assert launch(tmp_path, command, "x", f"--backend={backend}").returncode == 2


def test_a_launch_is_refused_while_a_model_is_asked(asking: subprocess.Popen[str], tmp_path: Path) -> None:
    assert asking.stdout is not None
    child = int(asking.stdout.readline())
    (holder,) = holders([2, 3])
    assert str(holder).startswith(f"device 3 is held by npu-launch ask (pid {asking.pid}, user ")
    assert holder.end == "end ask"
    with pytest.raises(PreflightError, match="device 3 is held by npu-launch ask"):
        with hold([3], RunDir.create(tmp_path / "runs" / "mine-1", [])):
            raise AssertionError
    asking.communicate("\n")
    try:
        assert holders([3]) == []  # what the program has started goes on, and has not inherited the lock
        os.kill(child, 0)
    finally:
        os.kill(child, 9)


@pytest.mark.parametrize("command", [("sh", "-c", "echo begun; read line"), ("x.py",)])
def test_a_rank_in_the_debugger_holds_its_npu_too(tmp_path: Path, command: tuple[str, ...]) -> None:
    (tmp_path / "x.py").write_text("print('begun', flush=True)\ninput()\n")
    (tmp_path / "hosts.yaml").write_text(
        "hosts:\n  - {server_id: 10.0.0.1, devices: [{device_id: 3, device_ip: 192.168.1.3}]}\n"
    )
    words = ["--backend", "npu", "--inventory", "hosts.yaml", "--skip-preflight", "devices,host,framework"]
    words += ["--devices", "3", "--debug", "--", *command]
    env = dict(os.environ, PYTHONPATH=str(ROOT))
    with subprocess.Popen(
        [sys.executable, "-m", "launcher", *words], cwd=str(tmp_path), env=env,
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, universal_newlines=True,
    ) as process:  # fmt: skip
        assert process.stdout is not None
        assert process.stdout.readline() == "begun\n"
        (holder,) = holders([3])
        assert str(holder).startswith(f"device 3 is held by npu-launch --debug (pid {process.pid}, user ")
        assert launch(tmp_path, *words).returncode == 78
        process.communicate("\n")
    assert process.returncode == 0 and holders([3]) == []


def test_the_device_is_the_physical_one_that_the_logical_id_means(tmp_path: Path) -> None:
    (tmp_path / "dev").mkdir()
    for number in (4, 5, 6, 7):
        (tmp_path / "dev" / f"davinci{number}").touch()
    environs: list[dict[str, str]] = [
        {}, {"ASCEND_DEVICE_ID": "2"}, {"DEVICE_ID": "1"}, {"ASCEND_DEVICE_ID": "4"},
        {"ASCEND_RT_VISIBLE_DEVICES": "1,3", "ASCEND_DEVICE_ID": "1"}, {"ASCEND_DEVICE_ID": "x"},
    ]  # fmt: skip
    found = [lone_device._device(Machine(environ, root=str(tmp_path))) for environ in environs]
    assert found == [4, 6, 5, None, 7, None]
