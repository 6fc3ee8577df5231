"""Read the files of demo_world, and turn their lines into text in which the place of each fact is known."""

from __future__ import annotations

import random
import re
from typing import Callable, Iterable, NamedTuple

CHOICE = re.compile(r"\(([^()]*\|[^()]*)\)")
SLOT = re.compile(r"(\[[^\]]+\]|\{[A-Z]\}|<[a-z]+>)")
FACT = re.compile(r"\[([^\]]+)\]")


class Attribute(NamedTuple):
    """A property of a thing: its type (person, year, count ...) and questions about it."""

    name: str
    type: str
    detail: str
    questions: list[str]


class Kind(NamedTuple):
    """A kind of thing: how it is named, its attributes, and sentences about it."""

    name: str
    namings: list[tuple[list[str], list[tuple[str, str]]]]
    attributes: dict[str, Attribute]
    openers: list[str]
    sentences: list[str]
    fillers: list[str]


class Span(NamedTuple):
    """A fact in a text: its key as written in the brackets, and its characters."""

    key: str
    start: int
    text: str


def read_kind(name: str, lines: Iterable[str]) -> Kind:
    """Parse one file of demo_world (its README explains the lines)."""
    kind = Kind(name, [], {}, [], [], [])
    shelves = {">": kind.openers, "-": kind.sentences, "+": kind.fillers}
    for line in filter(None, (raw.strip() for raw in lines)):
        mark, rest = line.split(" ", 1)
        if mark == "names:":
            kind.namings.append((_parts(rest, "|"), []))
        elif mark == "refs:":
            pairs = (ref.split("/") for ref in _parts(rest, "|"))
            kind.namings[-1][1].extend((subject, possessive) for subject, possessive in pairs)
        elif mark == "@":
            words = [*rest.split(" ", 2), ""]
            kind.attributes[words[0]] = Attribute(words[0], words[1], words[2], [])
        elif mark == "?":
            list(kind.attributes.values())[-1].questions.append(rest)
        else:
            shelves[mark].append(rest)
    return kind


def _parts(text: str, separator: str) -> list[str]:
    return [part.strip() for part in text.split(separator)]


def choose(rng: random.Random, template: str) -> str:
    """Choose one alternative for every (a|b) of a template."""
    while True:
        found = CHOICE.search(template)
        if not found:
            return template
        template = template[: found.start()] + rng.choice(found.group(1).split("|")) + template[found.end() :]


def facts_of(template: str) -> list[str]:
    """List the bracketed keys of a template in order: `x`, `!x` or `other.x`."""
    return FACT.findall(template)


def fill(template: str, value_of: Callable[[str], str]) -> tuple[str, list[Span]]:
    """Replace each slot by its value; return the sentence, capitalised, and the places of its facts."""
    text, spans = "", []
    for piece in SLOT.split(template):
        if SLOT.match(piece):
            value = value_of(piece)
            value = value if text else value[:1].upper() + value[1:]
            if piece.startswith("["):
                spans.append(Span(piece[1:-1], len(text), value))
            piece = value
        text += piece if text else piece[:1].upper() + piece[1:]
    return text, spans
