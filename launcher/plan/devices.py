"""Device lists (`0-7,9`), and the five numbering spaces of a device side by side."""

from __future__ import annotations

from typing import Iterable, NamedTuple

from launcher.errors import UsageError
from rank_table.inventory import Host

MOST = 65536  # a longer list is a slip of the keyboard


class Numbers(NamedTuple):
    """Hold one device in every numbering space; "-" where it has no number.

    `rank` is the job's; `device_id` physical, the N of /dev/davinciN and of the rank table; `logical_id`
    what ASCEND_DEVICE_ID takes; `visible` the position in ASCEND_RT_VISIBLE_DEVICES; `npu` and `chip` are
    npu-smi's.
    """

    rank: str
    device_id: str
    logical_id: str
    visible: str
    npu: str
    chip: str


TITLES = Numbers("RANK_ID", "DEVICE_ID", "ASCEND_DEVICE_ID", "VISIBLE", "NPU", "CHIP")


def numbering(hosts: Iterable[Host]) -> list[Numbers]:
    """Number the devices of the hosts as a rank table of them would: hosts and devices in order."""
    rows: list[Numbers] = []
    for host in hosts:
        for device in host.devices:
            others = (device.visible_index, device.npu_id, device.chip_id)
            texts = ("-" if number < 0 else str(number) for number in others)
            rows.append(Numbers(str(len(rows)), str(device.device_id), str(device.logical_id), *texts))
    return rows


def parse_devices(text: str) -> tuple[int, ...]:
    """Read a device list. UsageError: names the part that cannot be meant.

    >>> parse_devices("0-2,5")
    (0, 1, 2, 5)
    """
    if not str(text).strip():
        raise UsageError("--devices: empty; give a list such as 0-7 or 0,2,4")
    devices: list[int] = []
    seen = set()
    for part in str(text).split(","):
        for number in _part(part.strip(), text):
            if number in seen:
                raise UsageError(f"--devices: {text}: device {number} is listed twice; list each once")
            seen.add(number)
            devices.append(number)
        if len(devices) > MOST:
            raise UsageError(f"--devices: {text!s:.60}... names more than {MOST} devices")
    return tuple(devices)


def _part(part: str, text: str) -> range:
    first, dash, last = part.partition("-")
    good = _is_number(first) and (_is_number(last) if dash else True)
    if not good:
        raise UsageError(f"--devices: {part!r} in {text!r} is no device; give a list such as 0-7 or 0,2,4")
    low, high = int(first), int(last or first)
    if high < low:
        raise UsageError(f"--devices: {part} runs backwards; write {high}-{low}")
    if high - low >= MOST:
        raise UsageError(f"--devices: {part} names more than {MOST} devices")
    return range(low, high + 1)


def _is_number(text: str) -> bool:
    return text.isdigit() and text.isascii() and len(text) <= 9
