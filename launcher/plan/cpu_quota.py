"""The CPU time that this container may use: the smallest quota of its control groups, version 1 and 2.

Formats: Linux, Documentation/admin-guide/cgroup-v2.rst (cpu.max) and scheduler/sched-bwc.rst (cpu.cfs_*),
cgroups(7) (/proc/PID/cgroup), proc(5) (/proc/PID/mountinfo).
"""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path
from typing import Iterator, NamedTuple

UNLIMITED = float("inf")


class _Mount(NamedTuple):
    """A mounted hierarchy: where, which of its groups is seen there as the root, whether version 2."""

    point: str
    top: str
    unified: bool


def cpu_quota(root: str = "/") -> float:
    """Return how many CPUs' time this process may use; UNLIMITED where nothing limits it."""
    groups = _groups(_lines(root, "proc/self/cgroup"))
    found = [UNLIMITED]
    for mount in _mounts(_lines(root, "proc/self/mountinfo")):
        group = groups.get("" if mount.unified else "cpu")
        if group is not None:
            found += [_limit(folder, mount.unified) for folder in _folders(root, mount, group)]
    return min(found)


def _lines(root: str, path: str) -> list[str]:
    with suppress(OSError):
        return Path(root, path).read_text("utf-8", "surrogateescape").splitlines()
    return []


def _groups(lines: list[str]) -> dict[str, str]:
    """Return the group of this process by controller; "" for version 2."""
    found: dict[str, str] = {}
    for line in lines:
        parts = line.split(":", 2)
        if len(parts) == 3:
            found.update((controller, parts[2]) for controller in parts[1].split(","))
    return found


def _mounts(lines: list[str]) -> Iterator[_Mount]:
    """Yield the hierarchies that may hold a quota."""
    for line in lines:
        before, _, after = line.partition(" - ")
        fields, kind = before.split(" "), after.split(" ")
        if len(fields) < 5 or len(kind) < 3:
            continue
        if kind[0] == "cgroup2" or (kind[0] == "cgroup" and "cpu" in kind[2].split(",")):
            yield _Mount(_unescaped(fields[4]), _unescaped(fields[3]), kind[0] == "cgroup2")


def _unescaped(path: str) -> str:
    for code, character in (("\\040", " "), ("\\011", "\t"), ("\\012", "\n"), ("\\134", "\\")):
        path = path.replace(code, character)
    return path


def _folders(root: str, mount: _Mount, group: str) -> Iterator[Path]:
    """Yield the folders of a group and of all above it, as far as they are seen.

    Inside a container the mount may begin at the container's own group (`top`), or show it alone while the
    group is named as the host sees it: then that of the mount is the container's.
    """
    top = mount.top.rstrip("/")
    inner = group[len(top) :] if group == top or group.startswith(top + "/") else ""
    point = Path(root, mount.point.lstrip("/"))
    parts = [part for part in inner.split("/") if part]
    if ".." in parts:
        parts = []
    for count in range(len(parts), -1, -1):
        yield point.joinpath(*parts[:count])


def _limit(folder: Path, unified: bool) -> float:
    """Return the quota that a group has of its own."""
    try:
        if unified:
            quota, period = (folder / "cpu.max").read_text().split()
        else:
            quota = (folder / "cpu.cfs_quota_us").read_text()
            period = (folder / "cpu.cfs_period_us").read_text()
        cpus = int(quota) / int(period)
    except (OSError, ValueError, ZeroDivisionError):  # no such file at the root; "max"
        return UNLIMITED
    return cpus if cpus > 0 else UNLIMITED


def most_cores(quota: float, ranks: int) -> int | None:
    """Return how many cores a rank can keep busy within a quota that it shares; None for all."""
    return None if quota == UNLIMITED else max(1, int(quota / max(1, ranks)))
