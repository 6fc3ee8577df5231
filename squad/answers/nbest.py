"""From the logits of every feature to the three files that google-research/bert writes.

    predictions.json       question id -> text of the answer ("" for none)
    nbest_predictions.json question id -> up to n_best_size answers with probability and logits
    null_odds.json         question id -> null score minus best answer's score (SQuAD 2.0 only)

Candidates are found for all features at once; only spans that can reach the n-best become text.
Cases in which google-research/bert fails, and what happens here:
- no answer among the n-best (n_best_size 1, or only the null span is valid): the odds compare with the
  best answer further down; if there is none, with a score of 0, and the prediction is "";
- features without logits (a lost tail) are an error that counts them, not a KeyError;
- logits that are nan or infinite are an error, not a random answer.
"""

from __future__ import annotations

import json
import math
import os
from dataclasses import dataclass
from functools import reduce
from itertools import chain, islice
from operator import add
from typing import TYPE_CHECKING, Any, Iterator, NamedTuple, Sequence

import numpy as np

from squad.answers.answer_text import AnswerText
from squad.answers.predictions import Predictions
from squad.errors import DataError

if TYPE_CHECKING:
    from bert.interfaces import Logits
    from squad.data.examples import Example
    from squad.data.features import Features

ESCAPED = "backslashreplace"  # half a surrogate pair, which is no UTF-8, becomes JSON's escape of it
_CHUNK = 2048  # features whose candidates are found at once


@dataclass(frozen=True)
class Options:
    """The flags of run_squad that shape the answers."""

    n_best_size: int = 20
    max_answer_length: int = 30  # tokens
    version_2_with_negative: bool = False
    null_score_diff_threshold: float = 0.0


class Entry(NamedTuple):
    """One answer of the n-best, and its place in the context, in characters; -1 for no answer."""

    text: str
    start_logit: float
    end_logit: float
    start: int = -1
    end: int = -1  # exclusive


class Ranked(NamedTuple):
    """What is known of one question's answer, best first; `best` is the best that is not empty.

    odds: the null score minus the score of `best` (SQuAD 2.0 only).
    """

    entries: list[Entry]
    best: Entry | None
    odds: float | None


class Answers(NamedTuple):
    """The content of the three files; `null_odds` is empty for SQuAD 1.1."""

    predictions: Predictions
    nbest: dict[str, list[dict[str, Any]]]
    null_odds: dict[str, float]


class _Candidates(NamedTuple):
    """The allowed spans of all features, best first within an example."""

    columns: list[np.ndarray]  # row, start, end, first word, last word, start logit, end logit; each [M]
    bounds: list[int]  # [examples + 1]: those of example i are bounds[i] to bounds[i + 1]


class _Rows(NamedTuple):
    """What is read of features, all of it present."""

    example_index: np.ndarray
    input_ids: np.ndarray
    token_to_orig_map: np.ndarray
    token_is_max_context: np.ndarray
    token_of_word: np.ndarray | None


def find_answers(
    examples: Sequence[Example],
    features: Features,
    start_logits: np.ndarray,
    end_logits: np.ndarray,
    texts: AnswerText,
    options: Options,
) -> Answers:
    """Answer every example from the logits [N, L] of its features, which have been built with token maps.

    Raises:
        DataError: logits and features do not fit together, or the logits are nan or infinite.
    """
    result = Answers(Predictions(), {}, {})
    ranked = rank(examples, features, start_logits, end_logits, texts, options)
    for example, answer in zip(examples, ranked):
        _add(example.qas_id, answer, options, result)
    return result


def rank(
    examples: Sequence[Example],
    features: Features,
    start_logits: np.ndarray,
    end_logits: np.ndarray,
    texts: AnswerText,
    options: Options,
) -> Iterator[Ranked]:
    """Yield the best answers of each example, in order. Arguments and errors are those of find_answers."""
    rows = _rows(features)
    start_logits, end_logits = _checked(examples, rows, start_logits, end_logits)
    candidates = _candidates(len(examples), rows, start_logits, end_logits, options)
    nulls = _null_entries(len(examples), rows, start_logits, end_logits)
    for index, example in enumerate(examples):
        yield _ranked(_spans(index, example, rows, candidates, texts), nulls[index], options)


