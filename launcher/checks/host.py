"""Doctor's checks of the host: interpreter, limits, shared memory, clock, disk, reserved ports."""

from __future__ import annotations

import ctypes
import os
import platform
import resource
from typing import Iterable

from launcher.checks.finding import ERROR, OK, WARNING, Finding
from launcher.checks.machine import Check, RecordingMachine, has_npu
from rank_table.ranges import parse_lenient


def check_python(machine: RecordingMachine) -> Iterable[Finding]:
    """Name the interpreter and the system."""
    numbers = ".".join(map(str, machine.python))
    version = f"Python {numbers} on {platform.system()} {platform.machine()}"
    if machine.python < (3, 7):
        yield Finding("python", ERROR, version, "use Python 3.7 or newer")
    else:
        yield Finding("python", OK, version)


def check_limits(machine: RecordingMachine) -> Iterable[Finding]:
    """Compare the limits that a rank inherits with the needs of HCCL and eight ranks."""
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


def check_shared_memory(machine: RecordingMachine) -> Iterable[Finding]:
    """CPU ranks sum their gradients in /dev/shm; a container often has 64 MB of it."""
    yield _space(machine, "shared memory", machine.path("/dev/shm"), 1, "docker run --shm-size=8g")  # noqa: S108


def check_disk(machine: RecordingMachine) -> Iterable[Finding]:
    """Checkpoints, compiled kernels and logs go below the launch folder."""
    yield _space(machine, "disk", machine.folder, 10, "free some space, or set runs_dir: to a larger disk")


def _space(machine: RecordingMachine, name: str, folder: str, wanted: int, todo: str) -> Finding:
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


def check_clock(machine: RecordingMachine) -> Iterable[Finding]:
    """Ask the kernel whether its clock is synchronised: if not, adjtimex returns TIME_ERROR, 5."""
    try:
        state = ctypes.CDLL(None).adjtimex(ctypes.create_string_buffer(512))
    except (OSError, AttributeError):
        return
    if state == 5:
        yield Finding(
            "clock",
            WARNING,
            "not synchronised: logs of several hosts cannot be merged exactly",
            "start chronyd or systemd-timesyncd (not needed on a single host)",
        )
    else:
        yield Finding("clock", OK, "synchronised")


def check_ports(machine: RecordingMachine) -> Iterable[Finding]:
    """Host ports 60000-60031 belong to HCCL; the system must not assign them to others."""
    if not has_npu(machine):
        return
    text = machine.read("/proc/sys/net/ipv4/ip_local_reserved_ports").strip()
    missing = set(range(60000, 60032)) - parse_lenient(text)
    if missing:
        yield Finding(
            "reserved ports",
            WARNING,
            f"{len(missing)} of the ports 60000-60031 are not reserved for HCCL",
            "`sysctl -w net.ipv4.ip_local_reserved_ports=60000-60031` "
            f"(add to what is reserved: {text or 'nothing'})",
        )
    else:
        yield Finding("reserved ports", OK, text)


CHECKS: list[Check] = [
    check_ports,
    check_limits,
    check_shared_memory,
    check_clock,
    check_disk,
]
