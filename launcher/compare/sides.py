"""The runs and logs that a user names, each with what is known of it beside its curve."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Mapping, Sequence

from launcher.compare import answers, said, settings
from launcher.compare.comparison import MEAN, Side
from launcher.compare.formats import read
from launcher.errors import ReadError, UsageError
from launcher.run_dir import RunDir
from launcher.runs import registry
from launcher.text import some

LETTERS = "ABCDEFGHIJKLMNOPQRSTUVWXYZ"
Hints = Mapping[str, Sequence[str]]  # of an option such as global_batch: N or NAME=N


def read_sides(words: Sequence[str], hints: Hints, runs_dir: str, benchmark: int = 1) -> list[Side]:
    """Read what is named; the first is A, the second B and so on.

    benchmark: so many of the first are the benchmark; of several a hint may call all of them "mean".

    Raises:
        UsageError: there is no such run or file, it cannot be read or holds nothing known, or a hint names
            none.
    """
    if len(words) > len(LETTERS):
        raise UsageError(f"{len(words)} runs: too many (expected {len(LETTERS)} at most)")
    names = dict(zip(LETTERS, words))
    mean = LETTERS[:benchmark] if benchmark > 1 else ""
    told = {option: _spread(option, given, names, mean) for option, given in hints.items()}
    found = []
    for name, word in names.items():
        own = {option: values[name] for option, values in told.items() if name in values}
        found.append(_read_side(name, word, own, runs_dir))
    return found


def _read_side(name: str, word: str, hints: Mapping[str, int], runs_dir: str) -> Side:
    place = find(word, runs_dir)
    path = place.path if isinstance(place, RunDir) else place
    try:
        curve = read(path, **hints)
    except ReadError as error:  # it is what the user named
        raise UsageError(str(error)) from None
    if curve.kind == "unknown" and not (curve.points or curve.scores or curve.settings):
        raise UsageError(f"{word}: no line has a known form (expected a log of docs/compare.md, or a run)")
    if not isinstance(place, RunDir):
        return Side(name, word, curve, predictions=answers.find(path))
    return Side(name, word, curve, *settings.of_run(place), answers.find(path), said.of_run(place))


def find(word: str, runs_dir: str) -> RunDir | Path:
    """Find a run by its name or path, or else a log. UsageError: there is neither."""
    path = Path(word)
    if os.path.lexists(word) and not (path.is_dir() and registry.is_run(path)):
        return path
    try:
        return registry.resolve(word, runs_dir)
    except UsageError as error:
        raise UsageError(f"{error}; nor is there a file of this name") from None


def _spread(option: str, given: Sequence[str], names: Mapping[str, str], mean: str) -> dict[str, int]:
    """Return the number of each side that one is given for: N is for all, NAME=N for one."""
    flag = "--" + option.replace("_", "-")
    found: dict[str, int] = {}
    for text in sorted(given, key=lambda one: "=" in one):  # one for all stands behind one for its own
        word, _, number = text.rpartition("=")
        if not (number.isascii() and number.isdigit() and 0 < int(number[:10]) and len(number) <= 9):
            raise UsageError(f"{flag} {text}: invalid (expected NAME=N, or N for all; N from 1 on)")
        chosen = [name for name in names if not word or word in _names_of(name, names[name])]
        chosen = chosen or (list(mean) if word == MEAN else [])
        if not chosen:
            raise UsageError(f"{flag} {text}: no run is called {word} (expected {some(list(names))})")
        found.update(dict.fromkeys(chosen, int(number)))
    return found


def _names_of(name: str, word: str) -> tuple[str, ...]:
    return name, word, os.path.basename(word.rstrip("/"))
