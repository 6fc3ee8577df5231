"""The one view of a host's NPUs: what npu-smi says of each device, by the N of its /dev/davinciN.

`npu-smi info` numbers cards by their slot (NPU ID), `info -m` maps these to device ids. The inventory, the
preflight, doctor and the wait before a restart all look here.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Sequence

from rank_table.sources import dev_nodes, npu_smi, words
from rank_table.sources.npu_smi import SmiChip
from rank_table.sources.tools import Machine, ToolResult

INFO, MAPPING = ("info",), ("info", "-m")


@dataclass(frozen=True)
class View:
    """Chips in the order of npu-smi, each with its device id, health, memory and processes.

    `known`: the table of `npu-smi info` was understood, so health and processes are what it shows;
    otherwise chips have numbers only. `problems` are lines for the user, in the tool's own words; `unread` is
    the one of them about rows of processes that were not understood, so that any device may be held.
    """

    chips: tuple[SmiChip, ...] = ()
    generation: str = ""
    known: bool = False
    problems: tuple[str, ...] = ()
    unread: str = ""

    def of(self, device_ids: Sequence[int]) -> list[SmiChip]:
        """Return the chips of these devices, those that there are."""
        return [chip for chip in self.chips if chip.device_id in device_ids]


def look(machine: Machine) -> View:
    """Ask npu-smi for its table, and for the mapping of its numbers to device ids."""
    info, mapping = machine.ask_all("npu-smi", [INFO, MAPPING])
    table = npu_smi.parse_info(info.text)
    mapped = npu_smi.parse_mapping(mapping.text)
    unread = _unread(table.unread)
    problems = _problems(info, mapping, bool(table.chips), bool(mapped)) + ([unread] if unread else [])
    chips = _joined(table.chips, mapped)
    if not chips and not (info.problem and mapping.problem):
        chips = _listed(machine)
    generation = table.generation or next(filter(None, (npu_smi.generation_of(c.name) for c in chips)), "")
    numbered = _numbered(chips, dev_nodes.device_ids(machine))
    return View(tuple(numbered), generation, bool(table.chips), tuple(problems), unread)


def _problems(info: ToolResult, mapping: ToolResult, shown: bool, mapped: bool) -> list[str]:
    """Say why an answer is of no use; once where both have one reason."""
    said = [
        result.problem or f"npu-smi {command}: no chip in its output: {words.explained(result.text)}"
        for command, result, useful in (("info", info, shown), ("info -m", mapping, mapped))
        if not useful and (result.problem or command == "info" or result.text.strip())
    ]
    reasons = [text.partition(": ")[2] for text in said]
    return [text for index, text in enumerate(said) if reasons[index] not in reasons[:index]]


def _unread(rows: Sequence[str]) -> str:
    if not rows:
        return ""
    some = f"{len(rows)} rows" if len(rows) > 1 else "a row"
    return f"npu-smi info: {some} of its processes not understood: {rows[0][: words.LONGEST]}"


def _joined(chips: Sequence[SmiChip], mapped: Sequence[SmiChip]) -> list[SmiChip]:
    others = {(entry.npu_id, entry.chip_id): entry for entry in mapped}
    joined = [_join(entry, others.pop((entry.npu_id, entry.chip_id), None)) for entry in chips]
    return joined + list(others.values())


def _join(first: SmiChip, second: SmiChip | None) -> SmiChip:
    if second is None:
        return first
    phy = second.phy_id if second.phy_id >= 0 else first.phy_id
    return replace(first, phy_id=phy, logic_id=second.logic_id, name=second.name or first.name)


def _listed(machine: Machine) -> list[SmiChip]:
    """`npu-smi info -l` has the number of chips alone."""
    counted = npu_smi.parse_list(machine.ask("npu-smi", "info", "-l").text)
    return [SmiChip(npu, die, npu * count + die) for npu, count in counted for die in range(count)]


def _numbered(chips: Sequence[SmiChip], nodes: Sequence[int]) -> list[SmiChip]:
    """Give each chip the N of its /dev/davinciN.

    npu-smi prints it as Phy-ID, where it does. Else it is the logic id (cards in slots 2 and 5 are davinci0
    and 1), unless the nodes say that this is a container with a part of the devices: then the NPU ID.
    """
    places = [(chip.logic_id, chip.npu_id, chip.chip_id) for chip in chips]
    logic = [chip.phy_id if chip.phy_id >= 0 else chip.logic_id for chip in chips]
    slots = [chip.device_id for chip in chips]
    order = [sorted(places).index(place) for place in places]
    choices = [ids for ids in (logic, slots) if min(ids, default=0) >= 0 and len(set(ids)) == len(ids)]
    exact = [ids for ids in choices if not nodes or set(ids) == set(nodes)]
    within = [ids for ids in reversed(choices) if set(ids) <= set(nodes)]
    in_order = [nodes[place] for place in order] if len(nodes) == len(chips) else order
    if all(chip.phy_id >= 0 for chip in chips) and choices:
        exact = [logic]
    numbers = (*exact, *within, in_order)[0]
    return [replace(chip, phy_id=number) for chip, number in zip(chips, numbers)]
