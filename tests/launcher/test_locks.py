"""Cases 37 to 39: one launch a device, no run id twice, and locks that outlived their holder."""

from __future__ import annotations

import fcntl
import json
import os
import signal
import subprocess
import sys
from contextlib import contextmanager
from pathlib import Path
from typing import Callable, Iterator

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


def own(folder: Path, device: int) -> Path:
    """Return the path of this user's lock."""
    return folder / f"npu-launch-device-{device}.{os.geteuid()}.lock"


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
        said = json.loads(own(Path(locks.folder()), 1).read_text())
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


def make_link(path: Path, victim: Path) -> None:
    path.symlink_to(victim)


def make_second_name(path: Path, victim: Path) -> None:
    os.link(str(victim), str(path))


def make_pipe(path: Path, victim: Path) -> None:
    os.mkfifo(str(path))


@pytest.mark.parametrize("make", [make_link, make_second_name, make_pipe])
def test_what_is_no_file_of_ones_own_alone_is_never_written(
    run: RunDir, lock_dir: Path, tmp_path: Path, make: Callable[[Path, Path], None]
) -> None:
    lock_dir.mkdir()
    victim = tmp_path / "victim"
    victim.write_text("precious")
    make(own(lock_dir, 0), victim)
    with pytest.raises(PreflightError, match=r"cannot be locked.*; remove it, or set NPU_LAUNCH_LOCK_DIR"):
        with hold([0], run):
            raise AssertionError
    make(lock_dir / "device-1.lock", victim)  # of an older release
    with hold([1], run):
        assert victim.read_text() == "precious"


def test_every_user_may_see_a_lock_and_none_may_write_it(run: RunDir, lock_dir: Path) -> None:
    with hold([0], run):
        assert os.stat(str(lock_dir)).st_mode & 0o7777 == 0o1777
        assert os.stat(str(own(lock_dir, 0))).st_mode & 0o777 == 0o644


def test_a_folder_in_which_others_could_remove_locks_is_refused(run: RunDir, lock_dir: Path) -> None:
    lock_dir.mkdir()
    lock_dir.chmod(0o777)
    with pytest.raises(PreflightError, match=r"mode 0777: others could remove locks; chmod [+]t "):
        with hold([0], run):
            raise AssertionError
    lock_dir.chmod(0o755)
    with hold([0], run):
        pass


@pytest.mark.parametrize("text", ['{"pid": 1e999, "start": 1, "run": "x"}', "[" * 4000, '{"pid": 1}', "\xff"])
def test_a_damaged_record_holds_nothing(run: RunDir, lock_dir: Path, text: str) -> None:
    lock_dir.mkdir()
    own(lock_dir, 0).write_bytes(text.encode("latin-1"))
    assert holders([0]) == []


def test_a_record_that_others_could_have_written_holds_nothing(lock_dir: Path) -> None:
    lock_dir.mkdir()
    path = own(lock_dir, 0)
    path.write_text(json.dumps({"pid": os.getppid(), "start": procfs.start_of(os.getppid()), "run": "old"}))
    assert [holder.run for holder in holders([0])] == ["old"]
    path.chmod(0o666)
    assert holders([0]) == []


def test_the_kernel_names_who_has_the_lock_whatever_the_record_says(
    lock_dir: Path, other: subprocess.Popen[bytes]
) -> None:
    own(lock_dir, 1).write_text(
        json.dumps({"pid": os.getppid(), "start": procfs.start_of(os.getppid()), "run": "x"})
    )
    (holder,) = holders([1])
    assert (holder.pid, holder.run) == (other.pid, "")


def test_the_name_of_a_holder_stays_in_its_line() -> None:
    text = str(locks.Holder(0, 0, 0, "a\x1b]0;b\nnpu-launch: all is well\u202e"))
    assert text.isprintable()


NOBODY = 65534
@pytest.mark.skipif(os.geteuid() != 0, reason="needs a second user")
def test_another_user_can_hold_a_device_in_his_own_name_alone(run: RunDir, lock_dir: Path) -> None:
    lock_dir.mkdir()
    lock_dir.chmod(0o1777)
    with hold([0], run):
        pass
    mine, theirs = own(lock_dir, 0), lock_dir / f"npu-launch-device-1.{NOBODY}.lock"
    theirs.write_text(json.dumps({"pid": 1, "start": procfs.start_of(1), "run": "root's"}))
    os.chown(str(theirs), NOBODY, NOBODY)
    assert holders([1]) == []  # process 1 is not theirs
    with flocked(mine), flocked(theirs) as pid:
        assert holders([0]) == []
        with hold([0], run):
            assert [holder.pid for holder in holders([0])] == [os.getpid()]
        with pytest.raises(PreflightError, match=rf"device 1 is held by run [?] \(pid {pid}, user "):
            with hold([1], run):
                raise AssertionError


@contextmanager
def flocked(path: Path) -> Iterator[int]:
    """Let a process of another user hold a lock file; give its pid."""
    descriptor = os.open(str(path), os.O_RDONLY)  # the folders above are closed to that user
    reading, writing = os.pipe()
    pid = os.fork()
    if pid == 0:
        os.setuid(NOBODY)
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        os.write(writing, b"x")
        signal.pause()
    os.close(descriptor)
    os.read(reading, 1)
    try:
        yield pid
    finally:
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)
        os.close(reading)
        os.close(writing)


@pytest.mark.skipif(os.geteuid() != 0, reason="needs a second user")
def test_a_folder_of_another_user_is_refused_by_name(run: RunDir, lock_dir: Path) -> None:
    lock_dir.mkdir()
    lock_dir.chmod(0o1777)
    os.chown(str(lock_dir), NOBODY, NOBODY)
    with pytest.raises(PreflightError, match=r"belongs to user .*; set NPU_LAUNCH_LOCK_DIR"):
        with hold([0], run):
            raise AssertionError


def test_the_ranks_do_not_inherit_a_lock(run: RunDir) -> None:
    command = [sys.executable, "-c", "print(flush=True); input()"]
    with hold([0], run):
        child = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, close_fds=False)
    with child:
        assert child.stdout is not None
        child.stdout.readline()
        assert holders([0]) == []
        child.communicate(b"\n")
