"""The tables that npu-smi prints, in the layouts of 910A, A2 (910B), A3 (910C) and 950."""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from typing import Iterator, NamedTuple, Tuple

Place = Tuple[int, int]  # npu-smi's NPU ID and Chip ID


class SmiProcess(NamedTuple):
    """A process on a chip, as `npu-smi info` lists it."""

    pid: int
    name: str

    def __str__(self) -> str:
        return f"{self.name} (pid {self.pid})"


@dataclass(frozen=True)
class SmiChip:
    """One chip of `npu-smi info` or `info -m`; -1 and "" stand for what is not printed."""

    npu_id: int
    chip_id: int = 0
    phy_id: int = -1
    logic_id: int = -1
    name: str = ""
    health: str = ""
    bus: str = ""
    processes: tuple[SmiProcess, ...] = ()

    @property
    def device_id(self) -> int:
        """The N of /dev/davinciN: printed on A3; on 910A and A2, with one chip per NPU, the NPU ID."""
        return self.phy_id if self.phy_id >= 0 else self.npu_id + self.chip_id


def parse_info(text: str) -> tuple[list[SmiChip], str]:
    """Read `npu-smi info`: (chips with their processes, generation if the header shows it, else "").

    The header of the chip rows shows the family: `Chip  Phy-ID` is A3, `NPU ID` in the first header a 950,
    `Chip` alone 910A or A2. Rows are split at `|`, because widths differ between versions. The processes
    are in a table of their own, below the chips.
    """
    chips: list[SmiChip] = []
    processes: dict[Place, list[SmiProcess]] = {}
    head: list[str] | None = None
    layout, health, below = "", 1, False
    for cells in _rows(text):
        if _is_process(cells):
            place, process = _process(cells)
            processes.setdefault(place, []).append(process)
            continue
        below = below or (cells[0].startswith("NPU") and len(cells) > 1 and cells[1].startswith("Process"))
        if below:
            continue
        layout = _layout(cells) or layout
        health = next((index for index, cell in enumerate(cells) if cell == "Health"), health)
        if layout and re.match(r"[0-9]{1,9}(\s|\Z)", cells[0]):
            if layout == "950":
                chips.extend(_one_line_chip(cells, health))
            elif head is None:
                head = cells
            else:
                chips.extend(_two_line_chip(head, cells))
                head = None
    chips = [replace(c, processes=tuple(processes.get((c.npu_id, c.chip_id), ()))) for c in chips]
    return chips, _generation(layout, chips)


def _is_process(cells: list[str]) -> bool:
    """Recognise a row of the process table: NPU and chip (950: NPU alone), process id, name, memory."""
    return len(cells) == 4 and _numeric(cells[0].split()) and _numeric(cells[1].split())


def _process(cells: list[str]) -> tuple[Place, SmiProcess]:
    place = [int(word) for word in cells[0].split()]
    chip = place[-1] if len(place) > 1 else 0
    return (place[0], chip), SmiProcess(int(cells[1].split()[0]), cells[2])


def _numeric(words: list[str]) -> bool:
    return bool(words) and all(re.match(r"[0-9]{1,9}\Z", word) for word in words)


def _rows(text: str) -> Iterator[list[str]]:
    for line in text.splitlines():
        line = line.strip()
        if line.startswith("|") and line.endswith("|") and len(line) > 2:
            yield [cell.strip() for cell in line[1:-1].split("|")]


def _layout(cells: list[str]) -> str:
    words = cells[0].split()
    if words[:2] == ["NPU", "ID"]:
        return "950"
    if words[:1] == ["Chip"] and len(cells) > 1 and cells[1].startswith("Bus-Id"):
        return "A3" if words[1:2] == ["Phy-ID"] else "chip"
    return ""


def _two_line_chip(head: list[str], row: list[str]) -> list[SmiChip]:
    first, second = head[0].split(None, 1), row[0].split()
    if not _numeric(second) or len(head) < 2 or len(row) < 2:
        return []
    phy = int(second[1]) if len(second) > 1 else -1
    name = first[1] if len(first) > 1 else ""
    return [SmiChip(int(first[0]), int(second[0]), phy, -1, name, head[1], row[1])]


def _one_line_chip(cells: list[str], health: int) -> list[SmiChip]:
    """Read the row of a 950 that starts with the NPU ID; its second row has no chip id."""
    words = " ".join(cells[:health]).split(None, 1)
    if len(cells) <= health:
        return []
    return [SmiChip(int(words[0]), 0, name="".join(words[1:]), health=cells[health])]


