"""Read SQuAD files (1.1 and 2.0) into examples, the way google-research/bert reads them.

The file itself is read by `squad.data.questions`, as everywhere; here are words, positions and what training
asks of an answer. Every problem is a line that names the file and the place in it.
"""

from __future__ import annotations

import gc
from collections import Counter
from contextlib import contextmanager
from typing import Any, Callable, Iterable, Iterator, List, NamedTuple, Sequence, Union

from squad.data import characters
from squad.data.characters import CharacterPassage
from squad.data.layouts import name, shown
from squad.data.questions import PREDICTION, TRAINING, Answer, Question, Reader, unanswerable
from squad.data.squad_file import load_questions
from squad.data.words import Passage, split_words
from squad.errors import DataError

__all__ = ["Example", "Examples", "overlap", "paused_gc", "read_squad", "split_words"]
_SHOWN = 20  # offenders named in a message
_NOTED = 3  # ids named in a note
_LEARNT = {
    "first": "the first one",
    "all": "all that differ, an example for each",
    "most": "the most frequent one",
}


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
    before: str = ""  # the characters of the word `start_position` before the answer
    context: str = ""  # the passage as written
    # Where the words begin, in characters, if answers are known by their characters (word_split cjk).
    word_places: list[int] | None = None
    answer_start: int = -1  # then: the place of orig_answer_text


AnyPassage = Union[Passage, CharacterPassage]


class Examples(List[Example]):
    """A list of examples; `notes` are lines to show to the user."""

    def __init__(self, items: Iterable[Example] = (), notes: Sequence[str] = ()) -> None:
        super().__init__(items)
        self.notes = list(notes)


def read_squad(
    path: str,
    training: bool,
    version_2_with_negative: bool,
    skip_bad_answers: bool = False,
    several: str = "",
    limit: int = 0,
    word_split: str = "auto",
    divide: bool = True,
    wanted: Callable[[str], bool] | None = None,
    document: Any = None,
) -> Examples:
    """Read a file of questions into examples, in the order of the file.

    An answer is bad if its words are not at the offset `answer_start`; with skip_bad_answers such answers
    are left out and counted in `notes`.

    Args:
        several: what training learns of a question with several answers (`--train_answers`): "first", "all"
            (an example for each different answer), "most" (the most frequent text, the first of equals);
            "" refuses them.
        limit: read the first `limit` questions alone; 0: all.
        word_split: "google", "cjk", or "auto" to choose by the passages.
        divide: with cjk, whether the tokenizer makes each Chinese character a word.
        wanted: which ids are read; None: all. The limit counts these.
        document: what load_questions has returned for the file; None: it is parsed here.

    Raises:
        DataError: a line for each fault: the file cannot be read, is no SQuAD file, or has duplicate ids,
            values of a wrong type, or answers from which nothing can be learnt.
    """
    needs = TRAINING._replace(negative=version_2_with_negative) if training else PREDICTION
    with paused_gc():
        document = load_questions(path) if document is None else document
        choice = characters.choose(document) if word_split == "auto" else None
        rule = (choice.split if choice else word_split, divide)
        maker = _Maker(Reader(path, needs), training, version_2_with_negative, several, limit, rule, wanted)
        examples = Examples(maker.examples(document))
        del document  # or the collector would traverse it, too, once it is on again
    bad = maker.bad
    if bad and not skip_bad_answers:
        maker.reader.add(bad.message())
    maker.reader.finish()
    chosen = [str(choice)] if choice and choice.split == "cjk" else []
    examples.notes.extend(f"{path}: {note}" for note in [*chosen, *maker.notes(examples)])
    if not examples:
        raise DataError(f"{path}: contains no questions; give a SQuAD file")
    return examples


def asked(qas_id: str, question: str, context: str, word_split: str = "auto", divide: bool = True) -> Example:
    """Make the example of a question on a passage that stand in no file; arguments as of read_squad."""
    if word_split == "auto":
        word_split = characters.choose_for([context]).split
    passage = _passage(context, word_split, divide)
    return Example(qas_id, question, passage.words, context=context, word_places=passage.places)


def _passage(context: str, word_split: str, divide: bool) -> AnyPassage:
    return CharacterPassage(context, divide) if word_split == "cjk" else Passage(context)


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


def overlap(train: Sequence[Example], predict: Sequence[Example]) -> int:
    """Count the questions of `predict` that are in `train` too: a train file given as predict file."""
    known = {example.qas_id for example in train}
    return sum(example.qas_id in known for example in predict)


