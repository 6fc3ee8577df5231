"""Doctor's checks of the host: interpreter, limits, shared memory, clock, disk, reserved ports."""

from __future__ import annotations

import ctypes
import os
import platform
import resource
from typing import Iterable

from launcher.checks.machine import ERROR, OK, WARNING, Check, Finding, Machine, has_npu


def check_python(machine: Machine) -> Iterable[Finding]:
    """Name the interpreter and the system."""
    version = "Python %d.%d on %s %s" % (*machine.python, platform.system(), platform.machine())
    if machine.python < (3, 7):
        yield Finding("python", ERROR, version, "use Python 3.7 or newer")
    else:
        yield Finding("python", OK, version)


def check_limits(machine: Machine) -> Iterable[Finding]:
    """Compare the limits that a rank inherits with what HCCL and eight ranks need."""
    wanted = (
        # HCCL registers its buffers with the network device: locked memory (documented: unlimited).
        ("memlock", resource.RLIMIT_MEMLOCK, resource.RLIM_INFINITY),
        ("nofile", resource.RLIMIT_NOFILE, 4096),
        ("nproc", resource.RLIMIT_NPROC, 4096),
    )
    npu = has_npu(machine)
    for name, which, least in wanted:
        soft = resource.getrlimit(which)[0]
        enough = soft == resource.RLIM_INFINITY or (least != resource.RLIM_INFINITY and soft >= least)
        shown = "unlimited" if soft == resource.RLIM_INFINITY else str(soft)
        if enough or (name == "memlock" and not npu):
            yield Finding("limit " + name, OK, shown)
        else:
            need = "unlimited" if least == resource.RLIM_INFINITY else str(least)
            flag = {"memlock": "-l", "nofile": "-n", "nproc": "-u"}[name]
            yield Finding(
                "limit " + name,
                WARNING,
                f"{shown}, wanted {need}",
                f"`ulimit {flag} {need}`, or /etc/security/limits.conf; in a container --ulimit",
            )


def check_shared_memory(machine: Machine) -> Iterable[Finding]:
    """CPU ranks add their gradients in /dev/shm; a container often has 64 MB of it."""
    yield _space(machine, "shared memory", machine.path("/dev/shm"), 1, "docker run --shm-size=8g")  # noqa: S108


def check_disk(machine: Machine) -> Iterable[Finding]:
    """Checkpoints, compiled kernels and logs go below the folder where a run is started."""
    yield _space(machine, "disk", machine.folder, 10, "free some, or set runs_dir: to a larger disk")


def _space(machine: Machine, name: str, folder: str, wanted: int, todo: str) -> Finding:
    try:
        status = os.statvfs(folder)
    except OSError as error:
        return Finding(name, WARNING, f"{folder}: {error.strerror}", todo)
    free = status.f_bavail * status.f_frsize / 2.0**30
    if status.f_favail == 0 and status.f_files > 0:
        return Finding(name, ERROR, f"{folder} has no free inode", todo)
    if free < wanted:
        return Finding(name, WARNING, f"{free:.1f} GiB free in {folder}, wanted {wanted}", todo)
    return Finding(name, OK, f"{free:.1f} GiB free in {folder}")


def check_clock(machine: Machine) -> Iterable[Finding]:
    """Ask the kernel whether its clock is disciplined; adjtimex then does not return TIME_ERROR, 5."""
    try:
        state = ctypes.CDLL(None).adjtimex(ctypes.create_string_buffer(512))
    except (OSError, AttributeError):
        return
    if state == 5:
        yield Finding(
            "clock",
            WARNING,
            "not synchronised; logs of several hosts cannot be merged exactly",
            "start chronyd or systemd-timesyncd (not needed on a single host)",
        )
    else:
        yield Finding("clock", OK, "synchronised")


def check_ports(machine: Machine) -> Iterable[Finding]:
    """Host ports 60000-60031 belong to HCCL; the system must not hand them out."""
    if not has_npu(machine):
        return
    text = machine.read("/proc/sys/net/ipv4/ip_local_reserved_ports").strip()
    missing = set(range(60000, 60032)) - _ports(text)
    if missing:
        yield Finding(
            "reserved ports",
            WARNING,
            f"{len(missing)} of the ports 60000-60031 are not reserved for HCCL",
            "`sysctl -w net.ipv4.ip_local_reserved_ports=60000-60031` (keep what is there: %s)"
            % (text or "nothing"),
        )
    else:
        yield Finding("reserved ports", OK, text)


def _ports(text: str) -> set[int]:
    ports: set[int] = set()
    for part in filter(None, text.split(",")):
        first, _, last = part.partition("-")
        ports.update(range(int(first), int(last or first) + 1))
    return ports


CHECKS: list[Check] = [
    check_python,
    check_ports,
    check_limits,
    check_shared_memory,
    check_clock,
    check_disk,
]
