"""One launch per device: a lock for each real NPU.

A lock is a file of its holder's user, npu-launch-device-N.UID.lock, that the holder keeps flock()ed: the
kernel releases it however the holder ends, so nothing has to be cleaned up after a crash. A launch takes the
file of its own user and looks at those of all others. What it finds there counts only as far as the file's
owner can tell: a device is held when a process of the owner has the flock, or when the record, which the
owner alone may write, names a living process of the owner (for file systems where flock() does not reach). A
reused pid is told by its start time. So nobody can hold a device in another's name, and the lock of a dead
launcher is ignored. Virtual CPU devices are not locked: two runs may share cores. A command that uses one
device without a run (ask, score) holds it by the same files, and is named by its command.
"""

from __future__ import annotations

import fcntl
import json
import os
import re
import stat
import time
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Iterable, Iterator, Mapping

from launcher import foreign
from launcher.errors import PreflightError, ReadError
from launcher.plan.model import Plan
from launcher.process import procfs
from launcher.run_dir import RunDir
from launcher.runs.launcher_record import busy, recorded
from launcher.text import printable

# One folder for all users of the host: a device has one holder, whoever asks. It is root's, and sticky.
FOLDER = "/tmp"  # noqa: S108
_TRIES, _PAUSE = 4, 0.05  # seconds: a look at a lock holds it for a moment
_ADVICE = "set NPU_LAUNCH_LOCK_DIR to a folder of root's with mode 1777"


@dataclass(frozen=True)
class Holder:
    """The launch, or command, that holds a device; pid 0: not visible here, as in another container."""

    device: int
    pid: int
    start: int
    run: str
    user: int = -1
    command: str = ""  # of a holder that has no run

    def __str__(self) -> str:
        hidden = f"a process of user {procfs.user_name(self.user)} that is not visible here"
        who = procfs.describe(self.pid) if self.pid else hidden
        what = f"npu-launch {self.command}" if self.command else f"run {self.run or '?'}"
        return f"device {self.device} is held by {printable(what)} ({who})"

    @property
    def end(self) -> str:
        """Say how the holder is ended."""
        return f"end {self.command}" if self.command else f"`npu-launch stop {printable(self.run)}`"


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
        PreflightError: another launch holds one of them; every holder is named, and nothing is held. Or the
        locks cannot be trusted.
    """
    with ExitStack() as taken:
        refused = _take_all(devices, {"run": run.path.name}, taken)
        if refused:
            names = "; ".join(map(str, refused))
            raise PreflightError(f"{names}; `npu-launch stop` that run, or choose other --devices")
        taken.enter_context(recorded(run))
        yield


def keep(device: int, command: str, after_exec: bool = True) -> Holder | None:
    """Hold a device for a command while this process lives; return who has it instead.

    after_exec: also once it has become another program.

    Raises:
        PreflightError: the locks cannot be trusted.
    """
    with ExitStack() as taken:
        refused = _take_all([device], {"run": "", "command": command}, taken, after_exec)
        if refused:
            return refused[0]
        taken.pop_all()  # the kernel releases what the process has when it ends
    return None


def holders(devices: Iterable[int]) -> list[Holder]:
    """List which of the devices other launches hold, without taking any."""
    return [holder for device in sorted(devices) for holder in _others(device)]


def _check_folder(place: str) -> None:
    """Make the folder unless it exists. PreflightError: another user could exchange the locks in it."""
    try:
        if not os.path.isdir(place):
            with suppress(FileExistsError):
                os.mkdir(place)
                os.chmod(place, 0o1777)  # noqa: S103  # mkdir's own mode is cut by the umask
        link, about = os.lstat(place), os.stat(place)
    except OSError as error:
        raise PreflightError(f"{place}: cannot hold locks: {error.strerror}; {_ADVICE}") from None
    strangers = {link.st_uid, about.st_uid} - {0, os.geteuid()}
    if strangers and place != FOLDER:  # in a user namespace the owner of /tmp is not known, yet it is root
        who = procfs.user_name(strangers.pop())
        raise PreflightError(f"{place}: belongs to user {who}, who could remove locks; {_ADVICE}")
    if about.st_mode & 0o022 and not about.st_mode & stat.S_ISVTX:
        mode = f"{stat.S_IMODE(about.st_mode):04o}"
        raise PreflightError(f"{place}: mode {mode}: others could remove locks; chmod +t {place}")


def _take_all(
    devices: Iterable[int], name: Mapping[str, str], taken: ExitStack, inherited: bool = False
) -> list[Holder]:
    """Take the locks of some devices; return who holds others. PreflightError: locks cannot be trusted."""
    wanted = sorted(devices)
    if wanted:
        _check_folder(folder())
    return [holder for device in wanted for holder in _take(device, name, taken, inherited)]


def _take(device: int, name: Mapping[str, str], taken: ExitStack, inherited: bool) -> list[Holder]:
    """Take the lock of this user, unless a launch of this or another user holds the device.

    name: what the record says of the holder. inherited: the lock goes on after exec().
    """
    path = os.path.join(folder(), f"npu-launch-device-{device}.{os.geteuid()}.lock")
    got = _flock(path, device)
    if isinstance(got, Holder):
        return [got]
    taken.callback(_release, got)
    others = _others(device, without=path)
    if not others:
        who = {"pid": os.getpid(), "start": procfs.start_of(os.getpid()), **name}
        os.set_inheritable(got, inherited)
        os.ftruncate(got, 0)
        os.pwrite(got, json.dumps(who).encode(), 0)
    return others


def _release(descriptor: int) -> None:
    with suppress(OSError):
        os.ftruncate(descriptor, 0)
    os.close(descriptor)


def _flock(path: str, device: int) -> int | Holder:
    """Open and flock the lock file of this user; return its descriptor, or who has it."""
    holder = None
    for number in range(_TRIES):
        time.sleep(_PAUSE if number else 0)
        descriptor = _open(path)
        taken = busy(descriptor, fcntl.LOCK_EX)
        holder = _holder(descriptor, device, taken)
        if not taken and holder is None and os.fstat(descriptor).st_nlink:
            return descriptor
        os.close(descriptor)
        if holder and not taken:
            break
        if taken and holder is None:  # by another user, so that no launch of this one has it: a new file
            with suppress(OSError):
                os.unlink(path)
    return holder or Holder(device, 0, 0, "", os.geteuid())


def _open(path: str) -> int:
    """Open or make the lock file of this user; links are not followed."""
    try:
        flags = os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
        descriptor = os.open(path, flags, 0o644)
        about = os.fstat(descriptor)
        sound = stat.S_ISREG(about.st_mode) and about.st_uid == os.geteuid() and about.st_nlink <= 1
        if not sound:
            os.close(descriptor)
            raise OSError(0, "no file of yours alone")
        os.fchmod(descriptor, 0o644)
    except OSError as error:
        problem = f"{path}: cannot be locked: {error.strerror}"
        raise PreflightError(f"{problem}; remove it, or {_ADVICE}") from None
    return descriptor


def _others(device: int, without: str = "") -> list[Holder]:
    found: list[Holder] = []
    for path in _lock_files(device):
        if path != without:
            with suppress(ReadError):  # neither a link nor a FIFO is a lock
                with foreign.open_regular(Path(path)) as stream:
                    holder = _holder(stream.fileno(), device, busy(stream.fileno(), fcntl.LOCK_SH))
                found += [holder] if holder else []
    return found


def _lock_files(device: int) -> list[str]:
    """List the lock files of a device, of every user; the last is that of releases before 0.1.0."""
    name = re.compile(rf"npu-launch-device-{device}\.[0-9]+\.lock")
    try:
        names = sorted(filter(name.fullmatch, os.listdir(folder())))
    except OSError:
        names = []
    older = os.environ.get("NPU_LAUNCH_LOCK_DIR") or "/tmp/npu-launch.locks"  # noqa: S108
    return [*(os.path.join(folder(), name) for name in names), os.path.join(older, f"device-{device}.lock")]


def _holder(descriptor: int, device: int, taken: bool) -> Holder | None:
    """Return which process of the file's owner holds the device; that of another user holds nothing."""
    about = os.fstat(descriptor)
    if about.st_nlink > 1:
        return None
    holder = _recorded_holder(descriptor, device, about)
    if not taken:
        return holder if holder and holder.pid != os.getpid() else None
    users = {pid: procfs.user_ids(pid) for pid in _flockers(about)}
    pids = [pid for pid, ids in users.items() if about.st_uid in ids]
    if users and not pids and all(users.values()):
        return None
    if holder and (not pids or holder.pid in pids):
        return holder
    pid = pids[0] if pids else 0
    return Holder(device, pid, procfs.start_of(pid) if pid else 0, "", about.st_uid)


