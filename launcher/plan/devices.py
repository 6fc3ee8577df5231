"""Device lists (`0-7,9`), and the five numbering spaces of a device side by side."""

from __future__ import annotations

from typing import Iterable, NamedTuple

from launcher.errors import UsageError
from rank_table.inventory import Host
from rank_table.ranges import parse_part

MOST = 65536  # a longer list is a typing error


class Numbers(NamedTuple):
    """One device in every numbering space; "-" where it has no number.

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


def parse_devices(text: str, option: str = "--devices", noun: str = "device") -> tuple[int, ...]:
    """Read a list of devices, or of another `noun` that `option` takes, in the order written.

    Raises:
        UsageError: names the part that is invalid.

    >>> parse_devices("0-2,5")
    (0, 1, 2, 5)
    """
    if not text.strip():
        raise UsageError(f"{option}: empty; expected a list such as 0-7")
    found: dict[int, None] = {}
    for part in map(str.strip, text.split(",")):
        numbers = parse_part(part)
        if numbers is None:
            raise UsageError(
                f"{option}: {part!r} in {text!r:.60}: invalid {noun}; expected a list such as 0-7"
            )
        if not numbers:
            raise UsageError(f"{option}: {part}: descending range; expected the lower number first")
        if len(found) + len(numbers) > MOST:
            raise UsageError(f"{option}: {text:.60}: more than {MOST} {noun}s")
        twice = next((number for number in numbers if number in found), None)
        if twice is not None:
            raise UsageError(f"{option}: {text:.60}: {noun} {twice} is listed twice; list each {noun} once")
        found.update(dict.fromkeys(numbers))
    return tuple(found)
