"""Doctor's checks of the devices; they say so where there is no NPU."""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import Iterable, NamedTuple

from launcher.checks.machine import ERROR, OK, WARNING, Check, Finding, Machine, has_npu
from rank_table.sources.npu_smi import parse_info


def device_ids(machine: Machine) -> list[int]:
    """List the physical ids N of /dev/davinciN."""
    names = (path.name for path in Path(machine.root).glob("dev/davinci[0-9]*"))
    return sorted(int(name[len("davinci") :]) for name in names if name[len("davinci") :].isdigit())


def shorten(ids: Iterable[int]) -> str:
    """Write 0,1,2,5 as 0-2,5."""
    parts: list[list[int]] = []
    for number in sorted(ids):
        if parts and parts[-1][-1] == number - 1:
            parts[-1] = [parts[-1][0], number]
        else:
            parts.append([number])
    return ",".join("-".join(str(number) for number in part) for part in parts)


def check_devices(machine: Machine) -> Iterable[Finding]:
    """Count the devices, and name those that are ill or held by a process."""
    if not has_npu(machine):
        yield Finding("devices", OK, "no NPU here: jobs run on virtual CPU devices (--backend cpu)")
        return
    nodes, cards = device_ids(machine), read_cards(machine.output("npu-smi", "info"))
    if not nodes:
        yield Finding(
            "devices", ERROR, "no /dev/davinciN", "load the driver; in a container pass the devices in"
        )
    if not cards:
        todo = "`npu-smi info` must work for this user (group HwHiAiUser); the driver may not be loaded"
        yield Finding("npu-smi", WARNING, "gives no table of devices", todo)
        return
    kind = f" ({generation(machine)})" if generation(machine) else ""
    names = f"{shorten(nodes) or 'none'}, npu-smi shows {len(cards)}: {cards[0].name}{kind}"
    hidden = (
        "" if len(nodes) == len(cards) else "a container sees only the devices passed in; choose from those"
    )
    yield Finding("devices", WARNING if hidden else OK, f"/dev/davinci {names}", hidden)
    yield from _access(machine, nodes)
    ill = [card for card in cards if card.health != "OK"]
    for card in ill:
        todo = (
            "`npu-smi info -t health -i %d -c %d` gives the error code; leave it out of --devices"
            % card.place
        )
        yield Finding("health", ERROR, f"device {card.device_id} is {card.health}", todo)
    if not ill:
        yield Finding("health", OK, "all OK")
    held = [card for card in cards if card.holders]
    for card in held:
        todo = "end the process, or choose other devices; a killed run may leave children behind"
        yield Finding("holders", WARNING, f"device {card.device_id}: {', '.join(card.holders)}", todo)
    if not held:
        yield Finding("holders", OK, "no process on any device")


def _access(machine: Machine, nodes: list[int]) -> Iterable[Finding]:
    """A rank opens its device node for reading and writing."""
    closed = [n for n in nodes if not os.access(machine.path(f"/dev/davinci{n}"), os.R_OK | os.W_OK)]
    if closed:
        todo = "join the group HwHiAiUser (`usermod -aG HwHiAiUser $USER`), or run as root"
        yield Finding("access", ERROR, f"device {shorten(closed)} may not be opened by this user", todo)


def generation(machine: Machine) -> str:
    """Say what npu-smi's table tells: 910A, A2, A3, 950, or "" when it does not."""
    return parse_info(machine.output("npu-smi", "info"))[1]


class Card(NamedTuple):
    """Hold what `npu-smi info` says of one chip."""

    device_id: int
    place: tuple[int, int]  # NPU and chip, as npu-smi counts
    name: str
    health: str
    holders: tuple[str, ...]


def read_cards(text: str) -> list[Card]:
    """Read the table of `npu-smi info`: two rows a chip, then a row a process.

    The second row of an A3 has the physical id beside the chip; elsewhere the NPU number is that id.
    """
    cards: list[Card] = []
    first: list[str] = []
    for line in text.splitlines():
        cells = [cell.split() for cell in line.strip().strip("|").split("|")]
        head = cells[0]
        if len(cells) == 3 and _numbers(head[:1]) and not _is_bus(cells[1]):
            first = [*head, " ".join(cells[1])]
        elif len(cells) == 3 and first and _numbers(head) and _is_bus(cells[1]):
            npu = int(first[0])
            number = int(head[1]) if len(head) > 1 else npu
            cards.append(Card(number, (npu, int(head[0])), first[1], first[-1], ()))
        elif len(cells) == 4 and _numbers(head) and _numbers(cells[1]):
            place = (int(head[0]), int(head[-1]) if len(head) > 1 else 0)
            cards = [_held(card, cells) if card.place == place else card for card in cards]
    return cards


def _held(card: Card, cells: list[list[str]]) -> Card:
    return card._replace(holders=(*card.holders, "{} (pid {})".format(" ".join(cells[2]), cells[1][0])))


def _numbers(words: list[str]) -> bool:
    return bool(words) and all(word.isdigit() for word in words)


def _is_bus(words: list[str]) -> bool:
    return bool(words) and re.match(r"[0-9A-Fa-f]{4}:[0-9A-Fa-f]{2}:|NA$", words[0]) is not None


CHECKS: list[Check] = [check_devices]
