"""The first error of each source, earliest first, and what the codes of HCCL and CANN in it mean."""

from __future__ import annotations

import json
import re
import time
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Iterator, Sequence

from launcher.hccl.error_codes import Explanation, explain
from launcher.logs.levels import ERROR, LevelTracker
from launcher.logs.records import LogRecord, split_lines
from launcher.logs.view import LogReader, LogSource, Query
from launcher.runs import registry
from launcher.text import printable
from rank_table.ranges import spell

EXCERPT = 30  # lines of an error that are kept
SHOWN = 12  # lines of it that are printed: the first, and the last ones
CODED = 200  # lines of errors of a source in which codes are looked for
# TensorFlow calls these errors on every start without a GPU.
_NOISE = re.compile(rb"Unable to register cu\w+ factory|computation placer already|failed call to cuInit")


@dataclass(frozen=True)
class FirstError:
    """What a rank (or another source) reported first, and where."""

    time_ns: int
    label: str
    rank: int | None
    lines: tuple[str, ...]
    path: str
    explanations: tuple[Explanation, ...]


def collect(sources: Sequence[LogSource], query: Query) -> list[FirstError]:
    """Find the first error of every source; what Python raised is taken from the rank's error.json."""
    found: dict[tuple[Path, str], list[FirstError]] = {}
    for source in sources:
        readers = source.readers(query) + (source.plogs(query) if not query.plog else [])
        logged = (_first(reader, query) for reader in readers)
        for error in (*_raised(source, query), *filter(None, logged)):
            found.setdefault((source.path, _owner(error.label)), []).append(error)
    return sorted((_one(errors) for errors in found.values()), key=lambda error: error.time_ns)


def _owner(label: str) -> str:
    """Return the rank's label for that of its plog."""
    return label[: -len("/plog")] if label.endswith("/plog") else label


def _one(errors: Sequence[FirstError]) -> FirstError:
    """Choose a rank's first error: what Python raised, else the earliest; it gets the codes of all."""
    raised = [error for error in errors if error.path.endswith("error.json")]
    first = raised[0] if raised else min(errors, key=lambda error: error.time_ns)
    codes = dict.fromkeys(code for error in errors for code in error.explanations)
    return replace(first, label=_owner(first.label), explanations=tuple(codes))


def _first(reader: LogReader, query: Query) -> FirstError | None:
    """Read one source until its first error is whole and its codes are known."""
    levels: dict[bytes, LevelTracker] = {}
    lines: list[LogRecord] = []
    coded: list[bytes] = []
    whole = False
    for record in _lines(reader, query):
        if levels.setdefault(record[2], LevelTracker()).level_of(record[3]) < ERROR or _NOISE.search(
            record[3]
        ):
            whole = whole or bool(lines and record[2] == lines[0][2])
            continue
        coded.append(record[3])
        if not whole and len(lines) < EXCERPT:
            lines.append(record)
        if len(coded) >= CODED:
            break
    if not lines:
        return None
    text = b"\n".join(coded).decode("utf-8", "backslashreplace")
    shown = tuple(printable(record[3].decode("utf-8", "backslashreplace")) for record in lines)
    label = reader.label.decode("utf-8", "backslashreplace")
    return FirstError(lines[0][0], label, reader.rank, shown, str(reader.path), tuple(explain(text)))


def _lines(reader: LogReader, query: Query) -> Iterator[LogRecord]:
    for batch in (*reader.batches(), reader.finish()):
        for record in split_lines(batch):
            if query.since <= record[0] and (not query.until or record[0] <= query.until):
                yield record
    reader.close()


def _raised(source: LogSource, query: Query) -> Iterator[FirstError]:
    """Read the error.json of a run's ranks."""
    if source.run is None:
        return
    for path in (source.path / "ranks").glob("*/error.json"):
        record = registry.read_json(path)
        rank = int(path.parent.name) if path.parent.name.isdigit() else None
        if not record or rank is None or (query.ranks and rank not in query.ranks):
            continue
        text = str(record.get("traceback") or f"{record.get('type')}: {record.get('message')}")
        label = f"{source.node}/{rank}" if source.node else str(rank)
        lines = tuple(printable(line) for line in text.splitlines())
        yield FirstError(int(record.get("time_ns", 0)), label, rank, lines, str(path), tuple(explain(text)))


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
    if "Traceback" not in lines[0]:
        return [*lines[: SHOWN - 1], left_out]
    return [lines[0], left_out, *lines[-(SHOWN - 2) :]]  # what was raised comes last


def _clock(when: int) -> str:
    second, below = divmod(when, 1000000000)
    return time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(second)) + f".{below // 1000000:03d}"


def as_json(errors: Sequence[FirstError]) -> str:
    """Write the errors as a JSON list."""
    return json.dumps([asdict(error) for error in errors], indent=1)
