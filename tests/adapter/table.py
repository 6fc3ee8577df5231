"""Hold adapter_names.json against a copy of the adapter's source, line by line."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any, Iterator

from tests.adapter.source import Source

TABLE: dict[str, Any] = json.loads(
    (Path(__file__).parents[1] / "simulator" / "adapter_names.json").read_text(encoding="utf-8")
)
MOVED = "moved: "  # how a difference begins that is one of lines alone
_SPREAD = 8  # lines after the one that is named in which the word of a refusal must stand


def closest(source: Source) -> tuple[str, list[str]]:
    """Give the branch of the table that the source is most like, and how it differs from that one."""
    found = {branch: list(differences(source, branch)) for branch in TABLE["branches"]}
    branch = min(found, key=lambda name: (sum(MOVED not in text for text in found[name]), len(found[name])))
    return branch, found[branch]


def differences(source: Source, branch: str) -> Iterator[str]:
    """Compare everything that the table says of a branch; an installation has Python files alone."""
    packages = [name for name in ("npu_bridge", "npu_device") if source.package(name)]
    for name, forms in TABLE["functions"].items():
        if name.split(".")[0].split(":")[0] in packages:
            yield from _function(source, name, forms, branch)
    if not (source.root / "tf_adapter" / "ops").is_dir():
        return
    operations = source.operations()
    for name, forms in TABLE["operations"].items():
        yield from _operation(operations.get(name), name, forms, branch)
    for name, places in _places(branch):
        yield from _place(source, name, *places)
    yield from _precision_modes(source, branch)


def _form(forms: list[dict[str, Any]], branch: str) -> dict[str, Any]:
    return next((form for form in forms if branch in form["places"]), {})


def _function(source: Source, name: str, forms: list[dict[str, Any]], branch: str) -> Iterator[str]:
    form, found = _form(forms, branch), source.function(name)
    if not form or not found:
        if form or found:
            yield f"{name}: {'not in the source' if form else 'not in the table'}"
        return
    if form["signature"] != found.signature:
        yield f"{name}: the table has {form['signature']}, {found.place} {found.signature}"
    elif _in_checkout(source) and form["places"][branch] != found.place:
        yield f"{MOVED}{name}: the table says {form['places'][branch]}, it is at {found.place}"


def _operation(found: Any, name: str, forms: list[dict[str, Any]], branch: str) -> Iterator[str]:
    form = _form(forms, branch)
    if not form or not found:
        if form or found:
            yield f"{name}: {'not in the source' if form else 'not in the table'}"
        return
    for part, value in found.facts().items():
        if form[part] != value:
            yield f"{name}: {part}: the table has {form[part]}, {found.place} {value}"
    if form["places"][branch] != found.place:
        yield f"{MOVED}{name}: the table says {form['places'][branch]}, it is at {found.place}"


def _places(branch: str) -> Iterator[tuple[str, tuple[str, str, int]]]:
    """List (name, (word, place, lines in which the word must be)) of all else that has a place."""
    for section in ("refusals", "behaviour"):
        for name, entry in TABLE[section].items():
            if branch in entry["places"]:
                yield name, (entry["word"], entry["places"][branch], _SPREAD)
    for name, entry in TABLE["parameters"].items():
        if branch in entry["places"]:
            yield name, (f'"{name}").{entry["field"]}()', entry["places"][branch], 1)
    for name, places in TABLE["plugin"].items():
        if branch in places:
            yield name, (name, places[branch], 1)
    for section in ("hccl", "values"):
        for name, entry in TABLE[section].items():
            places = entry.get("places", entry)
            if branch in places:
                yield name, (name.split(":")[1], places[branch], 1)


def _place(source: Source, name: str, word: str, place: str, lines: int) -> Iterator[str]:
    file, _, number = place.rpartition(":")
    text = " ".join(source.text(f"{file}:{int(number) + offset}") for offset in range(lines))
    if word not in text:
        moved = MOVED if word in source.file(file) else ""
        yield f"{moved}{name}: {place} does not say {word!r}"


def _precision_modes(source: Source, branch: str) -> Iterator[str]:
    """Compare the list of modes that the source begins at the place of their refusal."""
    ours = TABLE["parameters"]["precision_mode"]["one_of"].get(branch)
    place = TABLE["refusals"]["precision_mode"]["places"].get(branch)
    if not ours or not place:
        return
    file, _, number = place.rpartition(":")
    lines = source.file(file).splitlines()[int(number) - 1 :]
    theirs = re.findall(r'"(\w+)"', "\n".join(lines).partition("}")[0])
    if sorted(theirs) != sorted(ours):
        yield f"precision_mode: the table has {sorted(ours)}, {place} {sorted(theirs)}"


def _in_checkout(source: Source) -> bool:
    return (source.root / "tf_adapter" / "python").is_dir()
