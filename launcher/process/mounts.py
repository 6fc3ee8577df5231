"""The file system on which a path lies, by the kernel's list of mounts alone: nothing there is touched."""

from __future__ import annotations

# Types of file systems in /proc/self/mountinfo that one kernel alone writes to.
OWN = frozenset("bcachefs btrfs ext2 ext3 ext4 f2fs jfs overlay ramfs rootfs tmpfs vfat xfs zfs".split())


def mount_of(path: str) -> tuple[str, str]:
    """Return mount point and type of an absolute path without links; "" where the system does not say."""
    best, kind = "", ""
    try:
        with open("/proc/self/mountinfo", encoding="utf-8", errors="surrogateescape") as stream:  # proc(5)
            for line in stream:
                words, _, about = line.partition(" - ")
                point = _unescaped(words.split(" ")[4])
                inside = path == point or path.startswith(point.rstrip("/") + "/")
                if inside and len(point) >= len(best):  # a later mount hides an earlier one
                    best, kind = point, about.split(" ", 1)[0]
    except (OSError, IndexError):
        return "", ""
    return best, kind


def _unescaped(point: str) -> str:
    for code, character in (("\\040", " "), ("\\011", "\t"), ("\\012", "\n"), ("\\134", "\\")):
        point = point.replace(code, character)
    return point
