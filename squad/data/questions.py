"""The one reader of questions, for training, prediction, features and scoring, and their rule of versions.

Whether a question can be answered is said by `is_impossible`, and where that is missing by its answers; so
whether a file is SQuAD 1.1 or 2.0 is decided by its questions, never by the text under `version`.
Standard library only. A file has 130,000 questions, so the common case is one look at each type.
"""

from __future__ import annotations

import re
from typing import Any, Iterator, NamedTuple, Sequence, Tuple

from squad.data import cmrc_layout, layouts
from squad.data.layouts import shown
from squad.data.rows import ANSWERS, STARTS, Rows
from squad.errors import DataError

_SHOWN = 20  # faults named in a message
_MISSING = object()
_BOOLS = {"true": True, "false": False, "0": False, "1": True, "yes": True, "no": False}
Place = Tuple[int, ...]  # entry, paragraph, question, answer; -1: the file has no such level


class Answer(NamedTuple):
    """A reference answer: its text, and its offset in the context in characters where that was read."""

    text: str
    start: int


_NO_ANSWER = Answer("", -1)
_NO_ID = "(without id)"  # of a question with a fault


class Question(NamedTuple):
    """One question; `answers` is None where the file gives no reference, and empty if it has no answer."""

    id: str
    text: str
    answers: list[Answer] | None
    impossible: bool | None  # None: the file does not say
    place: Place


class Needs(NamedTuple):
    """What a program needs of every question, besides its id."""

    texts: bool = True  # context and question
    offsets: bool = False  # answer_start of the answers
    references: bool = False  # the answers of every question that can be answered
    negative: bool = True  # answers of impossible questions are not read


TRAINING = Needs(offsets=True)
PREDICTION = Needs()
SCORING = Needs(texts=False, references=True)


def unanswerable(question: Question) -> bool:
    """Tell whether a question has no answer: as it says itself, else if the file gives it none."""
    return not question.answers if question.impossible is None else question.impossible


def version_2(questions: Sequence[Question]) -> bool:
    """Tell whether questions are those of SQuAD 2.0: any says whether it is impossible, or has no answer."""
    return any(question.impossible is not None or question.answers == [] for question in questions)


