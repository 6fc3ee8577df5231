"""Files of hosts, as Open MPI and DeepSpeed read them: a host in each line, and how many slots it has.

Open MPI: `node1 slots=8 max_slots=16`, or a host in as many lines as it has slots (PBS's $PBS_NODEFILE).
DeepSpeed: `node1 slots=8`. hccl_test (MPICH): `node1:8`. A slot is a device.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Iterable, NoReturn, Sequence

from launcher import foreign
from launcher.errors import ReadError, UsageError

MOST = 65536  # hosts; more is no file of hosts
_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,252}|\[?[0-9A-Fa-f:.]*:[0-9A-Fa-f:.]*(?:%[\w.-]+)?\]?")
_COUNTED = re.compile(r"(?P<name>[^:\s]+|\[[^\]\s]+\]):(?P<slots>[^:\s]*)")
_SLOTS = re.compile(r"(?:slots?|count|cpus?)=(.*)")
_MOST_SLOTS = re.compile(r"(?:max[-_]slots?|slots?[-_]max)=\d+")


@dataclass(frozen=True)
class Slots:
    """A host and its slots; 0: not said. place: where it was written, for errors."""

    host: str
    slots: int
    place: str


def read_file(path: Path) -> list[Slots]:
    """Read a file of hosts. UsageError: it cannot be read, or a line is wrong: named by its number."""
    try:
        text = foreign.read_bytes(path, foreign.DOCUMENT, follow=True).decode("utf-8-sig")
    except UnicodeDecodeError:
        raise UsageError(f"{path}: no text (expected a host in each line)") from None
    except ReadError as error:
        raise UsageError(f"hostfile: {error}") from None
    found = [
        _line(f"{path}:{number}", line)
        for number, line in enumerate(re.split(r"\r\n|\r|\n", text), 1)
        if line.partition("#")[0].strip()
    ]
    if not found:
        raise UsageError(f"{path}: no host in it (expected lines such as: node1 slots=8)")
    return merged(found)


def read_words(words: Iterable[str], key: str = "hosts") -> list[Slots]:
    """Read the hosts of the command line or of the job, `node1` or `node1:8` each."""
    parts = [part.strip() for word in words for part in word.split(",")]
    found = [_counted(key, part) for part in parts if part]
    if not found:
        raise UsageError(f"{key}: no host in it (expected names such as: node1, node2)")
    for place, item in enumerate(found):
        if item.host in {other.host for other in found[:place]}:
            raise UsageError(f"{key}: {item.host} is named twice (expected each host once)")
    return found


def _line(place: str, line: str) -> Slots:
    words = re.sub(r"\s*=\s*", "=", line.partition("#")[0]).split()
    found = _counted(place, words[0])
    slots = found.slots
    for word in words[1:]:
        count = _SLOTS.fullmatch(word)
        if count:
            slots = _number(place, count.group(1), word)
        elif not _MOST_SLOTS.fullmatch(word):
            _refuse(
                place, f"{word!r:.60}: not known", "node1 slots=8; users and ports belong into ~/.ssh/config"
            )
    return Slots(found.host, slots, place)


def _counted(place: str, word: str) -> Slots:
    match = _COUNTED.fullmatch(word)
    name = (match.group("name") if match else word).strip()
    if "@" in name:
        _refuse(place, f"{name!r:.60}: a user", "a host alone; the user belongs into ~/.ssh/config")
    if not _NAME.fullmatch(name):
        _refuse(place, f"{name!r:.60}: no name of a host", "a name or an address, such as node1")
    return Slots(name, _number(place, match.group("slots"), word) if match else 0, place)


def _number(place: str, text: str, word: str) -> int:
    if not re.fullmatch(r"[0-9]{1,5}", text) or int(text) == 0:
        _refuse(place, f"{word!r:.60}: no number of slots", "1 or more, such as slots=8")
    return int(text)


def _refuse(place: str, problem: str, expected: str) -> NoReturn:
    raise UsageError(f"{place}: {problem} (expected {expected})")


def merged(lines: Sequence[Slots]) -> list[Slots]:
    """Return each host once: one that stands in n lines without slots has n of them."""
    found: dict[str, Slots] = {}
    times: dict[str, int] = {}
    for item in lines:
        first = found.setdefault(item.host, item)
        times[item.host] = times.get(item.host, 0) + 1
        if first is not item and (item.slots or first.slots):
            raise UsageError(
                f"{item.place}: {item.host} is already in {first.place} (expected each host once)"
            )
    if len(found) > MOST:
        raise UsageError(f"{lines[0].place}: more than {MOST} hosts")
    if max(times.values()) == 1:
        return list(found.values())
    return [Slots(item.host, item.slots or times[item.host], item.place) for item in found.values()]


def devices(hosts: Sequence[Slots]) -> tuple[str, ...]:
    """Return the devices of each host, one for each slot from 0 on; () where a host says none."""
    if not all(item.slots for item in hosts):
        return ()
    return tuple("0" if item.slots == 1 else f"0-{item.slots - 1}" for item in hosts)
