"""The first error of each source, earliest first, and what the codes of HCCL and CANN in it mean."""

from __future__ import annotations

import json
import time
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Iterator, Sequence

from launcher.errors import ReadError
from launcher.hccl.error_codes import Explanation, explain
from launcher.lines.blocks import BlockReader, Place, ReadLine
from launcher.logs.last_words import last_words
from launcher.logs.reader import LogReader
from launcher.logs.records import LogRecord, split_lines
from launcher.logs.view import LogSource, Query
from launcher.runs import registry
from launcher.text import SCHEDULER, label, printable
from rank_table.ranges import spell

EXCERPT = 400  # lines of an error that are kept: the first half, and the last ones
SHOWN = 40  # lines of it that are printed
_ENDED = b"`Termination signal` is detected"  # paddle/fluid/platform/init.cc
CODED = 200  # lines of errors of a source in which codes are looked for


@dataclass(frozen=True)
class FirstError:
    """What a rank (or another source) reported first, and where; `waited`: that it missed another rank."""

    time_ns: int
    label: str
    rank: int | None
    lines: tuple[str, ...]
    path: str
    explanations: tuple[Explanation, ...]
    waited: bool = False


def collect(sources: Sequence[LogSource], query: Query) -> list[FirstError]:
    """Find the first error of every rank or other source, the earliest first.

    The earliest of those that are no wait for another rank stands before all: many lines have no time of
    their own. What Python raised is taken from the rank's error.json. Of a run that failed, the rank at fault
    has its last lines where it reported nothing.
    """
    found: dict[tuple[Path, str], list[FirstError]] = {}
    for source in sources:
        errors = list(_raised(source, query))
        readers = source.readers(query) + source.parts(query)
        for reader in readers + ([] if query.plog else source.plogs(query)):
            errors += _logged(reader, query)
        known = {error.rank for error in errors if error.rank is not None}
        for words in last_words(source, query, known):
            lines = tuple(map(printable, words.lines))
            codes = tuple(explain("\n".join(lines)))
            errors.append(FirstError(words.time_ns, words.label, words.rank, lines, words.path, codes))
        for error in errors:
            found.setdefault((source.path, _owner(error.label)), []).append(error)
    firsts = sorted((_judged(_one(errors)) for errors in found.values()), key=lambda error: error.time_ns)
    own = next((error for error in firsts if not error.waited), None)
    return sorted(firsts, key=lambda error: error is not own)


def _judged(error: FirstError) -> FirstError:
    """Tell whether it says only that another rank did not take part, or was lost."""
    from launcher.diagnosis import last_words as words  # their patterns take longer than a look at a log
    from launcher.diagnosis.victims import waits

    found = words.errors("\n".join(error.lines).encode("utf-8", "backslashreplace"))
    rank = -1 if error.rank is None else error.rank
    return replace(error, waited=bool(found) and waits(found[-1].text, rank))


def _owner(label: str) -> str:
    """Return the rank's label for that of its plog."""
    return label[: -len("/plog")] if label.endswith("/plog") else label


def _one(errors: Sequence[FirstError]) -> FirstError:
    """Choose a rank's first error: what Python raised, else the earliest; it gets the codes of all."""
    raised = [error for error in errors if error.path.endswith("error.json")]
    first = raised[0] if raised else min(errors, key=lambda error: error.time_ns)
    codes = dict.fromkeys(code for error in errors for code in error.explanations)
    return replace(first, label=_owner(first.label), explanations=tuple(codes))