class Reader:
    """A reader of one file. It collects every fault, and leaves out the questions that have one."""

    def __init__(self, path: str, needs: Needs) -> None:
        self.path = path
        self._texts, self._offsets, self._references = needs.texts, needs.offsets, needs.references
        # Nothing is learnt from the answers of questions that cannot be answered.
        self._skips = needs.offsets and needs.negative
        self.notes: list[str] = []  # lines to show to the user
        self._root = ""
        self._faults: list[str] = []
        self._count = 0
        self._seen: dict[str, Place] = {}

    def read(self, document: Any) -> Iterator[tuple[str, list[Question]]]:
        """Yield each context with its questions, in the file's order; `finish` then raises what was found."""
        if not self._offsets:
            document = cmrc_layout.in_squads_layout(document)
        found = layouts.find(document)
        if isinstance(found, str):
            self.add(found)
            return
        self._root = found.root
        if isinstance(document, Rows) and not self._begin(document):
            return
        for number, entry in found.entries:
            if not isinstance(entry, dict):
                self.fault((number,), "paragraphs", layouts.describe(entry))
            elif "paragraphs" in entry:
                yield from self._article(entry, number)
            elif layouts.is_row(entry):
                yield self._paragraph(entry, [entry], (number, -1))
            elif "context" in entry and isinstance(entry.get("qas"), list):
                yield self._paragraph(entry, entry["qas"], (number, -1))
            elif layouts.foreign(entry):
                self.fault((number,), "", layouts.foreign(entry))
                return  # its other entries are of the same layout
            else:
                self.fault((number,), "paragraphs", layouts.describe(entry) + "; give a SQuAD file")

    def _begin(self, rows: Rows) -> bool:
        """Take over what was found when the rows were read; False: the file lacks what is needed."""
        self.notes.extend(rows.notes)
        for number, field, message in rows.faults:
            self.fault((number,), field, message)
        if rows.without == ANSWERS and (self._references or self._offsets):
            self._lacks(rows, "of answers, which training and scoring need; its questions can be predicted")
            return False
        if rows.without == STARTS and self._offsets:
            self._lacks(rows, "answer_start, which training needs: where in its context an answer begins")
            return False
        return True

    def _lacks(self, rows: Rows, what: str) -> None:
        """Say which column is missing or empty, unless it is there and its lines have other faults."""
        if not rows.named:
            self.add(f"no column {what}")
        elif not rows.faults:
            self.add(f"no value in the column {what}")

    def finish(self) -> None:
        """Raise a DataError with a line for each fault, if there were any."""
        if not self._count:
            return
        lines = [f"{self.path}: {fault}" if self.path else fault for fault in self._faults]
        if self._count > len(lines):
            lines.append(f"and {self._count - len(lines)} more")
        raise DataError("\n".join(lines))

    def fault(self, place: Place, field: str, message: str, qas_id: str | None = None) -> None:
        """Add a fault at a place."""
        self._count += 1
        if len(self._faults) < _SHOWN:
            whose = "" if qas_id is None else f" (question {layouts.name(qas_id)})"
            self._faults.append(f"{self.where(place, field)}: {message}{whose}")

    def where(self, place: Place, *fields: str) -> str:
        """Format a place of this file."""
        return layouts.where(self._root, place, *fields)

    def add(self, message: str) -> None:
        """Add a line that is not about one place."""
        self._count += 1
        self._faults.append(message)

    def _article(self, article: dict[str, Any], number: int) -> Iterator[tuple[str, list[Question]]]:
        paragraphs = article["paragraphs"]
        if not isinstance(paragraphs, list):
            self.fault((number,), "paragraphs", f"{shown(paragraphs)} is not a list; give a SQuAD file")
            return
        for p, paragraph in enumerate(paragraphs):
            place = (number, p)
            qas = paragraph.get("qas", _MISSING) if isinstance(paragraph, dict) else _MISSING
            if type(qas) is list:
                yield self._paragraph(paragraph, qas, place)
            elif qas is _MISSING:
                self.fault(place, "qas", layouts.describe(paragraph) + "; give a SQuAD file")
            else:
                self.fault(place, "qas", f"{shown(qas)} is not a list; give a SQuAD file")

    def _paragraph(
        self, paragraph: dict[str, Any], qas: list[Any], place: Place
    ) -> tuple[str, list[Question]]:
        """Read a context and its questions; a context with a fault gets no questions."""
        context = paragraph.get("context", _MISSING)
        before = self._count
        if self._texts:
            if type(context) is not str:
                self._mistyped(place, "context", context, paragraph, "a string")
            elif not context.strip():
                self.fault(place, "context", "empty; remove the paragraph")
        row = qas and qas[0] is paragraph
        usable = self._count == before
        questions = [self._question(item, (*place, -1 if row else q)) for q, item in enumerate(qas)]
        return str(context), [question for question in questions if question is not None and usable]

    def _question(self, item: Any, place: Place) -> Question | None:
        """Read one question; None if it has a fault."""
        if type(item) is not dict:
            self.fault(place, "id", layouts.describe(item))
            return None
        before = self._count
        qas_id, text, impossible = item.get("id"), item.get("question"), item.get("is_impossible")
        if type(qas_id) is not str or qas_id in self._seen:
            qas_id = self._odd_id(item, place)
        self._seen[qas_id] = place
        if type(text) is not str:
            text = ""
            if self._texts:
                self._mistyped(place, "question", item.get("question", _MISSING), item, "a string", qas_id)
        if impossible is not None and type(impossible) is not bool:
            impossible = self._bool(impossible, place, qas_id)
        answers: list[Answer] | None = None
        if not (impossible and self._skips):
            answers = self._answers(item, impossible, place, qas_id)
        return Question(qas_id, text, answers, impossible, place) if self._count == before else None

    def _odd_id(self, item: dict[str, Any], place: Place) -> str:
        """Read an id that is a number or has a fault."""
        value = item.get("id", _MISSING)
        number = None if isinstance(value, str) else _whole(value)
        if number is not None:
            value = str(number)
        if not isinstance(value, str):
            self._mistyped(place, "id", value, item, "a string or a whole number")
            return _NO_ID
        if value in self._seen:
            first = self.where(self._seen[value])
            self.fault(
                place, "id", f"duplicate id {layouts.name(value)}, first used by {first}; make it unique"
            )
        return value

    def _bool(self, value: Any, place: Place, qas_id: str) -> bool:
        """Read is_impossible written as 0, 1 or text, as CAIL's files and pandas have it."""
        plain = str(value).lower() if isinstance(value, (str, int, float)) else ""
        found = _BOOLS.get(plain[:-2] if plain in ("0.0", "1.0") else plain)
        if found is None:
            message = f"{shown(value)} is not true or false; give a SQuAD file"
            self.fault(place, "is_impossible", message, qas_id)
        return found is not False  # with a fault: impossible, so that missing answers are no second one

    def _answers(
        self, item: dict[str, Any], impossible: bool | None, place: Place, qas_id: str
    ) -> list[Answer] | None:
        held = item.get("answers", _MISSING)
        if held is _MISSING and "answers.text" in item:  # Dataset.flatten, pandas' json_normalize
            held = {"text": item["answers.text"], "answer_start": item.get("answers.answer_start")}
        if held is _MISSING or held is None:
            return self._no_answers(item, held, impossible, place, qas_id)
        if type(held) is dict:
            held = _rows(held)
        if type(held) is not list:
            pair = ", nor are its text and answer_start lists of one length" if type(held) is dict else ""
            self._mistyped(place, "answers", held, item, "a list" + pair, qas_id)
            return None
        found: list[Answer] = []
        for answer in held:
            text = answer.get("text") if type(answer) is dict else None
            if type(text) is str:
                start = answer.get("answer_start") if self._offsets else -1
                if type(start) is int:
                    found.append(Answer(text, start))
                    continue
            found.append(self._odd_answer(answer, (*place, len(found)), qas_id))
        return found

    def _odd_answer(self, answer: Any, place: Place, qas_id: str) -> Answer:
        """Read an answer that is not as usual, or add what is wrong with it."""
        if type(answer) is not dict:
            message = f"{shown(answer)} is not an object with text and answer_start; give a SQuAD file"
            self.fault(place, "text", message, qas_id)
            return _NO_ANSWER
        text, start = answer.get("text", _MISSING), answer.get("answer_start", _MISSING)
        if type(text) is not str:
            self._mistyped(place, "text", text, answer, "a string", qas_id)
        number = _whole(start) if self._offsets else -1
        if number is None:
            self._mistyped(place, "answer_start", start, answer, "an integer", qas_id)
        return Answer(str(text), -1 if number is None else number)

    def _no_answers(
        self, item: dict[str, Any], held: Any, impossible: bool | None, place: Place, qas_id: str
    ) -> list[Answer] | None:
        """Decide what a question without `answers`, or with null there, has: none, or no reference."""
        if impossible or (held is None and impossible is None):
            return []
        if self._references or self._offsets:
            what = "null" if held is None else layouts.foreign(item) or "missing" + layouts.held(item)
            self.fault(place, "answers", f"{what}; give the answers, or is_impossible: true", qas_id)
        return None

    def _mistyped(
        self, place: Place, field: str, value: Any, holder: Any, noun: str, qas_id: str | None = None
    ) -> None:
        """Add the fault of a value that is missing or has another type."""
        if value is _MISSING:
            self.fault(place, field, f"missing{layouts.held(holder)}; give a SQuAD file", qas_id)
        else:
            self.fault(place, field, f"{shown(value)} is not {noun}; give a SQuAD file", qas_id)


def _rows(held: dict[str, Any]) -> Any:
    """Turn answers by column, {"text": [...], "answer_start": [...]}, into a list; else return them."""
    texts, starts = held.get("text"), held.get("answer_start")
    if isinstance(texts, str):
        return [held]
    if not isinstance(texts, list):
        return held
    if starts is None:
        return [{"text": text} for text in texts]
    if not isinstance(starts, list) or len(starts) != len(texts):
        return held
    return [{"text": text, "answer_start": start} for text, start in zip(texts, starts)]


def _whole(value: Any) -> int | None:
    """Read a whole number, also one written as a float or as text; None if it is none."""
    if isinstance(value, bool):
        return None
    if isinstance(value, float) and value.is_integer():
        return int(value)
    if isinstance(value, str) and re.match(r"\s*-?\d{1,18}(\.0+)?\s*$", value, re.ASCII):
        return int(value.split(".")[0])  # pandas writes 7.0 where a column has empty cells
    return value if isinstance(value, int) else None
