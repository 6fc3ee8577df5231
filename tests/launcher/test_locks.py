"""Cases 37 to 39: one launch a device, no run id twice, and locks that outlived their holder."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Iterator

import pytest

from launcher.errors import PreflightError
from launcher.plan.model import Plan, RankSpec
from launcher.process import procfs
from launcher.run_dir import RunDir
from launcher.runs import locks
from launcher.runs.locks import hold, holders, real_devices
from tests.launching import ROOT

CODE = """
import sys
from pathlib import Path
from launcher.runs.locks import hold
from launcher.run_dir import RunDir
with hold([int(word) for word in sys.argv[2:]], RunDir(Path(sys.argv[1]))):
    print("held", flush=True)
    input()
"""


@pytest.fixture(autouse=True)
def lock_dir(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("NPU_LAUNCH_LOCK_DIR", str(tmp_path / "locks"))
    return tmp_path / "locks"


@pytest.fixture
def run(tmp_path: Path) -> RunDir:
    return RunDir.create(tmp_path / "runs" / "mine-1", [])


@pytest.fixture
def other(tmp_path: Path) -> Iterator[subprocess.Popen[bytes]]:
    """Start a process that holds devices 1 and 2 for run theirs-1."""
    folder = RunDir.create(tmp_path / "runs" / "theirs-1", []).path
    command = [sys.executable, "-c", CODE, str(folder), "1", "2"]
    env = dict(os.environ, PYTHONPATH=str(ROOT))
    with subprocess.Popen(command, env=env, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None and process.stdout.readline() == b"held\n"
        yield process
        process.kill()


def test_case_37_a_second_launch_on_a_device_is_refused_with_the_holder(
    run: RunDir, other: subprocess.Popen[bytes]
) -> None:
    with pytest.raises(PreflightError) as caught:
        with hold([0, 1, 2], run):
            raise AssertionError
    text = str(caught.value)
    assert f"device 1 is held by run theirs-1 (pid {other.pid}, user " in text and "device 2" in text
    assert caught.value.exit_code == 78
    with hold([0], run):  # the refused launch kept nothing
        assert [holder.device for holder in holders([1, 2, 3])] == [1, 2]


def test_case_37_the_devices_are_free_once_the_holder_has_ended(
    run: RunDir, other: subprocess.Popen[bytes]
) -> None:
    other.communicate(b"\n")
    with hold([1, 2], run):
        pass
    assert holders(range(8)) == []


def test_case_37_virtual_cpu_devices_are_not_locked() -> None:
    spec = RankSpec(0, "h", 3, 3, 0, ("true",), {}, "/")
    assert real_devices(Plan("job", "1", "/x", "h", "cpu", "", (spec,))) == ()
    assert real_devices(Plan("job", "1", "/x", "h", "npu", "", (spec,))) == (3,)


def test_case_38_a_run_folder_is_never_made_twice(run: RunDir) -> None:
    with pytest.raises(FileExistsError):
        RunDir.create(run.path, [0])


def test_case_39_a_holder_killed_with_sigkill_leaves_nothing_held(
    run: RunDir, other: subprocess.Popen[bytes]
) -> None:
    os.kill(other.pid, signal.SIGKILL)
    other.wait()
    assert holders([1]) == []
    with hold([1, 2], run):
        said = json.loads((Path(locks.folder()) / "device-1.lock").read_text())
        assert said["pid"] == os.getpid() and said["run"] == "mine-1"


def test_case_39_a_lock_that_names_a_recycled_pid_is_stale(run: RunDir, lock_dir: Path) -> None:
    lock_dir.mkdir()
    start = procfs.identity(os.getppid())
    assert start is not None
    for pid, begun in ((os.getppid(), start.start - 1), (4194000, 77)):
        (lock_dir / "device-0.lock").write_text(json.dumps({"pid": pid, "start": begun, "run": "old"}))
        with hold([0], run):
            pass


def test_case_39_where_flock_does_not_reach_the_living_holder_counts(run: RunDir, lock_dir: Path) -> None:
    lock_dir.mkdir()
    parent = procfs.identity(os.getppid())
    assert parent is not None
    record = {"pid": parent.pid, "start": parent.start, "run": "old"}
    (lock_dir / "device-0.lock").write_text(json.dumps(record))
    with pytest.raises(PreflightError, match="run old"):
        with hold([0], run):
            raise AssertionError


@pytest.mark.parametrize("text", ["", "garbage", "[]", '{"pid": "x"}', "\x00" * 100])
def test_a_lock_file_with_anything_in_it_can_be_taken(run: RunDir, lock_dir: Path, text: str) -> None:
    lock_dir.mkdir()
    (lock_dir / "device-0.lock").write_text(text)
    with hold([0], run):
        pass


def test_a_link_or_a_pipe_in_the_place_of_a_lock_is_refused(
    run: RunDir, lock_dir: Path, tmp_path: Path
) -> None:
    lock_dir.mkdir()
    (tmp_path / "victim").write_text("precious")
    (lock_dir / "device-0.lock").symlink_to(tmp_path / "victim")
    os.mkfifo(str(lock_dir / "device-1.lock"))
    for device in (0, 1):
        with pytest.raises(PreflightError, match="cannot be locked"):
            with hold([device], run):
                raise AssertionError
    assert (tmp_path / "victim").read_text() == "precious"


def test_every_user_may_lock(run: RunDir, lock_dir: Path) -> None:
    with hold([0], run):
        assert os.stat(str(lock_dir)).st_mode & 0o7777 == 0o1777
        assert os.stat(str(lock_dir / "device-0.lock")).st_mode & 0o666 == 0o666


def test_the_ranks_do_not_inherit_a_lock(run: RunDir) -> None:
    command = [sys.executable, "-c", "print(flush=True); input()"]
    with hold([0], run):
        child = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, close_fds=False)
    with child:
        assert child.stdout is not None
        child.stdout.readline()
        assert holders([0]) == []
        child.communicate(b"\n")
