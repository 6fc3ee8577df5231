"""The device list of the command line: `0-7,9` means physical devices 0 to 7 and 9."""

from __future__ import annotations

from typing import List, Tuple

from launcher.errors import UsageError

MOST = 65536  # a longer list is a slip of the keyboard


def parse_devices(text: str) -> Tuple[int, ...]:
    """Read a device list. UsageError: names the part that cannot be meant.

    >>> parse_devices("0-2,5")
    (0, 1, 2, 5)
    """
    if not str(text).strip():
        raise UsageError("--devices: empty; give a list such as 0-7 or 0,2,4")
    devices: List[int] = []
    for part in str(text).split(","):
        devices.extend(_part(part.strip(), text))
    repeated = sorted({number for number in devices if devices.count(number) > 1}) if len(devices) < MOST else []
    if repeated:
        raise UsageError("--devices: %s: device %d is listed twice; list each once" % (text, repeated[0]))
    return tuple(devices)


def _part(part: str, text: str) -> range:
    first, dash, last = part.partition("-")
    if not first.isdigit() or (dash and not last.isdigit()):
        raise UsageError("--devices: %r in %r is no device; give a list such as 0-7 or 0,2,4" % (part, text))
    low, high = int(first), int(last or first)
    if high < low:
        raise UsageError("--devices: %s runs backwards; write %d-%d" % (part, high, low))
    if high - low >= MOST:
        raise UsageError("--devices: %s names more than %d devices" % (part, MOST))
    return range(low, high + 1)
