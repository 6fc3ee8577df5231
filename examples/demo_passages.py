"""Write a passage about an invented thing, and questions about it."""

from __future__ import annotations

import random
import re
from typing import NamedTuple

from demo_grammar import SLOT, Attribute, Kind, Span, choose, facts_of, fill
from demo_names import Names

COUNT_WORDS = "two three four five six seven eight nine ten eleven twelve".split()
LENGTHS = (30, 34, 38, 42)  # words at which a passage is long enough
_TRIES = 200  # if so many draws give no further question, a passage has too few facts


class Exhausted(Exception):
    """A passage has too few facts for the requested questions."""


class Passage(NamedTuple):
    """A text about the thing `name` that may also mention `other`; spans: every fact and its place."""

    kind: Kind
    name: str
    other: str
    text: str
    spans: list[Span]


class Question(NamedTuple):
    """A question and the span that answers it, or would only seem to."""

    text: str
    span: Span
    answered: bool


def new_name(forms: list[str], names: Names, rng: random.Random) -> str:
    """Make a name of one of the given forms."""
    return SLOT.sub(lambda slot: names.take(slot.group()[1:-1]), rng.choice(forms))


def attribute_of(kind: Kind, key: str) -> Attribute:
    """Find the attribute of a fact's key: `x`, `!x` or `other.x`."""
    return kind.attributes[re.sub(r"^other\.|^!", "", key)]


class Thing:
    """The names and values of one passage, invented when they are first needed."""

    def __init__(self, kind: Kind, names: Names, rng: random.Random) -> None:
        self.kind, self.names, self.rng = kind, names, rng
        self.base = rng.randrange(1830, 1920)
        forms, self.refs = rng.choice(kind.namings)
        self.name, self.other = new_name(forms, names, rng), new_name(forms, names, rng)
        self.values: dict[str, str] = {}
        self.by_name = True  # the next sentence must call the thing by its name

    def value(self, slot: str) -> str:
        """Return the text for a slot of a template."""
        if slot[0] == "<":
            return self.names.take(slot[1:-1])
        if slot[0] == "{":
            return self.other if slot[1] == "O" else self.reference(slot[1])
        key = slot[1:-1]
        if key not in self.values:
            self.values[key] = self.invent(key)
        return self.values[key]

    def reference(self, letter: str) -> str:
        """Refer to the thing as the subject (S), possessive (P) or without a pronoun (N)."""
        refs = [(self.name, self.name + ("'" if self.name.endswith("s") else "'s"))]
        if not self.by_name:
            refs += [ref for ref in self.refs if letter != "N" or " " in ref[0]]
        subject, possessive = self.rng.choice(refs)
        return possessive if letter == "P" else subject

    def invent(self, key: str) -> str:
        """Draw a value of the attribute's type that this passage does not use yet."""
        attribute = attribute_of(self.kind, key)
        while True:
            value = self.draw(attribute.type, attribute.detail)
            if value not in self.values.values():
                return value

    def draw(self, type_: str, detail: str) -> str:
        """Draw a value: years follow the order of a life, small counts are written as words."""
        if type_ in ("person", "place"):
            return self.names.take(type_)
        if type_ == "choice":
            return self.rng.choice(detail.split("; "))
        if type_ == "year":
            return str(self.base + int(detail) + self.rng.randrange(7))
        bounds, unit = (detail + " ").split(" ", 1)
        low, high = (int(bound.replace(",", "")) for bound in bounds.split("-"))
        number = self.rng.randrange(low, high + 1)
        return (f"{number:,}" if number > 12 else COUNT_WORDS[number - 2]) + (" " + unit).rstrip()


def write_passage(kind: Kind, names: Names, rng: random.Random) -> Passage:
    """Join sentences until the passage is long enough; no fact is stated twice."""
    thing = Thing(kind, names, rng)
    text, spans = "", []
    templates = _select(kind, rng)
    for template in templates:
        sentence, found = fill(template, thing.value)
        start = len(text) + 1 if text else 0
        text = (text + " " + sentence) if text else sentence
        spans += [Span(span.key, span.start + start, span.text) for span in found]
        thing.by_name = "{O}" in template
    return Passage(kind, thing.name, thing.other if "{O}" in " ".join(templates) else "", text, spans)


