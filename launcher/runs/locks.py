"""One launch per device: a lock for each real NPU, and the record of the launcher of a run.

A lock is a file that its holder keeps flock()ed: the kernel releases it however the holder ends, so nothing
has to be cleaned up after a crash. The file names the holder by pid and start time; where flock() does not
work (a lock folder on a network file system), that pair alone decides, and a reused pid is told by its start
time. A lock left by a dead launcher is ignored. Virtual CPU devices are not locked: two runs may share cores.
"""

from __future__ import annotations

import fcntl
import json
import os
import stat
import time
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import Any, Iterable, Iterator

from launcher.errors import PreflightError
from launcher.plan.model import Plan
from launcher.process import procfs
from launcher.run_dir import RunDir

# One folder for all users of the host: a device has one holder, whoever asks.
FOLDER = "/tmp/npu-launch.locks"  # noqa: S108


@dataclass(frozen=True)
class Holder:
    """The launch that holds a device, as its lock file says."""

    device: int
    pid: int
    start: int
    run: str

    def __str__(self) -> str:
        who = procfs.describe(self.pid) if self.pid else "a process whose lock file is empty"
        return f"device {self.device} is held by run {self.run or '?'} ({who})"


def real_devices(plan: Plan) -> tuple[int, ...]:
    """List the devices of this host that no other run may use: NPUs, not virtual devices."""
    return tuple(spec.device_id for spec in plan.local_ranks) if plan.backend == "npu" else ()


def folder() -> str:
    """Return the folder of the locks (NPU_LAUNCH_LOCK_DIR moves it)."""
    return os.environ.get("NPU_LAUNCH_LOCK_DIR") or FOLDER


@contextmanager
def hold(devices: Iterable[int], run: RunDir) -> Iterator[None]:
    """Hold the devices, and be recorded as the launcher of the run, while the context lasts.

    Raises:
        PreflightError: another launch holds one of them; every holder is named, and nothing is held.
    """
    taken: list[int] = []
    try:
        refused = [holder for device in sorted(devices) for holder in _take(device, run, taken)]
        if refused:
            names = "; ".join(map(str, refused))
            raise PreflightError(f"{names}; `npu-launch stop` that run, or choose other --devices")
        record_launcher(run)
        yield
    finally:
        for descriptor in taken:
            with suppress(OSError):
                os.ftruncate(descriptor, 0)
            os.close(descriptor)


def _take(device: int, run: RunDir, taken: list[int]) -> list[Holder]:
    descriptor = _open(device, create=True)
    assert descriptor is not None  # noqa: S101  # _open raises when it may create
    holder = _held_by_other(descriptor, device)
    if holder:
        os.close(descriptor)
        return [holder]
    taken.append(descriptor)
    who = procfs.identity(os.getpid())
    text = json.dumps({"pid": os.getpid(), "start": who.start if who else 0, "run": run.path.name})
    os.ftruncate(descriptor, 0)
    os.pwrite(descriptor, text.encode(), 0)
    return []


def holders(devices: Iterable[int]) -> list[Holder]:
    """List which of the devices other launches hold, without taking any."""
    found: list[Holder] = []
    for device in sorted(devices):
        descriptor = _open(device, create=False)
        if descriptor is not None:
            holder = _held_by_other(descriptor, device)
            os.close(descriptor)
            found += [holder] if holder else []
    return found


def _held_by_other(descriptor: int, device: int) -> Holder | None:
    """Flock the file; return its holder if that fails, or if it names another living launcher."""
    locked = True
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        locked = False
    except OSError:
        pass  # flock() does not work here: the contents of the file decide
    record = _record(descriptor)
    holder = Holder(
        device, int(record.get("pid", 0)), int(record.get("start", 0)), str(record.get("run", ""))
    )
    lives = holder.pid > 0 and procfs.alive(procfs.Identity(holder.pid, holder.start))
    return holder if not locked or (lives and holder.pid != os.getpid()) else None


def _record(descriptor: int) -> dict[str, Any]:
    try:
        value = json.loads(os.pread(descriptor, 4096, 0).decode("utf-8", "replace") or "{}")
        return {"pid": int(value["pid"]), "start": int(value["start"]), "run": value["run"]} if value else {}
    except (ValueError, TypeError, KeyError):
        return {}


def _open(device: int, create: bool) -> int | None:
    """Open a device's lock file, in a folder that all users may write to; links in it are not followed."""
    place = folder()
    path = os.path.join(place, f"device-{device}.lock")
    try:
        if create and not os.path.isdir(place):
            with suppress(FileExistsError):
                os.mkdir(place)
                os.chmod(place, 0o1777)  # noqa: S103  # mkdir's own mode is cut by the umask
        # O_CREAT on a file of another user is refused by fs.protected_regular: open first, then create.
        flags = os.O_RDWR | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
        try:
            descriptor = os.open(path, flags)
        except FileNotFoundError:
            if not create:
                return None
            descriptor = os.open(path, flags | os.O_CREAT, 0o666)
            with suppress(PermissionError):
                os.fchmod(descriptor, 0o666)
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            os.close(descriptor)
            raise OSError(0, "not a regular file")
        return descriptor
    except OSError as error:
        if not create:
            return None
        todo = "remove it, or set NPU_LAUNCH_LOCK_DIR"
        raise PreflightError(f"{path}: cannot be locked: {error.strerror}; {todo}") from None


def record_launcher(run: RunDir) -> None:
    """Write launcher.json, by which `ps` and `stop` find the launcher of the run."""
    who = procfs.identity(os.getpid())
    record = {"pid": os.getpid(), "start": who.start if who else 0, "host": os.uname().nodename}
    run.write_json(run.path / "launcher.json", dict(record, time=time.time()))
