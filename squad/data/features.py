"""Turn questions into the rows of numbers that BERT reads, equal to google-research/bert's.

Every distinct word is tokenised once, a passage's tokens are assembled once for all its questions,
and rows are cut from them. `python -m squad.features` writes them to a file, to debug data.
"""

from __future__ import annotations

import os
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Sequence

import numpy as np

from squad.data import windows
from squad.data.examples import Example, paused_gc
from squad.data.ragged import Numbering, Ragged
from squad.data.token_places import TokenPlaces
from squad.data.tokenizer import Tokenizer
from squad.data.windows import Windows
from squad.progress import Progress

FIRST_UNIQUE_ID = 1000000000
_ROWS = 256  # rows filled at a time


@dataclass(frozen=True)
class Features:
    """The rows of a file's questions, in their order: one entry per row [R] or per token [R, L]."""

    unique_ids: np.ndarray  # [R] int32
    example_index: np.ndarray | None  # [R] int32, index into the examples; None from a record cache
    doc_span_index: np.ndarray | None  # [R] int32, window of the example; None from a record cache
    lengths: np.ndarray  # [R] int32, tokens before the padding
    input_ids: np.ndarray  # [R, L] int32
    input_mask: np.ndarray  # [R, L] int8
    segment_ids: np.ndarray  # [R, L] int8
    token_to_orig_map: np.ndarray | None = None  # [R, L] word of the passage, -1 elsewhere
    token_is_max_context: np.ndarray | None = None  # [R, L] int8: 1, 0, -1 outside the passage
    token_of_word: np.ndarray | None = None  # [R, L] number of the token in its word; only word_split cjk
    start_positions: np.ndarray | None = None  # [R] int32; this and the next two for training only
    end_positions: np.ndarray | None = None
    is_impossible: np.ndarray | None = None  # [R] bool

    def __len__(self) -> int:
        return len(self.unique_ids)

    @property
    def max_seq_length(self) -> int:
        """The columns, L."""
        return int(self.input_ids.shape[1])


def build_features(
    examples: Sequence[Example],
    tokenizer: Tokenizer,
    max_seq_length: int,
    doc_stride: int,
    max_query_length: int,
    training: bool,
    maps: bool = True,
    progress: Progress | None = None,
) -> Features:
    """Build the rows of all examples; an example whose passage has no tokens has none.

    Without maps, token_to_orig_map and token_is_max_context are None (training needs neither).

    Raises:
        ValueError: max_seq_length leaves no room for a passage, or doc_stride is below 1.
    """
    with paused_gc():
        text = _tokenise(examples, tokenizer, training)
    question = np.minimum(text.questions.counts(), max_query_length)
    cuts = windows.cut(text.passages.counts()[text.passage_of], question, max_seq_length, doc_stride)
    answers = _answers(examples, text, cuts, tokenizer) if training else {}
    rows = _rows(text, cuts, max_seq_length, (tokenizer.cls_id, tokenizer.sep_id), maps, progress)
    if maps and any(example.word_places is not None for example in examples):
        rows["token_of_word"] = _tokens_of_words(text, cuts, rows["token_to_orig_map"])
    return Features(
        unique_ids=np.arange(FIRST_UNIQUE_ID, FIRST_UNIQUE_ID + len(cuts.start), dtype=np.int32),
        example_index=cuts.example,
        doc_span_index=cuts.number,
        lengths=cuts.total,
        **rows,
        **answers,
    )


@dataclass(frozen=True)
class _Text:
    """The tokens of all questions, passages and answers."""

    questions: Ragged  # [N] lists of token ids
    passages: Ragged  # [P] lists of token ids, one per distinct passage
    passage_of: np.ndarray  # [N]
    word_of: np.ndarray  # word of the passage for every token of `passages`
    word_starts: np.ndarray  # first token (counting all passages) of every word of every passage
    words: Ragged  # [P] lists of words
    answers: Ragged  # [N] lists of token ids; empty unless training


