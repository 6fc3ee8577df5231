"""The word of a command line that names a run, also where options stand before it."""

from __future__ import annotations

from typing import Collection, Sequence

from launcher.commands import checkpoints
from launcher.run_dir import RunDir

_BOOLEANS = ("true", "t", "1", "yes", "false", "f", "0", "no")  # as squad/flag_parser.py reads them


def with_run_folder(words: Sequence[str], switches: Collection[str] = ()) -> list[str]:
    """Put the folder of a run's checkpoints in place of the run's name, if the first plain word is one.

    switches: names of the options that need no value; any other one that has no `=` takes the next word.
    """
    return named_run(words, switches)[0]


def named_run(words: Sequence[str], switches: Collection[str]) -> tuple[list[str], RunDir | None]:
    """Return the words as `with_run_folder` does, and the run that is named; None: none is."""
    found = list(words)
    place = _first_plain(found, switches)
    run = checkpoints.run_of(found[place]) if place < len(found) else None
    if run is not None:
        found[place] = checkpoints.folder_of(run)
    return found, run


def _first_plain(words: Sequence[str], switches: Collection[str]) -> int:
    """Find the first word that is neither an option nor the value of one; the end if there is none."""
    place = 0
    while place < len(words) and words[place].startswith("-"):
        if words[place] == "--":
            return place + 1
        name, equals, _ = words[place][2:].partition("=")
        after = words[place + 1].lower() if place + 1 < len(words) else ""
        takes = words[place].startswith("--") and not equals
        place += 2 if takes and (name not in switches or after in _BOOLEANS) else 1
    return min(place, len(words))
