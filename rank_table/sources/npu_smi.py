"""The tables that npu-smi prints, in the layouts of 910A, A2 (910B), A3 (910C), 310P and 950.

Read by the titles of their columns: widths, the number of columns and their order differ between npu-smi 22
and 26. Formats: the npu-smi references of Atlas 800 (24.1), Atlas 350 (25.7), and public outputs of each.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from typing import Iterator, NamedTuple, Sequence, Tuple

from rank_table.sources.dev_nodes import pci_generation

Place = Tuple[int, int]  # npu-smi's NPU ID and Chip ID
Cells = Sequence[str]
_PROCESS_TITLES = ("NPU     Chip", "Process id", "Process name", "Process memory(MB)")
_BUS = re.compile(r"[0-9A-Fa-f]{4,8}:[0-9A-Fa-f]{2}:|(NA|N/A|-)?\Z")
LONGEST_ROW = 1000  # characters
_USAGE = re.compile(r"(\d+|NA|N/A|-)\s*/\s*(\d+|NA|N/A|-)")


class SmiProcess(NamedTuple):
    """A process on a chip as `npu-smi info` lists it; -1 and "" stand for what it does not print.

    `pid` is of the host, `inner_pid` of the process's own container (npu-smi 26). The name may be cut short.
    """

    pid: int
    name: str = ""
    memory: int = -1  # MB
    inner_pid: int = -1

    def __str__(self) -> str:
        facts = [f"pid {self.pid}" if self.pid >= 0 else "pid not shown"]
        facts += [f"pid {self.inner_pid} in its container"] if self.inner_pid >= 0 else []
        facts += [f"{self.memory:,} MB"] if self.memory >= 0 else []
        return f"{self.name or 'a process without a name'} ({', '.join(facts)})"


@dataclass(frozen=True)
class SmiChip:
    """One chip of `npu-smi info` or `info -m`; -1 and "" stand for what is not printed.

    `used` and `total` are MB of the chip's HBM, of its DDR where it has no HBM (310P). `power`: W; the second
    chip of an A3 prints none. `temperature`: degrees C. `busy`: AICore(%).
    """

    npu_id: int
    chip_id: int = 0
    phy_id: int = -1
    logic_id: int = -1
    name: str = ""
    health: str = ""
    bus: str = ""
    used: int = -1
    total: int = -1
    power: float = -1.0
    temperature: int = -1
    busy: int = -1
    processes: tuple[SmiProcess, ...] = ()

    @property
    def device_id(self) -> int:
        """The N of /dev/davinciN where it is known, else, with one chip per NPU, the NPU ID."""
        return self.phy_id if self.phy_id >= 0 else self.npu_id + self.chip_id


class SmiTable(NamedTuple):
    """`npu-smi info`: its chips with their processes, the generation if it shows, the rows not understood."""

    chips: list[SmiChip]
    generation: str
    unread: tuple[str, ...] = ()


def parse_info(text: str) -> SmiTable:
    """Read `npu-smi info`: a table of chips, one or two rows each, and a table of processes below it."""
    reader = _Reader()
    for cells in _rows(text):
        reader.row(cells)
    return reader.table()


class _Reader:
    """Reads row after row: the two headers of the chips' table, its rows, the processes' header and rows."""

    def __init__(self) -> None:
        self.first: Cells = ()  # titles of the first row of a chip
        self.second: Cells = ()
        self.head: Cells | None = None  # a first row that waits for its second one
        self.process_titles: Cells = ()
        self.chips: list[SmiChip] = []
        self.processes: dict[Place, list[SmiProcess]] = {}
        self.unread: list[str] = []

    def row(self, cells: Cells) -> None:
        if "Health" in cells and cells[0].startswith("NPU"):
            self.first, self.process_titles = cells, ()
        elif "Bus-Id" in cells and not re.match(r"\d", cells[0]):
            self.second = cells
        elif any(cell.lower() == "process id" for cell in cells):
            self.process_titles = cells
        elif self.process_titles or (self.head is None and _is_process(cells)):
            self._process(cells)
        elif self.first:
            self._chip(cells)

    def _process(self, cells: Cells) -> None:
        found = _process(self.process_titles or _PROCESS_TITLES, cells)
        if found:
            self.processes.setdefault(found[0], []).append(found[1])
        elif cells[0] and not re.match(r"(?i)no running process", cells[0]):
            self.unread.append(" | ".join(cells))

    def _chip(self, cells: Cells) -> None:
        bus = self.second.index("Bus-Id") if self.second else -1
        if self.head is not None and 0 <= bus < len(cells) and _BUS.match(cells[bus]):
            self._add(self.head, cells)
            self.head = None
        elif re.match(r"[0-9]{1,9}(\s|\Z)", cells[0]) and len(cells) >= min(3, len(self.first)):
            self._flush()
            self.head = cells

    def _flush(self) -> None:
        """Keep a chip whose second row is missing: its health counts all the same."""
        if self.head is not None:
            self._add(self.head, ())
            self.head = None

    def _add(self, head: Cells, row: Cells) -> None:
        numbers = _numbers(row[0] if row else "")
        titles = self.second[0].split() if self.second else []
        usage = {**_usage(self.first, head), **_usage(self.second, row)}
        used, total = next(
            (usage[key] for key in ("HBM", "Memory") if usage.get(key, (0, 0))[1] > 0), (-1, -1)
        )
        npu, name = _npu_and_name(self.first, head)
        chip = SmiChip(npu, numbers[0] if numbers and numbers[0] >= 0 else 0, name=name)
        if len(titles) > 1 and len(numbers) > 1:  # Phy-ID (A3), Device (310P)
            chip = replace(chip, phy_id=numbers[1])
        health, bus = _cell(self.first, head, "Health"), _cell(self.second, row, "Bus-Id")
        told = {**_readings(self.first, head), **_readings(self.second, row)}
        chip = replace(chip, health=health, bus=bus, used=used, total=total, power=told.get("Power", -1.0))
        temperature, busy = int(told.get("Temp", -1)), int(told.get("AICore", -1))
        self.chips.append(replace(chip, temperature=temperature, busy=busy))

    def table(self) -> SmiTable:
        self._flush()
        known = {(chip.npu_id, chip.chip_id) for chip in self.chips}
        lost = [
            f"{process}" for place, found in self.processes.items() if place not in known for process in found
        ]
        chips = [
            replace(chip, processes=tuple(self.processes.get((chip.npu_id, chip.chip_id), ())))
            for chip in self.chips
        ]
        return SmiTable(chips, self._generation(), tuple(self.unread + lost))

    def _generation(self) -> str:
        known = next(filter(None, (generation_of(chip.name) for chip in self.chips)), "")
        if known or not self.chips:
            return known
        if self.first[0].startswith("NPU ID"):
            return "950"
        return "A3" if self.second and "Phy-ID" in self.second[0] else ""


def _rows(text: str) -> Iterator[list[str]]:
    """Yield the cells of each row; a row that a narrow terminal has broken over several lines is joined."""
    lines: list[str] = []
    for line in map(str.strip, text.lstrip("\ufeff").splitlines()):
        above = lines[-1] if lines else ""
        rest = not line.startswith(("|", "+")) and (line.endswith("|") or not above.endswith("|"))
        if rest and above.startswith("|") and len(above) < LONGEST_ROW:
            lines[-1] = f"{above} {line}"
        else:
            lines.append(line)
    for line in lines:
        if line.startswith("|") and line.endswith("|") and len(line) > 2:
            yield [cell.strip() for cell in line[1:-1].split("|")]


def _is_process(cells: Cells) -> bool:
    """Recognise a row of processes that stands below no header: NPU and chip, process id, name, memory."""
    return len(cells) >= 4 and bool(_numbers(cells[0])) and cells[1].isdecimal()


def _process(titles: Cells, cells: Cells) -> tuple[Place, SmiProcess] | None:
    surplus = len(cells) - len(titles)
    if surplus > 0:  # bars in the process's name
        at = next((index for index, title in enumerate(titles) if title.lower() == "process name"), 0)
        cells = [*cells[:at], "|".join(cells[at : at + surplus + 1]), *cells[at + surplus + 1 :]]
    row = {title.lower().split("(")[0].strip(): cell for title, cell in zip(titles, cells)}
    place = [
        number
        for title, cell in zip(titles, cells)
        if title[:4] in ("NPU", "NPU ", "Chip")
        for number in _numbers(cell)
    ]
    if not place or place[0] < 0 or "process id" not in row:
        return None
    process = SmiProcess(
        _number(row["process id"]),
        row.get("process name", ""),
        _number(row.get("process memory", "")),
        _number(row.get("process id in container", "")),
    )
    return (place[0], place[1] if len(place) > 1 else 0), process


def _numbers(cell: str) -> list[int]:
    """Read a cell of numbers, -1 for what is not known; empty when a word is neither."""
    words = cell.split()
    if not all(re.match(r"([0-9]{1,9}|-|NA|N/A)\Z", word) for word in words):
        return []
    return [_number(word) for word in words]


def _number(word: str) -> int:
    match = re.match(r"\s*([0-9]{1,12})\b", word)
    return int(match.group(1)) if match else -1


def _cell(titles: Cells, cells: Cells, title: str) -> str:
    index = list(titles).index(title) if title in titles else len(cells)
    return cells[index] if index < len(cells) else ""


def _usage(titles: Cells, cells: Cells) -> dict[str, tuple[int, int]]:
    """Read `used / total` below each title that ends with -Usage, in the order of the titles."""
    found: dict[str, tuple[int, int]] = {}
    for title, cell in zip(titles, cells):
        names = re.findall(r"([A-Za-z]+)-Usage", title)
        for name, (used, total) in zip(names, _USAGE.findall(cell)):
            found[name] = (_number(used), _number(total))
    return found


def _readings(titles: Cells, cells: Cells) -> dict[str, float]:
    """Read the single numbers of cells that hold several, by the words of their titles."""
    found: dict[str, float] = {}
    for title, cell in zip(titles, cells):
        for name, word in zip(title.split(), re.sub(r"\s*/\s*", "/", cell).split()):
            if re.match(r"[0-9]{1,6}(\.[0-9]{1,6})?\Z", word):
                found[name.partition("(")[0]] = float(word)
    return found


def _npu_and_name(titles: Cells, cells: Cells) -> tuple[int, str]:
    words = cells[0].split(None, 1)
    name = _cell(titles, cells, "Name") if "Name" in titles else "".join(words[1:])
    return int(words[0]), name.strip()


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
        elif titles and cells[0].isdecimal() and len(cells) >= len(titles) - 1:
            row = dict(zip(titles, cells))
            if any(row.get(key, "").isdecimal() for key in ("Chip Logic ID", "Chip Phy-ID")):
                chips.append(_mapped(row))
    return chips


def _mapped(row: dict[str, str]) -> SmiChip:
    def number(key: str, default: int) -> int:
        return int(row[key]) if row.get(key, "").isdecimal() else default

    phy, logic = number("Chip Phy-ID", -1), number("Chip Logic ID", -1)
    return SmiChip(number("NPU ID", -1), number("Chip ID", 0), phy, logic, row.get("Chip Name", ""))


def parse_list(text: str) -> list[tuple[int, int]]:
    """Read `npu-smi info -l`: [(NPU ID, Chip Count)]; a 950 prints no Chip Count, which counts as 1."""
    found: list[tuple[int, int]] = []
    for key, value in pairs(text):
        if key == "NPU ID" and value.isdecimal():
            found.append((int(value), 1))
        elif key == "Chip Count" and value.isdecimal() and found:
            found[-1] = (found[-1][0], int(value))
    return found


def parse_health(text: str) -> str:
    """Read `npu-smi info -t health`: OK, Warning, Alarm, Critical ...; "" when there is none."""
    return dict(pairs(text)).get("Health Status", "")


def parse_spod(text: str) -> dict[str, str]:
    """Read `npu-smi info -t spod-info`: SDID, Super Pod ID, Super Pod Size, Server Index, digits each."""
    wanted = ("SDID", "Super Pod ID", "Super Pod Size", "Server Index")
    return {key: value for key, value in pairs(text) if key in wanted and value.isdecimal()}


def parse_board(text: str) -> str:
    """Read the generation from the PCI Device ID of `npu-smi info -t board`; "" when there is none."""
    return pci_generation(dict(pairs(text)).get("PCI Device ID", ""))


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