def _select(kind: Kind, rng: random.Random) -> list[str]:
    """Choose the sentences of a passage: an opener, then a mixture in random order."""
    opener = choose(rng, rng.choice(kind.openers))
    plain, wrong, second = _sorted_sentences(kind, rng)
    pool = [group.pop() for group, share in ((second, 25), (wrong, 15)) if rng.randrange(100) < share]
    pool += [choose(rng, rng.choice(kind.fillers))] * (rng.randrange(100) < 30) + plain
    told = set(facts_of(opener))
    body: list[str] = []
    words, enough = len(opener.split()), rng.choice(LENGTHS)
    for template in pool:
        keys = {key.lstrip("!") for key in facts_of(template)}
        if words < enough and not keys & told:
            body.append(template)
            told |= keys
            words += len(template.split()) + len(keys) // 2
    rng.shuffle(body)
    return [opener, *body]


def _sorted_sentences(kind: Kind, rng: random.Random) -> tuple[list[str], list[str], list[str]]:
    """Group the sentences: plain ones, ones with a wrong value, ones about a second thing; shuffle each."""
    groups: tuple[list[str], list[str], list[str]] = ([], [], [])
    for template in kind.sentences:
        keys = facts_of(template)
        sort = 1 if any(key.startswith("!") for key in keys) else 2 if "{O}" in template else 0
        groups[sort].append(choose(rng, template))
    for group in groups:
        rng.shuffle(group)
    return groups


class Asker:
    """Questions about one passage; a wording is used once."""

    def __init__(self, passage: Passage, stranger: str, rng: random.Random) -> None:
        self.passage, self.stranger, self.rng = passage, stranger, rng
        self.facts = {span.key: span for span in passage.spans}
        self.used: list[str] = []

    def word(self, attribute: str, name: str) -> str:
        """Choose a wording for a question that no earlier question of this passage has."""
        for _ in range(_TRIES):
            template = choose(self.rng, self.rng.choice(self.passage.kind.attributes[attribute].questions))
            text = template.replace("{N}", name)
            if text not in self.used:
                self.used.append(text)
                return text[0].upper() + text[1:]
        raise Exhausted(attribute)

    def answered(self, number: int) -> list[Question]:
        """Ask for `number` stated facts; the last may be a paraphrase of an earlier one."""
        keys = [key for key in self.facts if not key.startswith("!")]
        self.rng.shuffle(keys)
        keys = keys[: number - self.rng.randrange(2)]
        again = keys * (number // len(keys))  # an attribute has three wordings or more
        return [self._about(key) for key in (keys + again)[:number]]

    def _about(self, key: str) -> Question:
        other, attribute = key.startswith("other."), key.split(".")[-1]
        name = self.passage.other if other else self.passage.name
        return Question(self.word(attribute, name), self.facts[key], True)

    def unanswered(self, number: int, swap: bool) -> list[Question]:
        """Ask `number` questions that the passage does not answer though it seems to.

        swap: one of them is about another thing than the fact that it seems to ask for.
        """
        questions: list[Question] = []
        for _ in range(_TRIES):
            sorts = [self._untold()]
            if swap and not questions:
                sorts = [self._swapped()] * 3 + [self._foreign()] * 2
            candidates = [sort for sort in sorts if sort]
            if not candidates:
                break
            attribute, name, span = self.rng.choice(self.rng.choice(candidates))
            if all(question.span != span for question in questions):
                questions.append(Question(self.word(attribute, name), span, False))
            if len(questions) == number:
                return questions
        raise Exhausted(self.passage.name)

    def _untold(self) -> list[tuple[str, str, Span]]:
        """List attributes that are not stated, each with a span of its type; prefer wrong values."""
        found = []
        for attribute in self.passage.kind.attributes.values():
            if attribute.name in self.facts:
                continue
            tempting = ("!" + attribute.name, "other." + attribute.name)
            near = [span for span in self.passage.spans if span.key in tempting]
            alike = [span for span in self.passage.spans if self._type(span.key) == attribute.type]
            if near:
                found += [(attribute.name, self.passage.name, near[0])] * 4
            elif alike:
                found.append((attribute.name, self.passage.name, self.rng.choice(alike)))
        return found

    def _swapped(self) -> list[tuple[str, str, Span]]:
        """List facts of the thing that are not stated for the second one, to ask them about that one."""
        if not self.passage.other:
            return []
        return [
            (key, self.passage.other, span)
            for key, span in self.facts.items()
            if key.isalpha() and "other." + key not in self.facts
        ]

    def _foreign(self) -> list[tuple[str, str, Span]]:
        """List facts of the thing, to ask them about one that the passage does not mention."""
        return [(key, self.stranger, span) for key, span in self.facts.items() if key.isalpha()]

    def _type(self, key: str) -> str:
        return attribute_of(self.passage.kind, key).type