class _Maker:
    """A maker of examples from the questions of one file."""

    def __init__(
        self,
        reader: Reader,
        training: bool,
        negative: bool,
        several: str,
        limit: int,
        rule: tuple[str, bool],
        wanted: Callable[[str], bool] | None = None,
    ) -> None:
        self.reader, self.training, self.negative = reader, training, negative
        self.several, self.limit, self.wanted = several, limit, wanted
        self.bad = _BadAnswers()
        self._read, self._cut = 0, False  # questions; whether others follow
        self._several = 0  # questions with several answers
        self._rule = rule  # of words
        self._passage = _passage("", *rule)
        self._blank: list[str] = []  # ids of questions without text
        self._void: list[str] = []  # ids of questions whose answer has no word

    def examples(self, document: object) -> Iterator[Example]:
        """Yield the examples of each question from which one can be made."""
        for context, questions in self.reader.read(document):
            if context != self._passage.context:
                self._passage = _passage(context, *self._rule)
            words, places = self._passage.words, self._passage.places
            for question in questions:
                if self.wanted and not self.wanted(question.id):
                    continue
                if self._read == self.limit > 0:
                    self._cut = True
                    return
                self._read += 1
                if not question.text.strip():
                    self._blank.append(question.id)
                if not self.training:
                    yield Example(question.id, question.text, words, context=context, word_places=places)
                elif self.negative and unanswerable(question):
                    yield Example(question.id, question.text, words, "", -1, -1, True, "", context, places)
                else:
                    for number, answer in self._chosen(question):
                        example = self._answered(question, number, answer)
                        if example is not None:
                            yield example

    def notes(self, examples: Sequence[Example]) -> Iterator[str]:
        """Yield what the user should know of a file that was read."""
        yield from self.reader.notes
        if self.bad:
            yield f"{self.bad.summary()}; skipped"
        if self._blank:
            yield f"{_counted(self._blank, 'question')} empty ({_named(self._blank)})"
        if self._void:
            void = f"{_counted(self._void, 'answer')} empty or white space ({_named(self._void)})"
            yield f"{void}: words of the passage are learnt, as in google-research/bert; give is_impossible"
        if self._several:
            noun = "question has" if self._several == 1 else "questions have"
            yield f"{self._several} {noun} several answers; learnt: {_LEARNT[self.several]}"
        if self._cut:
            yield f"the first {self.limit} questions alone are read"
        if self.training and self.negative and not any(example.is_impossible for example in examples):
            yield "every question has an answer: nothing teaches the model to answer with nothing"

    def _chosen(self, question: Question) -> Iterable[tuple[int, Answer]]:
        """Choose the answers from which to learn, with their numbers; none is a fault."""
        answers = question.answers or []
        if len(answers) == 1:
            return enumerate(answers)
        if answers and self.several:
            self._several += 1
            return _choose(answers, self.several)
        if answers:
            message = f"{len(answers)} answers, training needs exactly one, so this may be a dev file"
            message += "; give the train file, or --train_answers=first, all or most"
        elif unanswerable(question):
            message = "none, so this is a SQuAD 2.0 file; give --version_2_with_negative"
        else:
            message = "none, but is_impossible is false; give one, or is_impossible: true"
        self.reader.fault(question.place, "answers", message, question.id)
        return ()

    def _answered(self, question: Question, number: int, answer: Answer) -> Example | None:
        """Make the example of a question's answer; None if the answer is not at its offset."""
        fields = _answer_fields(self._passage, answer)
        if fields is not None:
            if not answer.text.strip():
                self._void.append(question.id)
            return Example(question.id, question.text, *fields)
        text, start = answer
        place = self.reader.where((*question.place, number))
        self.bad.append(f"{place}: {shown(text)} at {start} (question {name(question.id)})")
        return None


def _answer_fields(passage: AnyPassage, answer: Answer) -> tuple[Any, ...] | None:
    """Return the fields of an example from `doc_tokens` on; None if the answer is not in its passage."""
    found = passage.find(*answer)
    if found is None:
        return None
    words, context = passage.words, passage.context
    if isinstance(passage, Passage):
        return (words, answer.text, *found, False, passage.before(*answer), context)
    start, end = found
    span = passage.word_at(start), passage.word_at(end - 1)
    return (words, context[start:end], *span, False, "", context, passage.places, start)


def _choose(answers: Sequence[Answer], rule: str) -> list[tuple[int, Answer]]:
    """Choose of several answers the first, all that differ, or the first one with the most frequent text."""
    numbers = [number for number, answer in enumerate(answers) if answers.index(answer) == number]
    if rule == "most":
        counts = Counter(answer.text for answer in answers)  # of equal ones, max takes the first
        numbers = [max(numbers, key=lambda number: counts[answers[number].text])]
    return [(number, answers[number]) for number in (numbers if rule == "all" else numbers[:1])]


class _BadAnswers(List[str]):
    """Answers that are not at their offset, described."""

    def summary(self) -> str:
        """Count them, and describe the first ones."""
        listed = ", ".join(self[:_NOTED]) + _dots(self)
        return f"{_counted(self, 'answer')} not at the given offset: {listed}"

    def message(self) -> str:
        """Describe them, one on each line if there are several."""
        advice = "correct them or give --skip_bad_answers"
        if len(self) == 1:
            return f"{self.summary()}; {advice}"
        lines = [f"{len(self)} answers are not at the given offset; {advice}", *self[:_SHOWN]]
        more = [f"and {len(self) - _SHOWN} more"] if len(self) > _SHOWN else []
        return "\n  ".join(lines + more)


def _counted(items: Sequence[str], noun: str) -> str:
    return f"1 {noun} is" if len(items) == 1 else f"{len(items)} {noun}s are"


def _named(ids: Sequence[str]) -> str:
    return ", ".join(map(name, ids[:_NOTED])) + _dots(ids)


def _dots(items: Sequence[str]) -> str:
    return ", ..." if len(items) > _NOTED else ""
