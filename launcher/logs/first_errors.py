"""The first error of each source, earliest first, and what the codes of HCCL and CANN in it mean."""

from __future__ import annotations

import json
import re
import time
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Iterator, Sequence

from launcher.hccl.error_codes import Explanation, explain
from launcher.logs import filters
from launcher.logs.levels import ERROR, Levels
from launcher.logs.records import Piece
from launcher.logs.view import Place, Query, Reader
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
    """Hold what a rank (or another source) reported first, and where."""

    time_ns: int
    label: str
    rank: int | None
    lines: tuple[str, ...]
    path: str
    explanations: tuple[Explanation, ...]


def collect(places: Sequence[Place], query: Query) -> list[FirstError]:
    """Find the first error of every source; what Python raised is taken from the rank's error.json."""
    found: dict[tuple[Path, str], list[FirstError]] = {}
    for place in places:
        readers = place.readers(query) + (place.plogs(query) if not query.plog else [])
        logged = (_first(reader, query) for reader in readers)
        for error in (*_raised(place, query), *filter(None, logged)):
            found.setdefault((place.path, _owner(error.label)), []).append(error)
    return sorted((_one(errors) for errors in found.values()), key=lambda error: error.time_ns)


def _owner(label: str) -> str:
    """Give the rank's label for that of its plog."""
    return label[: -len("/plog")] if label.endswith("/plog") else label


def _one(errors: Sequence[FirstError]) -> FirstError:
    """Choose a rank's first error: what Python raised, else the earliest; it gets the codes of all."""
    raised = [error for error in errors if error.path.endswith("error.json")]
    first = raised[0] if raised else min(errors, key=lambda error: error.time_ns)
    codes = dict.fromkeys(code for error in errors for code in error.explanations)
    return replace(first, label=_owner(first.label), explanations=tuple(codes))


def _first(reader: Reader, query: Query) -> FirstError | None:
    """Read one source until its first error is whole and its codes are known."""
    levels: dict[bytes, Levels] = {}
    lines: list[Piece] = []
    coded: list[bytes] = []
    whole = False
    for piece in _lines(reader, query):
        if levels.setdefault(piece[2], Levels()).of(piece[3]) < ERROR or _NOISE.search(piece[3]):
            whole = whole or bool(lines and piece[2] == lines[0][2])
            continue
        coded.append(piece[3])
        if not whole and len(lines) < EXCERPT:
            lines.append(piece)
        if len(coded) >= CODED:
            break
    if not lines:
        return None
    text = b"\n".join(coded).decode("utf-8", "backslashreplace")
    shown = tuple(printable(piece[3].decode("utf-8", "backslashreplace")) for piece in lines)
    label = reader.label.decode("utf-8", "backslashreplace")
    return FirstError(lines[0][0], label, reader.rank, shown, str(reader.path), tuple(explain(text)))


def _lines(reader: Reader, query: Query) -> Iterator[Piece]:
    for block in (*reader.blocks(), reader.finish()):
        for piece in filters.split(block):
            if query.since <= piece[0] and (not query.until or piece[0] <= query.until):
                yield piece
    reader.close()


def _raised(place: Place, query: Query) -> Iterator[FirstError]:
    """Read the error.json of a run's ranks."""
    if place.run is None:
        return
    for path in (place.path / "ranks").glob("*/error.json"):
        record = registry.read_json(path)
        rank = int(path.parent.name) if path.parent.name.isdigit() else None
        if not record or rank is None or (query.ranks and rank not in query.ranks):
            continue
        text = str(record.get("traceback") or "{}: {}".format(record.get("type"), record.get("message")))
        label = f"{place.node}/{rank}" if place.node else str(rank)
        lines = tuple(printable(line) for line in text.splitlines())
        yield FirstError(int(record.get("time_ns", 0)), label, rank, lines, str(path), tuple(explain(text)))


def report(errors: Sequence[FirstError]) -> list[str]:
    """Write the errors for a person; ranks with the same one stand together, at the earliest one's place."""
    if not errors:
        return ["no error found"]
    lines: list[str] = []
    groups: dict[tuple[str, ...], list[FirstError]] = {}
    for error in errors:
        groups.setdefault(error.lines, []).append(error)
    for number, group in enumerate(groups.values()):
        first = group[0]
        who = "{}{}".format(_names(group), ", first of all" if number == 0 and len(errors) > 1 else "")
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
    return [lines[0], left_out, *lines[-(SHOWN - 2) :]]  # what was raised stands last


def _clock(when: int) -> str:
    second, below = divmod(when, 1000000000)
    return time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(second)) + f".{below // 1000000:03d}"


def as_json(errors: Sequence[FirstError]) -> str:
    """Write the errors as a JSON list."""
    return json.dumps([asdict(error) for error in errors], indent=1)
