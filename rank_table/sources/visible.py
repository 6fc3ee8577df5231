"""The variables that hide devices: ASCEND_VISIBLE_DEVICES (physical), ASCEND_RT_VISIBLE_DEVICES (logical)."""

from __future__ import annotations

import re
from typing import Sequence

from rank_table.inventory import Device, InventoryError
from rank_table.ranges import spell

MOST = 128  # Ascend Docker Runtime takes no more devices


def parse_visible(text: str) -> tuple[int, ...] | None:
    """Read ASCEND_VISIBLE_DEVICES as Ascend Docker Runtime does: physical ids, sorted, each once.

    Accepts `0`, `1,3`, `0-2,4`, `npu-1,npu-3`, `Ascend910-1`, `void` (none). None: empty, nothing is hidden.

    Raises:
        InventoryError: what the runtime refuses: a range that runs backwards, mixed spellings, other words.
    """
    text = text.strip()
    if not text:
        return None
    if text == "void":
        return ()
    parts = [part.strip() for part in text.split(",")]
    named = [re.match(r"([A-Za-z][A-Za-z0-9]*)-(\d{1,5})\Z", part) for part in parts]
    numbers: set[int] = set()
    if any(named):
        if not all(named) or len({match.group(1) for match in named if match}) != 1:
            raise _bad(text, "mixes spellings; write 0-7, or npu-0,npu-1")
        numbers = {int(match.group(2)) for match in named if match}
    else:
        for part in parts:
            numbers.update(_range(part, text))
    if len(numbers) > MOST:
        raise _bad(text, f"names more than {MOST} devices")
    return tuple(sorted(numbers))


def _range(part: str, text: str) -> range:
    match = re.match(r"(\d{1,5})(?:\s*-\s*(\d{1,5}))?\Z", part)
    if not match:
        raise _bad(text, f"{part!r} is no device; write 0-7, or npu-0,npu-1, or void")
    low, high = int(match.group(1)), int(match.group(2) or match.group(1))
    if low > high:
        raise _bad(text, f"{part} runs backwards")
    return range(low, high + 1)


def _bad(text: str, what: str) -> InventoryError:
    return InventoryError(f"ASCEND_VISIBLE_DEVICES={text}: {what}")


def parse_rt_visible(text: str, count: int) -> tuple[tuple[int, ...], str]:
    """Read ASCEND_RT_VISIBLE_DEVICES as the runtime does: logical ids, cut at the first bad token.

    Bad are: no digits only (a space too), a device that is not there (`count` or more), one that does not
    come after the one before it. Returns the ids and a warning, "" when every token was good.
    """
    ids: list[int] = []
    for token in text.split(","):
        reason = ""
        if not re.match(r"[0-9]{1,5}\Z", token):
            reason = "is no number (spaces count too)"
        elif int(token) >= count:
            reason = f"is not there: {count} devices are"
        elif ids and int(token) <= ids[-1]:
            reason = "does not ascend"
        if reason:
            used = spell(ids) or "none"
            warning = "ASCEND_RT_VISIBLE_DEVICES=%s: %r %s; the runtime stops there and sees %s"
            return tuple(ids), warning % (text, token, reason, used)
        ids.append(int(token))
    return tuple(ids), ""


def renumber(devices: Sequence[Device], ids: Sequence[int]) -> list[Device]:
    """Keep the devices with these logical ids; the runtime numbers them anew from 0."""
    by_logical = {device.logical_id: device for device in devices}
    return [
        by_logical[number].know("ASCEND_RT_VISIBLE_DEVICES", logical_id=index, visible_index=index)
        for index, number in enumerate(ids)
        if number in by_logical
    ]
