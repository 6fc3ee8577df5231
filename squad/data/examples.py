"""Read SQuAD files (1.1 and 2.0) into examples, the way google-research/bert reads them.

Every problem is a `DataError` of one line that names the file and the place in it.
"""

from __future__ import annotations

import gc
import json
import re
from contextlib import contextmanager
from typing import Any, Iterable, Iterator, List, NamedTuple, Sequence, Tuple

from squad.errors import DataError

_WORD = re.compile("[^ \t\r\n\u202f]+")
_SHOWN = 3  # offenders named in a message


class Example(NamedTuple):
    """One question. Positions count words of `doc_tokens`; None when answers are not read.

    A named tuple, as a file has 130,000 of them and a frozen dataclass takes ten times as long to create.
    """

    qas_id: str
    question_text: str
    doc_tokens: list[str]  # the same list for all questions of a paragraph
    orig_answer_text: str | None = None
    start_position: int | None = None
    end_position: int | None = None
    is_impossible: bool = False


class Examples(List[Example]):
    """A list of examples; `notes` are lines to show to the user."""

    def __init__(self, items: Iterable[Example] = (), notes: Sequence[str] = ()) -> None:
        super().__init__(items)
        self.notes = list(notes)


Place = Tuple[int, ...]  # article, paragraph, question, answer


def read_squad(
    path: str, training: bool, version_2_with_negative: bool, skip_bad_answers: bool = False
) -> Examples:
    """Read a SQuAD file into examples, in the order of the file.

    An answer is bad if its words are not at the offset `answer_start` (the rule of google-research/bert);
    with skip_bad_answers such questions are left out and counted in `notes`.

    Raises:
        DataError: the file cannot be read, is not JSON, lacks keys, has duplicate ids or bad answers.
    """
    with paused_gc():
        document = load_json(path)
        reader = _Reader(path, training, version_2_with_negative, str(document.get("version", "")))
        examples = Examples(reader.examples(document))
    if reader.bad:
        message = _describe_bad(reader.bad)
        if not skip_bad_answers:
            raise DataError(f"{path}: {message}; correct them or give --skip_bad_answers")
        examples.notes.append(f"{path}: {message}; skipped")
    if not examples:
        raise DataError(f"{path}: contains no questions; give a SQuAD file")
    return examples


@contextmanager
def paused_gc() -> Iterator[None]:
    """Pause Python's cycle collector, which would traverse millions of new objects again and again."""
    enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if enabled:
            gc.enable()


def load_json(path: str) -> dict[str, Any]:
    """Parse a JSON file that contains an object. DataError: unreadable, or invalid at line and column."""
    try:
        with open(path, encoding="utf-8-sig") as stream:
            document = json.load(stream)
    except OSError as error:
        raise DataError(f"{path}: {error.strerror or error}") from None
    except UnicodeDecodeError as error:
        raise DataError(f"{path}: not UTF-8 at byte {error.start}; save it as UTF-8") from None
    except json.JSONDecodeError as error:
        place = f"{path}:{error.lineno}:{error.colno}"
        raise DataError(f"{place}: invalid JSON: {error.msg}; correct it or download it again") from None
    except RecursionError:
        raise DataError(f"{path}: JSON is nested too deeply; give a SQuAD file") from None
    if not isinstance(document, dict):
        raise DataError(f"{path}: not a JSON object with a key `data`; give a SQuAD file")
    return document


def split_words(context: str) -> list[str]:
    """Split a context at the white space that google-research/bert recognises; other spaces stay in words."""
    if any(space in context for space in "\t\r\n\u202f"):
        return _WORD.findall(context)
    return list(filter(None, context.split(" ")))


def overlap(train: Sequence[Example], predict: Sequence[Example]) -> int:
    """Count the questions of `predict` that are in `train` too: a train file given as predict file."""
    known = {example.qas_id for example in train}
    return sum(example.qas_id in known for example in predict)


class _Passage:
    """A context and its words."""

    def __init__(self, context: str) -> None:
        self.context = context
        self.words = split_words(context)
        # If the words are separated by single spaces, counting spaces finds a character's word.
        self._simple = len(self.words) == context.count(" ") + 1

    def find(self, text: str, start: int) -> tuple[int, int] | None:
        """Find the words (first, last) of an answer; None if the text at its offset is another."""
        if start < 0 or start + len(text) > len(self.context):
            return None
        first, last = self._word_at(start), self._word_at(start + len(text) - 1)
        held = " ".join(self.words[first : last + 1])
        return (first, last) if " ".join(text.split()) in held else None

    def _word_at(self, char: int) -> int:
        """Find the word of a character; a space belongs to the word before it, -1 before the first one."""
        if char < 0:  # an empty answer at the beginning: google-research/bert then counts from the end
            char += len(self.context)
        if self._simple:
            return self.context.count(" ", 0, char)
        return len(split_words(self.context[: char + 1])) - 1