def _tokenise(examples: Sequence[Example], tokenizer: Tokenizer, training: bool) -> _Text:
    passages = {id(example.doc_tokens): example.doc_tokens for example in examples}
    lists = list(passages.values())
    number = dict(zip(passages, range(len(lists))))
    passage_of = np.array([number[id(example.doc_tokens)] for example in examples], np.int64)
    vocabulary: Numbering[str] = Numbering()
    words = vocabulary.number(lists, list(map(len, lists)))
    questions = _number(vocabulary, [example.question_text for example in examples])
    answers = _number(
        vocabulary, [example.orig_answer_text or "" for example in examples] if training else []
    )
    tokens = tokenizer.encode_words(list(vocabulary))
    counts = tokens.counts()[words.values]
    local = np.arange(len(words.values)) - np.repeat(words.starts[:-1], words.counts())
    return _Text(
        questions=tokens.take(questions),
        passages=tokens.take(words),
        passage_of=passage_of,
        word_of=np.repeat(local.astype(np.int32), counts),
        word_starts=np.concatenate([[0], np.cumsum(counts)]),
        words=words,
        answers=tokens.take(answers),
    )


def _number(vocabulary: Numbering[str], texts: Sequence[str]) -> Ragged:
    """Number the words of texts, split at spaces."""
    words = [text.split(" ") for text in texts]
    return vocabulary.number(words, list(map(len, words)))


def _answers(
    examples: Sequence[Example], text: _Text, cuts: Windows, tokenizer: Tokenizer
) -> dict[str, np.ndarray]:
    """Locate the answers: start and end column of each row, and whether its question has no answer."""
    impossible = np.array([example.is_impossible for example in examples], bool)
    first, last = _answer_tokens(examples, text)
    by_words = np.array([example.word_places is None for example in examples], bool)
    _narrow(examples, text, tokenizer, ~impossible & by_words, first, last)
    places = TokenPlaces(tokenizer.vocab, tokenizer.rules)
    for index in np.flatnonzero(~impossible & ~by_words).tolist():
        first[index], last[index] = _tokens_at(examples[index], text, index, places)
    first[impossible] = -1  # in no window
    start, end = windows.answer_columns(cuts, first, last)
    return {"start_positions": start, "end_positions": end, "is_impossible": impossible[cuts.example]}


def _narrow(
    examples: Sequence[Example],
    text: _Text,
    tokenizer: Tokenizer,
    which: np.ndarray,
    first: np.ndarray,
    last: np.ndarray,
) -> None:
    """Narrow the tokens of an answer's words to its own, where these are among them."""
    own = text.answers.counts()
    for index in np.flatnonzero(which & (own > 0) & (own < last - first + 1)).tolist():
        shifts = _shifts(text, index, int(first[index]), int(last[index]))
        if len(shifts) > 1 and examples[index].before:
            # Several places in its words hold the answer; google-research/bert takes the first one.
            wanted = len(tokenizer.encode(examples[index].before))
            shifts.sort(key=lambda shift: abs(shift - wanted))
        if shifts:
            first[index] += shifts[0]
            last[index] = first[index] + own[index] - 1


def _tokens_at(example: Example, text: _Text, index: int, places: TokenPlaces) -> tuple[int, int]:
    """Find the first and last token, counted within the passage, that hold characters of the answer.

    An answer whose characters are in no token gets the token behind it, or the passage's last one.
    """
    passage = int(text.passage_of[index])
    base, origin = int(text.words.starts[passage]), int(text.passages.starts[passage])
    begins = example.word_places or [0]
    begin, end = example.answer_start, example.answer_start + len(example.orig_answer_text or "")
    word, other = example.start_position or 0, example.end_position or 0
    skipped = sum(stop <= begin - begins[word] for _, stop in places[example.doc_tokens[word]])
    held = sum(start < end - begins[other] for start, _ in places[example.doc_tokens[other]])
    first = int(text.word_starts[base + word]) - origin + skipped
    last = int(text.word_starts[base + other]) - origin + held - 1
    first = min(first, len(text.passages[passage]) - 1)
    return first, max(first, last)


def _answer_tokens(examples: Sequence[Example], text: _Text) -> tuple[np.ndarray, np.ndarray]:
    """Find the first and last token [N] of the words of each answer, counted within the passage."""
    start = np.array([example.start_position for example in examples], np.int64)
    end = np.array([example.end_position for example in examples], np.int64)
    words = text.words.counts()[text.passage_of]
    base = text.words.starts[text.passage_of]
    origin = text.passages.starts[text.passage_of]
    # An answer of nothing but the spaces before the first word has position -1; as in google-research/bert,
    # the list of words is then read from the end.
    first = text.word_starts[base + start % words] - origin
    last = text.word_starts[base + np.minimum(end + 1, words)] - 1 - origin
    return first, last


