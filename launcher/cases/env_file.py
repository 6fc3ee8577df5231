"""Environment files: lines of KEY=VALUE or `export KEY=VALUE`, read without a shell.

Quotes, backslashes, comments and $NAME, ${NAME}, ${NAME:-default} have the meaning that a shell gives them.
Anything that a shell would have to execute is refused.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Callable, Mapping, Optional

from launcher import foreign
from launcher.errors import ConfigError, ReadError

Lookup = Callable[[str], Optional[str]]

_ASSIGNMENT = re.compile(r"(?:export\s+)?([A-Za-z_]\w*)=(.*)", re.ASCII)
_VARIABLE = re.compile(r"\$(?:\{([A-Za-z_]\w*)(?::-([^}]*))?\}|([A-Za-z_]\w*))", re.ASCII)
# '...' as it stands | "..." with variables | \x is x | bare text with variables
_PIECE = re.compile(r"""'([^']*)'|"((?:[^"\\]|\\.)*)"|\\(.)|((?:\$\{[^}'"\\`$]*\}|[^\s'"\\;&|<>])+)""")


def read(path: Path, environ: Mapping[str, str]) -> dict[str, str]:
    """Read the variables of a file; $NAME is looked up in `environ`. ConfigError: an invalid line."""
    try:
        lines = foreign.read_bytes(path, follow=True).decode().splitlines()
    except (ReadError, UnicodeDecodeError) as error:
        reason = str(error) if isinstance(error, ReadError) else f"{path}: not UTF-8"
        raise ConfigError(f"{reason}; give a file of KEY=VALUE lines") from None
    found: dict[str, str] = {}

    def lookup(name: str) -> str:
        return found.get(name, environ.get(name, ""))

    for number, line in enumerate(lines, 1):
        line = line.strip()
        if not line or line.startswith("#"):
            continue
        match = _ASSIGNMENT.match(line)
        try:
            if match is None:
                raise ValueError(f"{line!r} is not KEY=VALUE; no shell is run, so write the values")
            found[match.group(1)] = _value(match.group(2), lookup)
        except ValueError as error:
            raise ConfigError(str(error), file=str(path), line=number) from None
    return found


def expand(text: str, lookup: Lookup) -> str:
    """Replace $NAME, ${NAME} and ${NAME:-default}. ValueError: no value, or a command to run."""

    def value(match: re.Match[str]) -> str:
        name = match.group(1) or match.group(3)
        known = lookup(name)
        if known is None and match.group(2) is None:
            raise ValueError(f"${name} is not set")
        return known or expand(match.group(2) or "", lookup)

    rest = _VARIABLE.sub("", text)
    if "$(" in rest or "`" in rest or "${" in rest:
        raise ValueError(f"{text!r} runs a command; no shell is run, so write the value")
    return _VARIABLE.sub(value, text)


def words(text: str, lookup: Lookup) -> list[str]:
    """Split a command into words as a shell does; text in single quotes is left for the program.

    ValueError: a quote left open, a variable without a value, or something that only a shell can do.
    """
    found: list[str] = []
    place = 0
    while place < len(text):
        if text[place].isspace():
            place += 1
            continue
        word, place = _word(text, place, lookup)
        found.append(word)
    return found


def _value(text: str, lookup: Lookup) -> str:
    """Read one word as a shell does. ValueError: more than one word, or a quote left open."""
    word, place = _word(text, 0, lookup)
    rest = text[place:].strip()
    if rest and not rest.startswith("#"):
        raise ValueError(f"{text!r} is more than one word; put the value in quotes")
    return word


def _word(text: str, place: int, lookup: Lookup) -> tuple[str, int]:
    """Read the word that begins at `place`: (its value, where it ends)."""
    parts: list[str] = []
    while place < len(text) and not text[place].isspace():
        piece = _PIECE.match(text, place)
        if piece is None:
            raise ValueError(f"{text[place:]!r} cannot be read; put the value in single quotes")
        literal, quoted, escaped, bare = piece.groups()
        if quoted is not None:
            parts.append(re.sub(r'\\([$`"\\])', r"\1", expand(quoted, lookup)))
        else:
            parts.append(expand(bare, lookup) if bare is not None else literal or escaped or "")
        place = piece.end()
    return "".join(parts), place