class _Owner:
    """What is read of one owner's errors: the lines of the first, and all in which codes may stand."""

    def __init__(self, label: str, rank: int | None) -> None:
        self.label, self.rank = label, rank
        self.time_ns = 0
        self.lines: list[bytes] = []
        self.coded: list[bytes] = []
        self.whole = False
        self._stream = b""
        self._ended = False
        self._count = 0  # lines of errors

    def add(self, record: LogRecord, read: ReadLine) -> None:
        """Take a line that is an error, or may belong to one."""
        self._count += 1
        if len(self.coded) < CODED:
            self.coded.append(read.text)
        if not self.lines:
            self.time_ns, self._stream = record[0], record[2] + read.key
        elif self._stream != record[2] + read.key:
            return
        self.whole = self.whole or (self._ended and read.place is Place.BEGINS)
        self._ended = False
        if not self.whole:
            self.lines.append(read.text)
            if len(self.lines) > EXCERPT:
                del self.lines[EXCERPT // 2]

    def end(self, record: LogRecord, read: ReadLine) -> None:
        """Note a line that is no error: what begins after it is another one."""
        self._ended = self._ended or self._stream == record[2] + read.key

    def is_known(self) -> bool:
        """Tell whether the first error is whole, or endless, and its codes are known."""
        return self._count >= CODED and (self.whole or self._count > 10 * EXCERPT)

    def was_ended(self) -> bool:
        """Tell whether what looks like an error is how Paddle reports that its launcher ended it."""
        return self.lines[0].startswith(b"C++ Traceback") and any(_ENDED in line for line in self.lines)

    def error(self, path: Path) -> FirstError:
        """Return the first error."""
        while len(self.lines) > 1 and not self.lines[-1].strip():
            self.lines.pop()
        lines = tuple(printable(_text(line)) for line in self.lines)
        codes = tuple(explain(_text(b"\n".join(self.coded + self.lines[-CODED:]))))
        return FirstError(self.time_ns, self.label, self.rank, lines, str(path), codes)


def _text(line: bytes) -> str:
    return line.decode("utf-8", "backslashreplace")


def _logged(reader: LogReader, query: Query) -> list[FirstError]:
    """Read a file until its first error is whole and its codes are known; one of many ranks to its end."""
    blocks: dict[bytes, BlockReader] = {}
    owners: dict[str, _Owner] = {}
    several = False
    for record in _records(reader, query, blocks):
        read = blocks[record[2]].read(record[3])
        several = several or bool(read.key)
        label, rank = _whose(reader, record, read)
        owner = owners.get(label)
        if read.place is Place.OUTSIDE:
            if owner:
                owner.end(record, read)
            continue
        owner = owner or owners.setdefault(label, _Owner(label, rank))
        owner.add(record, read)
        if not several and owner.is_known():
            break
    reader.close()
    return [owner.error(reader.path) for owner in owners.values() if not owner.was_ended()]


def _whose(reader: LogReader, record: LogRecord, read: ReadLine) -> tuple[str, int | None]:
    """Return label and rank of a line: of the rank that its prefix names, or of what stands in the prefix."""
    label = _text(record[1])
    if record[1] != reader.label:  # a rank's
        return label, int(label.rpartition("/")[2])
    name = _named(read.key)
    if reader.rank is not None or read.rank is not None or not name:
        return label, reader.rank
    return f"{label} {printable(_text(name))}", None


def _named(key: bytes) -> bytes:
    """Return the name that stands in a prefix, such as web-1 for `web-1  |`."""
    name = key.strip(b" :|\t")
    framed = name[:1] in (b"[", b"(", b"<") and name[-1:] in (b"]", b")", b">")
    return name[1:-1] if framed else name.rstrip(b">")


def _records(reader: LogReader, query: Query, blocks: dict[bytes, BlockReader]) -> Iterator[LogRecord]:
    """Yield lines of a time range; the first ones of each stream are looked at for prefixes before."""
    for batch in reader.whole():
        records = split_lines(batch)
        for stream in {record[2] for record in records} - blocks.keys():
            blocks[stream] = BlockReader()
            blocks[stream].learn([record[3] for record in records if record[2] == stream])
        for record in records:
            if query.since <= record[0] and (not query.until or record[0] <= query.until):
                yield record


def _raised(source: LogSource, query: Query) -> Iterator[FirstError]:
    """Read the error.json of a run's ranks, or of torchrun's."""
    if source.run is None:
        yield from _recorded(source, query)
        return
    for path in (source.path / "ranks").glob("*/error.json"):
        record = registry.read_json(path)
        rank = _rank_of(path.parent.name)
        if not record or rank is None or (query.ranks and rank not in query.ranks):
            continue
        text = str(record.get("traceback") or f"{record.get('type')}: {record.get('message')}")
        label = source.label(rank)
        lines = tuple(printable(line) for line in text.splitlines())
        yield FirstError(int(record.get("time_ns", 0)), label, rank, lines, str(path), tuple(explain(text)))


def _rank_of(folder: str) -> int | None:
    """Return whose folder of a run has a name; None: nobody's."""
    if folder == label({SCHEDULER}):
        return SCHEDULER
    return int(folder) if folder.isdigit() else None


def _recorded(source: LogSource, query: Query) -> Iterator[FirstError]:
    from launcher.diagnosis.failure import read_torch_error

    for item in source.torch_records(query):
        try:
            error, when = read_torch_error(item.path), item.path.stat().st_mtime_ns
        except (ReadError, OSError):
            continue  # cut while it was written: the log has the error too
        text = error.traceback or f"{error.kind}: {error.message}"
        lines = tuple(map(printable, text.splitlines()))
        yield FirstError(when, item.label, item.rank, lines, str(item.path), tuple(explain(text)))


def report(errors: Sequence[FirstError]) -> list[str]:
    """Write the errors for a person; ranks with the same one together, at the earliest one's place."""
    if not errors:
        return ["no error found"]
    lines: list[str] = []
    groups: dict[tuple[str, ...], list[FirstError]] = {}
    for error in errors:
        groups.setdefault(error.lines, []).append(error)
    for number, group in enumerate(groups.values()):
        first = group[0]
        who = _names(group) + (", first of all" if number == 0 and len(errors) > 1 else "")
        who += " (waited for another rank)" if first.waited else ""
        lines += [f"{_clock(first.time_ns)}  {who}  {first.path}"]
        lines += ["    " + line for line in _shortened(first.lines)]
        codes = dict.fromkeys(code for error in group for code in error.explanations)
        lines += [f"    -> {code}" for code in codes] + [""]
    return lines[:-1]


def _names(group: Sequence[FirstError]) -> str:
    ranks = sorted({error.rank for error in group if error.rank is not None and error.label.isdigit()})
    others = [error.label for error in group if not error.label.isdigit()]
    words = [f"rank {spell(ranks)}"] if ranks else []
    return ", ".join(words + others)


def _shortened(lines: Sequence[str]) -> list[str]:
    if len(lines) <= SHOWN:
        return list(lines)
    left_out = f"... {len(lines) - SHOWN + 1} lines left out"
    first = 8 if "Traceback" in lines[0] else SHOWN - 6
    return [*lines[:first], left_out, *lines[first + 1 - SHOWN :]]  # what was raised comes last


def _clock(when: int) -> str:
    second, below = divmod(when, 1000000000)
    return time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(second)) + f".{below // 1000000:03d}"


def as_json(errors: Sequence[FirstError]) -> str:
    """Write the errors as a JSON list."""
    return json.dumps([asdict(error) for error in errors], indent=1)
