"""The variables that hide devices: ASCEND_VISIBLE_DEVICES (physical), ASCEND_RT_VISIBLE_DEVICES (logical)."""

from __future__ import annotations

import re
from typing import Sequence

from rank_table.errors import InventoryError
from rank_table.inventory import Device
from rank_table.ranges import parse_part, spell

RT_VISIBLE = "ASCEND_RT_VISIBLE_DEVICES"
MOST = 128  # devices; Ascend Docker Runtime accepts no more


def parse_visible(text: str) -> tuple[int, ...] | None:
    """Read ASCEND_VISIBLE_DEVICES as Ascend Docker Runtime does: physical ids, sorted, each once.

    Accepts `0`, `1,3`, `0-2,4`, `npu-1,npu-3`, `Ascend910-1`, `void` (none). None: empty, nothing is hidden.

    Raises:
        InventoryError: what the runtime refuses: a descending range, mixed spellings, other words.
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
        raise _bad(text, f"more than {MOST} devices")
    return tuple(sorted(numbers))


def _range(part: str, text: str) -> range:
    found = parse_part(re.sub(r"\s*-\s*", "-", part))
    if found is None:
        raise _bad(text, f"{part!r}: invalid device; expected a list such as 0-7 or npu-0,npu-1, or void")
    if not found:
        raise _bad(text, f"{part}: descending range; expected the lower number first")
    if len(found) > MOST:
        raise _bad(text, f"more than {MOST} devices")
    return found


def _bad(text: str, what: str) -> InventoryError:
    return InventoryError(f"ASCEND_VISIBLE_DEVICES={text}: {what}")


def parse_rt_visible(text: str, count: int) -> tuple[tuple[int, ...], str]:
    """Read ASCEND_RT_VISIBLE_DEVICES as the runtime does: logical ids, cut at the first bad token.

    Bad are: other characters than digits (also a space), a device that does not exist (`count` or more),
    one that is not greater than the one before it. Returns the ids and a warning, "" when all are good.
    """
    ids: list[int] = []
    for token in text.split(","):
        reason = ""
        if not re.match(r"[0-9]{1,5}\Z", token):
            reason = "is not a number (spaces count)"
        elif int(token) >= count:
            reason = f"does not exist: there are {count} devices"
        elif ids and int(token) <= ids[-1]:
            reason = "is not greater than the one before"
        if reason:
            used = spell(ids) or "none"
            what = f"ASCEND_RT_VISIBLE_DEVICES={text}: {token!r} {reason}"
            return tuple(ids), f"{what}; the runtime stops there and sees {used}"
        ids.append(int(token))
    return tuple(ids), ""


def renumber(devices: Sequence[Device], ids: Sequence[int]) -> list[Device]:
    """Keep the devices with these logical ids; the runtime renumbers them from 0."""
    by_logical = {device.logical_id: device for device in devices}
    return [
        by_logical[number].know(RT_VISIBLE, logical_id=index, visible_index=index)
        for index, number in enumerate(ids)
        if number in by_logical
    ]