def _describe_bad(bad: list[tuple[str, str, int]]) -> str:
    shown = ", ".join(f"{name} ({text!r:.40} at {start})" for name, text, start in bad[:_SHOWN])
    more = ", ..." if len(bad) > _SHOWN else ""
    noun = "answer is" if len(bad) == 1 else "answers are"
    return f"{len(bad)} {noun} not at the given offset: {shown}{more}"


class _Reader:
    """A reader of one file, which checks the presence and type of every value that it uses."""

    def __init__(self, path: str, training: bool, negative: bool, version: str) -> None:
        self.path, self.training, self.negative = path, training, negative
        self.old = version.startswith("1.")
        self.bad: list[tuple[str, str, int]] = []  # id, text, offset of answers that are not there
        self._seen: dict[str, Place] = {}

    def examples(self, document: dict[str, Any]) -> Iterator[Example]:
        """Yield the questions, and collect bad answers in `bad`."""
        for a, article in enumerate(self.get(document, "data", list, ())):
            for p, paragraph in enumerate(self.get(article, "paragraphs", list, (a,))):
                context = self.get(paragraph, "context", str, (a, p))
                passage = _Passage(context)
                if not context.strip():
                    raise self.error((a, p), "context", "empty; remove the paragraph")
                for q, item in enumerate(self.get(paragraph, "qas", list, (a, p))):
                    example = self._example(item, passage, (a, p, q))
                    if example:
                        yield example

    def _example(self, item: Any, passage: _Passage, place: Place) -> Example | None:
        """Read one question; None if its answer is bad."""
        name = self.get(item, "id", str, place)
        if name in self._seen:
            first = _name(self._seen[name])
            raise self.error(place, "id", f"duplicate id {name}, first used by {first}; make it unique")
        self._seen[name] = place
        text = self.get(item, "question", str, place)
        impossible = self.negative and self._impossible(item, place)
        if not self.training:
            return Example(name, text, passage.words)
        if impossible:
            return Example(name, text, passage.words, "", -1, -1, True)
        answer, start = self._answer(item, place)
        found = passage.find(answer, start)
        if found is None:
            self.bad.append((name, answer, start))
            return None
        return Example(name, text, passage.words, answer, found[0], found[1], False)

    def _impossible(self, item: dict[str, Any], place: Place) -> bool:
        if "is_impossible" in item:
            return bool(self.get(item, "is_impossible", bool, place))
        if self.training or self.old:
            message = "missing: a SQuAD 1.1 file; leave out --version_2_with_negative"
            raise self.error(place, "is_impossible", message)
        return False

    def _answer(self, item: dict[str, Any], place: Place) -> tuple[str, int]:
        """Read text and offset of the only answer, which training needs."""
        answers = self.get(item, "answers", list, place)
        if len(answers) > 1:
            message = f"{len(answers)} answers, training needs exactly one, so this may be a dev file"
            raise self.error(place, "answers", message + "; give the train file")
        if not answers:
            hint = "none; give one, or is_impossible: true"
            if item.get("is_impossible") is True:
                hint = "none, so this is a SQuAD 2.0 file; give --version_2_with_negative"
            raise self.error(place, "answers", hint)
        place = (*place, 0)
        return self.get(answers[0], "text", str, place), self.get(answers[0], "answer_start", int, place)

    def get(self, holder: Any, key: str, kind: type, place: Place) -> Any:
        """Return holder[key] of exactly that type. DataError: no object, no such key, another type."""
        try:
            value = holder[key]
        except (KeyError, TypeError, IndexError):
            problem = "missing" if isinstance(holder, dict) else "not in a JSON object"
        else:
            if type(value) is kind:
                return value
            problem = f"{value!r:.40} is not {_NOUNS[kind]}"
        raise self.error(place, key, problem + "; give a SQuAD file")

    def error(self, place: Place, key: str, message: str) -> DataError:
        """Build the error for a place in the file."""
        where = ".".join(filter(None, (_name(place), key)))
        return DataError(f"{self.path}: {where}: {message}")


_NOUNS = {list: "a list", str: "a string", bool: "true or false", int: "an integer"}
_NAMES = ("data", "paragraphs", "qas", "answers")


def _name(place: Place) -> str:
    """Format (0, 3, 2) as data[0].paragraphs[3].qas[2]."""
    return ".".join(f"{name}[{index}]" for name, index in zip(_NAMES, place))