def _shifts(text: _Text, index: int, first: int, last: int) -> list[int]:
    """Find the answer's own tokens within those of its words: `1895` in `(1895-1943).` stands at 1."""
    answer = text.answers[index].tolist()
    held = text.passages[text.passage_of[index]][max(first, 0) : last + 1].tolist()
    size = len(answer)
    return [shift for shift in range(len(held) - size + 1) if held[shift : shift + size] == answer]


def _tokens_of_words(text: _Text, cuts: Windows, words: np.ndarray) -> np.ndarray:
    """Number the tokens of each word, where `words` has one; from 0, also if its first ones are cut off."""
    inside = words >= 0
    passage = text.passage_of[cuts.example]
    token = text.passages.starts[passage] + cuts.start - cuts.head
    tokens = (token[:, None] + np.arange(words.shape[1]))[inside]
    of_word = np.repeat(text.words.starts[passage], inside.sum(axis=1)) + words[inside]
    numbers = np.zeros(words.shape, np.int32)
    numbers[inside] = tokens - text.word_starts[of_word]
    return numbers


def _rows(
    text: _Text, cuts: Windows, columns: int, marks: tuple[int, int], maps: bool, progress: Progress | None
) -> dict[str, np.ndarray]:
    """Fill the [R, L] arrays, some rows at a time on every core (numpy releases Python's lock)."""
    shape = (len(cuts.start), columns)
    pools = _Pools.of(text)
    arrays: dict[str, np.ndarray] = {
        "input_ids": np.empty(shape, np.int32),
        "input_mask": np.empty(shape, np.int8),
        "segment_ids": np.empty(shape, np.int8),
    }
    if maps:
        arrays["token_to_orig_map"] = np.empty(shape, pools.words.dtype)
        arrays["token_is_max_context"] = np.empty(shape, np.int8)

    def fill(begin: int) -> int:
        rows = slice(begin, min(begin + _ROWS, shape[0]))
        _fill(pools, text, cuts, rows, marks, arrays)
        return rows.stop

    with ThreadPoolExecutor(len(os.sched_getaffinity(0))) as threads:
        for done in threads.map(fill, range(0, shape[0], _ROWS)):
            if progress:
                progress(done, shape[0])
    return arrays


@dataclass(frozen=True)
class _Pools:
    """What a row's columns are copied from: first the padding, then all questions, then all passages."""

    ids: np.ndarray
    words: np.ndarray  # word of the passage; -1 elsewhere
    passages: int  # index at which the passages begin

    @classmethod
    def of(cls, text: _Text) -> _Pools:
        before = 1 + len(text.questions.values)
        kind = np.int16 if text.word_of.max(initial=0) < 2**15 else np.int32
        return cls(
            np.concatenate([[0], text.questions.values, text.passages.values]).astype(np.int32),
            np.concatenate([np.full(before, -1), text.word_of]).astype(kind),
            before,
        )


def _fill(
    pools: _Pools,
    text: _Text,
    cuts: Windows,
    rows: slice,
    marks: tuple[int, int],
    arrays: dict[str, np.ndarray],
) -> None:
    """Fill some rows: [CLS] question [SEP] window [SEP], then zeros."""
    ids = arrays["input_ids"]
    orig, best = arrays.get("token_to_orig_map"), arrays.get("token_is_max_context")
    example, head, total = cuts.example[rows], cuts.head[rows, None], cuts.total[rows, None]
    here = np.arange(rows.start, rows.stop)
    separators = (cuts.head[rows] - 1, cuts.total[rows] - 1)
    column = np.arange(ids.shape[1], dtype=np.int32)
    asked = text.questions.starts[example, None]
    passage = pools.passages + text.passages.starts[text.passage_of[example], None] + cuts.start[rows, None]
    source = np.where(column < head, asked, passage - head)
    source += column
    used = column < total
    np.copyto(source, 0, where=~used)  # the padding comes from the first entry of the pools
    np.take(pools.ids, source, out=ids[rows], mode="clip")  # all indices are valid; "clip" avoids a copy
    ids[rows, 0] = marks[0]
    arrays["input_mask"][rows] = used
    inside = (column >= head) & (column < total - 1)
    arrays["segment_ids"][rows] = inside
    arrays["segment_ids"][here, separators[1]] = 1
    if orig is not None and best is not None:
        np.take(pools.words, source, out=orig[rows], mode="clip")
        orig[rows, 0] = -1
        best[rows] = windows.is_max_context(cuts, rows, inside)
    for separator in separators:
        ids[here, separator] = marks[1]
        if orig is not None:
            orig[here, separator] = -1