def _recorded_holder(descriptor: int, device: int, about: os.stat_result) -> Holder | None:
    """Read the record, if its owner alone can have written it and it names a living process of the owner."""
    if about.st_mode & 0o022:
        return None
    try:
        said = foreign.parse_json(os.pread(descriptor, 4096, 0), "record")
        pid, start, run = said.get("pid").whole(), said.get("start").whole(), said.get("run").text()
        command = said.get("command", "").text()
    except (OSError, ReadError):
        return None
    lives = 0 < pid < 1 << 31 and procfs.alive(procfs.Identity(pid, start))
    own = lives and about.st_uid in procfs.user_ids(pid)
    return Holder(device, pid, start, run[:200], about.st_uid, command[:20]) if own else None


def _flockers(about: os.stat_result) -> list[int]:
    """List the processes that have a file flock()ed, as the kernel shows them (proc(5), /proc/locks)."""
    found: dict[bool, list[int]] = {True: [], False: []}
    device = f"{os.major(about.st_dev):02x}:{os.minor(about.st_dev):02x}"
    with suppress(OSError, ValueError, IndexError):
        with open("/proc/locks", encoding="ascii") as stream:
            for words in map(str.split, stream):  # 1: FLOCK ADVISORY WRITE PID MAJOR:MINOR:INODE 0 EOF
                place, _, inode = words[5].rpartition(":")
                if words[1] == "FLOCK" and inode == str(about.st_ino) and int(words[4]) > 0:
                    found[place == device].append(int(words[4]))
    return found[True] or found[False]  # overlay and btrfs show another device