def write_files(folder: str, result: Answers, version_2_with_negative: bool) -> list[str]:
    """Write the files, each completely or not at all; return their paths."""
    documents: dict[str, Any] = {"predictions.json": result.predictions}
    documents["nbest_predictions.json"] = result.nbest
    if version_2_with_negative:
        documents["null_odds.json"] = result.null_odds
    paths = []
    for name, document in documents.items():
        path = os.path.join(folder, name)
        with open(path + ".tmp", "w", encoding="utf-8", errors=ESCAPED) as stream:
            stream.write(json.dumps(document, ensure_ascii=False, indent=4) + "\n")
        os.replace(path + ".tmp", path)
        paths.append(path)
    return paths


def _rows(features: Features) -> _Rows:
    """Select the arrays that are read. ValueError: the features were built without token maps."""
    index, words, best = features.example_index, features.token_to_orig_map, features.token_is_max_context
    if index is None or words is None or best is None:
        raise ValueError("these features have no token maps; build them with maps=True")
    return _Rows(index, features.input_ids, words, best, features.token_of_word)


def _checked(
    examples: Sequence[Example], features: _Rows, start_logits: np.ndarray, end_logits: np.ndarray
) -> Logits:
    """Convert the logits to float64, as the reference adds them. DataError: incomplete, nan or infinite."""
    wanted = features.token_to_orig_map.shape
    for name, logits in (("start", start_logits), ("end", end_logits)):
        if logits.shape != wanted:
            raise DataError(f"{name} logits have shape {logits.shape}, features {wanted}; predict again")
    if features.example_index.max(initial=-1) >= len(examples):
        raise DataError("features and questions are of different files; build the features again")
    used = features.token_to_orig_map >= 0
    used[:, 0] = True
    broken = (used & ~(np.isfinite(start_logits) & np.isfinite(end_logits))).any(axis=1).sum()
    if broken:
        raise DataError(
            f"the logits of {broken} of {wanted[0]} features are nan or infinite: the model has diverged"
        )
    return start_logits.astype(np.float64), end_logits.astype(np.float64)


def _top(logits: np.ndarray, count: int) -> np.ndarray:
    """Find the columns of the `count` greatest values of each row, greatest first, ties leftmost first."""
    return np.argsort(-logits, axis=1, kind="stable")[:, :count]


def _candidates(
    examples: int, features: _Rows, start_logits: np.ndarray, end_logits: np.ndarray, options: Options
) -> _Candidates:
    """Combine the n_best_size best starts and ends of each feature into the spans that are allowed."""
    parts = [
        _chunk_spans(features, start_logits, end_logits, slice(first, first + _CHUNK), options)
        for first in range(0, max(1, len(start_logits)), _CHUNK)
    ]
    row, start, end = (np.concatenate(column) for column in zip(*parts))
    owner = features.example_index[row]
    score = start_logits[row, start] + end_logits[row, end]
    order = np.lexsort((-score, owner))  # stable: equal scores keep the order of discovery
    row, start, end = row[order], start[order], end[order]
    words = features.token_to_orig_map[row, start], features.token_to_orig_map[row, end]
    columns = [row, start, end, *words, start_logits[row, start], end_logits[row, end]]
    return _Candidates(columns, np.searchsorted(owner[order], np.arange(examples + 1)).tolist())