def _generation(layout: str, chips: list[SmiChip]) -> str:
    if layout in ("A3", "950"):
        return layout
    return generation_of(chips[0].name) if chips else ""


def generation_of(name: str) -> str:
    """Derive the generation from a chip name; "" when the name is ambiguous: A3 is called Ascend910 too.

    >>> [generation_of(name) for name in ("910A", "Ascend 910B4", "910B3", "Ascend910", "Ascend950PR", "xxx")]
    ['910A', 'A2', 'A2', '', '950', '']
    """
    match = re.search(r"(950|910(?:_93|[A-C])?)", name)
    known = {"950": "950", "910A": "910A", "910B": "A2", "910C": "A3", "910_93": "A3"}
    return known.get(match.group(1), "") if match else ""


def parse_mapping(text: str) -> list[SmiChip]:
    """Read `npu-smi info -m` by its column titles; rows without a logic id (Mcu) are no chips."""
    chips: list[SmiChip] = []
    titles: list[str] = []
    for line in text.splitlines():
        cells = [cell.strip() for cell in re.split(r"\t|\s{2,}", line.strip())]
        if cells[0] == "NPU ID":
            titles = cells
        elif titles and cells[0].isdigit() and len(cells) >= len(titles) - 1:
            row = dict(zip(titles, cells))
            if any(row.get(key, "").isdigit() for key in ("Chip Logic ID", "Chip Phy-ID")):
                chips.append(_mapped(row))
    return chips


def _mapped(row: dict[str, str]) -> SmiChip:
    def number(key: str, default: int) -> int:
        return int(row[key]) if row.get(key, "").isdigit() else default

    phy, logic = number("Chip Phy-ID", -1), number("Chip Logic ID", -1)
    return SmiChip(number("NPU ID", -1), number("Chip ID", 0), phy, logic, row.get("Chip Name", ""))


def parse_list(text: str) -> list[tuple[int, int]]:
    """Read `npu-smi info -l`: [(NPU ID, Chip Count)]; a 950 prints no Chip Count, which counts as 1."""
    found: list[tuple[int, int]] = []
    for key, value in pairs(text):
        if key == "NPU ID" and value.isdigit():
            found.append((int(value), 1))
        elif key == "Chip Count" and value.isdigit() and found:
            found[-1] = (found[-1][0], int(value))
    return found


def parse_health(text: str) -> str:
    """Read `npu-smi info -t health`: OK, Warning, Alarm, Critical ...; "" when there is none."""
    return dict(pairs(text)).get("Health Status", "")


def parse_spod(text: str) -> dict[str, str]:
    """Read `npu-smi info -t spod-info`: SDID, Super Pod ID, Super Pod Size, Server Index, digits each."""
    wanted = ("SDID", "Super Pod ID", "Super Pod Size", "Server Index")
    return {key: value for key, value in pairs(text) if key in wanted and value.isdigit()}


def parse_board(text: str) -> str:
    """Read the generation from the PCI Device ID of `npu-smi info -t board`; "" when there is none."""
    return pci_generation(dict(pairs(text)).get("PCI Device ID", ""))


def pci_generation(device: str) -> str:
    """Map a PCI device id of vendor 19e5 to the generation.

    >>> pci_generation("0xD801"), pci_generation("0xd803"), pci_generation("0x1234")
    ('910A', 'A3', '')
    """
    return {"0xd801": "910A", "0xd802": "A2", "0xd803": "A3"}.get(device.strip().lower(), "")


def parse_topo(text: str) -> dict[int, str]:
    """Read the last column of `npu-smi info -t topo`: NPU -> CPU ranges; empty without such a column."""
    found: dict[int, str] = {}
    with_cores = False
    for line in text.splitlines():
        words = line.split()
        if words[:1] and re.match(r"NPU\d+\Z", words[0]) and words[-2:] == ["CPU", "Affinity"]:
            with_cores = True
        elif with_cores and words and re.match(r"NPU\d+\Z", words[0]) and re.match(r"[\d,-]*\d\Z", words[-1]):
            found[int(words[0][3:])] = words[-1]
    return found


def pairs(text: str) -> Iterator[tuple[str, str]]:
    """Yield the `Key : value` lines."""
    for line in text.splitlines():
        key, colon, value = line.partition(":")
        if colon:
            yield key.strip(), value.strip()