def _chunk_spans(
    features: _Rows, start_logits: np.ndarray, end_logits: np.ndarray, rows: slice, options: Options
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """List (row, start, end) of the allowed spans of some features, in the order of their ranks."""
    starts = _top(start_logits[rows], options.n_best_size)  # [n, k]
    ends = _top(end_logits[rows], options.n_best_size)
    in_passage = features.token_to_orig_map[rows] >= 0
    start_fits = in_passage & (features.token_is_max_context[rows] == 1)
    allowed = np.take_along_axis(start_fits, starts, 1)[:, :, None]
    allowed = allowed & np.take_along_axis(in_passage, ends, 1)[:, None, :]
    length = ends[:, None, :] - starts[:, :, None] + 1  # [n, k, k]
    allowed &= (length > 0) & (length <= options.max_answer_length)
    row, first, second = np.nonzero(allowed)
    return row + rows.start, starts[row, first], ends[row, second]


def _null_entries(
    examples: int, features: _Rows, start_logits: np.ndarray, end_logits: np.ndarray
) -> list[Entry]:
    """List, for each example, the null span of the feature with the lowest null score.

    An example without features (its passage has no tokens) has logits of 0.
    """
    nulls = [Entry("", 0.0, 0.0)] * examples
    order = np.argsort(start_logits[:, 0] + end_logits[:, 0], kind="stable")
    owners, first = np.unique(features.example_index[order], return_index=True)
    row = order[first]
    for index, *logits in zip(owners.tolist(), start_logits[row, 0].tolist(), end_logits[row, 0].tolist()):
        nulls[index] = Entry("", *logits)
    return nulls


def _spans(
    index: int, example: Example, rows: _Rows, candidates: _Candidates, texts: AnswerText
) -> Iterator[Entry]:
    """Yield an example's candidates as text, best first, each text once."""
    seen = set()
    here = slice(candidates.bounds[index], candidates.bounds[index + 1])
    columns = (column[here].tolist() for column in candidates.columns)
    for row, start, end, first, last, start_logit, end_logit in zip(*columns):
        if rows.token_of_word is not None and example.word_places is not None:
            number, other = rows.token_of_word[row, [start, end]].tolist()
            text, *place = texts.cut(example, (first, number), (last, other))
        else:
            tokens = rows.input_ids[row, start : end + 1].tolist()
            text, *place = texts.find(tokens, example, first, last)
        if text not in seen:
            seen.add(text)
            yield Entry(text, start_logit, end_logit, *place)


def _with_null(spans: Iterator[Entry], null: Entry) -> Iterator[Entry]:
    """Insert the null entry among the spans: after those that score as much or more."""
    score = null.start_logit + null.end_logit
    waiting = True
    for entry in spans:
        if waiting and entry.start_logit + entry.end_logit < score:
            waiting = False
            yield null
        yield entry
    if waiting:
        yield null


def _ranked(spans: Iterator[Entry], null: Entry, options: Options) -> Ranked:
    """Choose the n-best of one question."""
    if not options.version_2_with_negative:
        nbest = list(islice(spans, options.n_best_size))
        return Ranked(nbest or [Entry("empty", 0.0, 0.0)], nbest[0] if nbest else None, None)
    ranked = _with_null(spans, null)
    nbest = list(islice(ranked, options.n_best_size))
    best = next((entry for entry in chain(nbest, ranked) if entry.text), None)
    if null not in nbest:
        nbest.append(null)
    odds = null.start_logit + null.end_logit
    if best is not None:
        odds = odds - best.start_logit - best.end_logit
    return Ranked(nbest, best, odds)


def _add(qas_id: str, answer: Ranked, options: Options, result: Answers) -> None:
    """Add one question's answer to what is written."""
    result.nbest[qas_id] = _with_probabilities(answer.entries)
    if answer.odds is None:
        result.predictions[qas_id] = result.predictions.best[qas_id] = answer.entries[0].text
        return
    result.null_odds[qas_id] = answer.odds
    text = result.predictions.best[qas_id] = answer.best.text if answer.best else ""
    result.predictions[qas_id] = "" if answer.odds > options.null_score_diff_threshold else text


def probabilities(nbest: Sequence[Entry]) -> list[float]:
    """Turn scores into probabilities by a softmax over the n-best."""
    scores = [entry.start_logit + entry.end_logit for entry in nbest]
    powers = [math.exp(score - max(scores)) for score in scores]
    total = reduce(add, powers)  # from Python 3.12 on, sum() has other last digits
    return [power / total for power in powers]


def _with_probabilities(nbest: Sequence[Entry]) -> list[dict[str, Any]]:
    return [
        {
            "text": entry.text,
            "probability": probability,
            "start_logit": entry.start_logit,
            "end_logit": entry.end_logit,
        }
        for entry, probability in zip(nbest, probabilities(nbest))
    ]
