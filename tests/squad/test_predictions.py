"""Predictions, against a slow and plain statement of google-research/bert's rules."""

from __future__ import annotations

import json
import math
import unicodedata
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from squad.answers.answer_text import AnswerText, align
from squad.answers.nbest import Answers, Options, find_answers, rank, write_files
from squad.answers.predictions import Predictions
from squad.data.examples import Example
from squad.data.squad_file import load_json
from squad.data.tokenizer import basic_tokens
from squad.data.words import split_words
from squad.errors import DataError

VOCAB = [
    "[PAD]",
    "[UNK]",
    "[CLS]",
    "[SEP]",
    "the",
    "smith",
    "##s",
    "'",
    "s",
    "old",
    "cafe",
    "house",
    ",",
    "12",
]
IDS = {token: index for index, token in enumerate(VOCAB)}
WORDS = {  # word of a passage -> its tokens
    "The": ["the"],
    "Smiths": ["smith", "##s"],
    "Smith's": ["smith", "'", "s"],
    "café,": ["cafe", ","],
    "OLD": ["old"],
    "house": ["house"],
    "12": ["12"],
    "☃x": ["[UNK]"],
    "\u200bold": ["old"],
}


class World:
    """Hold examples and features made of words and windows, with random or given logits."""

    def __init__(self, passages: list[list[str]], window: int, stride: int, query: int = 2) -> None:
        self.examples, rows = [], []
        for index, words in enumerate(passages):
            self.examples.append(Example(f"q{index}", "", words, context=" ".join(words)))
            tokens = [(token, w) for w, word in enumerate(words) for token in WORDS[word]]
            starts = list(range(0, max(1, len(tokens) - window + stride), stride)) if tokens else []
            for start in starts:
                rows.append((index, tokens[start : start + window], start, len(tokens), starts, window))
        self.length = query + 3 + window
        shape = (len(rows), self.length)
        ids, maps, best = (np.full(shape, v, np.int32) for v in (0, -1, -1))
        for r, (_, tokens, start, total, starts, size) in enumerate(rows):
            ids[r, : query + 2] = [2] + [9] * query + [3]
            for t, (token, word) in enumerate(tokens):
                ids[r, query + 2 + t], maps[r, query + 2 + t] = IDS[token], word
                best[r, query + 2 + t] = _is_max_context(starts, size, total, start, start + t)
            ids[r, query + 2 + len(tokens)] = 3
        owners = np.array([row[0] for row in rows], np.int32)
        self.features = SimpleNamespace(
            example_index=owners, input_ids=ids, token_to_orig_map=maps, token_is_max_context=best,
            token_of_word=None
        )

    def logits(self, seed: int, levels: int) -> tuple[np.ndarray, np.ndarray]:
        """Draw logits of few levels, so that ties are common."""
        random = np.random.RandomState(seed)
        size = self.features.input_ids.shape
        pair = random.randint(-levels, levels + 1, (2, *size)).astype(np.float32) / 4
        return pair[0], pair[1]


def _is_max_context(starts: list[int], size: int, total: int, start: int, place: int) -> int:
    def context(begin: int) -> float:
        end = min(begin + size, total)
        if not begin <= place < end:
            return -1.0
        return min(place - begin, end - 1 - place) + 0.01 * (end - begin)

    return int(max(starts, key=context) == start)


def reference(world: World, start: np.ndarray, end: np.ndarray, options: Options) -> Answers:
    """State the rules one span at a time."""
    result = Answers({}, {}, {})
    for index, example in enumerate(world.examples):
        rows = np.flatnonzero(world.features.example_index == index)
        spans: list[tuple[float, int, Any, Any]] = []
        for row in rows:
            for s in sorted(range(world.length), key=lambda c: -start[row, c])[: options.n_best_size]:
                for e in sorted(range(world.length), key=lambda c: -end[row, c])[: options.n_best_size]:
                    if _allowed(world.features, row, s, e, options.max_answer_length):
                        spans.append((float(start[row, s]), float(end[row, e]), row, (s, e)))
        nulls = [(float(start[row, 0]), float(end[row, 0])) for row in rows]
        null = min(nulls, key=sum) if nulls else (0.0, 0.0)
        if options.version_2_with_negative:
            spans.append((*null, None, None))
        entries: dict[str, tuple[float, float]] = {}
        for first, second, row, span in sorted(spans, key=lambda x: -(x[0] + x[1])):
            text = "" if span is None else _text(world, example, row, *span)
            entries.setdefault(text, (first, second))
        _collect(result, example.qas_id, entries, null, options)
    return result


def _allowed(features: Any, row: int, s: int, e: int, longest: int) -> bool:
    inside = features.token_to_orig_map[row, s] >= 0 and features.token_to_orig_map[row, e] >= 0
    return inside and features.token_is_max_context[row, s] == 1 and 0 <= e - s < longest


def _text(world: World, example: Any, row: int, s: int, e: int) -> str:
    tokens = [VOCAB[i] for i in world.features.input_ids[row, s : e + 1]]
    predicted = " ".join(tokens).replace(" ##", "").replace("##", "").strip()
    words = example.doc_tokens[world.features.token_to_orig_map[row, s] :]
    count = world.features.token_to_orig_map[row, e] - world.features.token_to_orig_map[row, s] + 1
    return slow_align(predicted, " ".join(words[:count]))


def slow_align(predicted: str, written: str) -> str:
    """Walk both texts character by character."""
    normalised = " ".join(basic_tokens(written))
    at = normalised.find(predicted)
    solid = [i for i, c in enumerate(written) if c != " "]
    solid_normalised = [i for i, c in enumerate(normalised) if c != " "]
    if len(solid) != len(solid_normalised):  # one by one, as many as each becomes
        solid = [i for i in solid for token in basic_tokens(written[i]) for _ in token]
    if at < 0 or len(solid) != len(solid_normalised) or not predicted:
        return written
    first = solid_normalised.index(at)
    last = solid[solid_normalised.index(at + len(predicted) - 1)] + 1
    if len(solid) != len(written) - written.count(" "):
        while last < len(written) and unicodedata.category(written[last]) == "Mn":
            last += 1
    return written[solid[first] : last]


def _collect(result: Answers, key: str, entries: Any, null: Any, options: Options) -> None:
    best = next((item for item in entries.items() if item[0]), None)
    nbest = list(entries.items())[: options.n_best_size]
    if options.version_2_with_negative and "" not in dict(nbest):
        nbest.append(("", null))
    nbest = nbest or [("empty", (0.0, 0.0))]
    powers = [math.exp(sum(logits) - max(sum(x) for _, x in nbest)) for _, logits in nbest]
    total = 0.0
    for power in powers:  # one by one: from Python 3.12 on, sum() has other last digits
        total += power
    result.nbest[key] = [
        {"text": text, "probability": power / total, "start_logit": a, "end_logit": b}
        for (text, (a, b)), power in zip(nbest, powers)
    ]
    result.predictions[key] = nbest[0][0]
    if options.version_2_with_negative:
        odds = sum(null) - (sum(best[1]) if best else 0.0)
        result.null_odds[key] = odds
        result.predictions[key] = best[0] if best and odds <= options.null_score_diff_threshold else ""


def answer(world: World, start: np.ndarray, end: np.ndarray, **options: Any) -> Answers:
    return find_answers(world.examples, world.features, start, end, AnswerText(IDS), Options(**options))


passages = st.lists(st.lists(st.sampled_from(sorted(WORDS)), max_size=12), min_size=1, max_size=4)


@settings(max_examples=300, deadline=None)
@given(
    passages=passages,
    window=st.integers(1, 9),
    stride=st.integers(1, 4),
    seed=st.integers(0, 99),
    levels=st.integers(0, 20),
    n_best=st.integers(1, 25),
    longest=st.integers(1, 6),
    negative=st.booleans(),
    threshold=st.sampled_from([-1.0, 0.0, 2.0]),
)
def test_equals_the_plain_rules(
    passages: Any, window: int, stride: int, seed: int, levels: int, n_best: int, longest: int,
    negative: bool, threshold: float,
) -> None:  # fmt: skip
    world = World(passages, window, min(stride, window))
    start, end = world.logits(seed, levels)
    options = Options(n_best, longest, negative, threshold)
    found = find_answers(world.examples, world.features, start, end, AnswerText(IDS), options)
    assert found == reference(world, start, end, options)


def peak(world: World, *places: tuple[int, int, int, float]) -> tuple[np.ndarray, np.ndarray]:
    """Make flat logits with spans (row, first column, last column, logit) standing out."""
    start = np.full(world.features.input_ids.shape, -5, np.float32)
    end = start.copy()
    for row, first, last, value in places:
        start[row, first] = end[row, last] = value
    return start, end


def test_cuts_the_answer_out_of_its_words_as_written() -> None:
    world = World([["The", "Smith's", "café,", "OLD", "house"]], 10, 5)
    columns = {token: column for column, token in enumerate(world.features.input_ids[0])}
    assert _single(world, columns[IDS["smith"]], columns[IDS["smith"]]) == "Smith"
    assert _single(world, columns[IDS["smith"]], columns[IDS["cafe"]]) == "Smith's café"
    assert _single(world, columns[IDS[","]], columns[IDS["house"]]) == ", OLD house"


def _single(world: World, first: int, last: int) -> str:
    return answer(world, *peak(world, (0, first, last, 9))).predictions["q0"]


@pytest.mark.parametrize(
    ("context", "first", "last", "text"),
    [
        ("The  Smith's\ncafé, OLD", "smith", "cafe", "Smith's\ncafé"),
        ("\n The Smith's", "'", "s", "'s"),
        ("The café,\t\u200bold  house", ",", "old", ",\t\u200bold"),
        ("OLD ☃x  house", "[UNK]", "house", "☃x  house"),
    ],
)
def test_an_entry_knows_its_place_in_the_context(context: str, first: str, last: str, text: str) -> None:
    world = World([split_words(context)], 10, 5)
    world.examples[0] = world.examples[0]._replace(context=context)
    columns = {token: column for column, token in enumerate(world.features.input_ids[0])}
    logits = peak(world, (0, columns[IDS[first]], columns[IDS[last]], 9))
    (answer,) = rank(world.examples, world.features, *logits, AnswerText(IDS), Options(1, 30, True))
    assert context[answer.entries[0].start : answer.entries[0].end] == text
    assert answer.entries[0].text == " ".join(text.split())
    assert answer.entries[-1][3:] == (-1, -1)  # no answer


def test_takes_whole_words_and_says_why_when_texts_do_not_align() -> None:
    said: list[str] = []
    assert align("[UNK]", "☃x", "☃x", said.append) == "☃x"
    assert align("old", "old", "\u200bold", said.append) == "\u200bold"
    assert align("", "old", "OLD", said.append) == "OLD"
    assert [line.split(":")[0] for line in said] == [
        "Unable to find text",
        "Length not equal after stripping spaces",
        "Couldn't map end position",
    ]


def letters(char: str) -> int:
    return len("".join(basic_tokens(char)))


@given(st.lists(st.text(min_size=1, max_size=6), min_size=1, max_size=4), st.data())
def test_alignment_equals_the_character_walk(words: list[str], data: Any) -> None:
    written = " ".join(words)
    normalised = " ".join(basic_tokens(written))
    tokens = normalised.split(" ")
    first = data.draw(st.integers(0, len(tokens) - 1))
    last = data.draw(st.integers(first, len(tokens) - 1))
    predicted = " ".join(tokens[first : last + 1])
    assert align(predicted, normalised, written, None, letters) == slow_align(predicted, written)


@pytest.mark.parametrize(
    ("written", "predicted", "text"),
    [
        ("\u200bold house", "old", "old"),
        ("an \ufeffold\u200b house", "old house", "old\u200b house"),
        ("42\u00a0000 euros", "000", "000"),
        ("cafe\u0301s, old", "cafes", "cafe\u0301s"),
        ("cafe\u0301, old", "cafe", "cafe\u0301"),
        ("한국어를 말", unicodedata.normalize("NFD", "국어"), "국어"),
    ],
)
def test_a_character_that_becomes_none_or_several_costs_itself_alone(
    written: str, predicted: str, text: str
) -> None:
    normalised = " ".join(basic_tokens(written))
    assert align(predicted, normalised, written) == written  # google-research/bert's rule
    assert align(predicted, normalised, written, None, letters) == text


def test_no_answer_wins_only_above_the_threshold() -> None:
    world = World([["OLD", "house"]], 4, 2)
    start, end = peak(world, (0, 0, 0, 2), (0, 4, 4, 1))
    assert answer(world, start, end, version_2_with_negative=True).predictions == {"q0": ""}
    kept = answer(world, start, end, version_2_with_negative=True, null_score_diff_threshold=2.0)
    assert kept.predictions == {"q0": "OLD"}
    assert kept.null_odds == {"q0": 2.0}


def test_the_feature_with_the_lowest_null_score_decides() -> None:
    world = World([["OLD", "house", "12", "The"]], 2, 2)
    start, end = peak(world, (0, 0, 0, 3), (1, 0, 0, 1), (0, 4, 4, 2))
    found = answer(world, start, end, version_2_with_negative=True)
    assert found.null_odds == {"q0": -2.0}
    assert found.predictions == {"q0": "OLD"}


def test_one_best_of_size_one_does_not_crash_when_the_null_span_leads() -> None:
    world = World([["OLD", "house"]], 4, 2)
    start, end = peak(world, (0, 0, 0, 2), (0, 4, 4, 1))
    found = answer(world, start, end, version_2_with_negative=True, n_best_size=1, max_answer_length=30)
    assert found.predictions == {"q0": ""}
    # With one candidate a side, only the null column was looked at: no answer to compare with.
    assert found.null_odds == {"q0": 4.0}
    assert [entry["text"] for entry in found.nbest["q0"]] == [""]


def test_the_best_answer_below_the_n_best_still_gives_the_odds() -> None:
    world = World([["OLD", "house"], ["12"]], 4, 2)
    start, end = peak(world, (0, 4, 4, 1), (1, 4, 4, 1))
    start[:, 0] = end[:, 0] = 0.5
    start[0, 0], end[0, 0] = 0.9, 1.4  # the null span scores more than the span, as start and end differ
    found = answer(world, start, end, version_2_with_negative=True, n_best_size=2)
    assert found.null_odds["q0"] == pytest.approx(0.3)


def test_a_passage_without_tokens_is_answered_with_nothing() -> None:
    world = World([["OLD"], []], 4, 2)
    start, end = world.logits(1, 9)
    assert answer(world, start, end, version_2_with_negative=True).predictions["q1"] == ""
    assert answer(world, start, end).predictions["q1"] == "empty"


def test_a_lost_tail_is_an_error_and_no_key_error() -> None:
    world = World([["OLD"], ["house"], ["12"]], 4, 2)
    start, end = world.logits(1, 9)
    with pytest.raises(DataError, match=r"start logits have shape \(2, 9\), features \(3, 9\)"):
        answer(world, start[:2], end[:2])


def test_logits_that_are_no_numbers_are_an_error() -> None:
    world = World([["OLD"], ["house"]], 4, 2)
    start, end = world.logits(1, 9)
    end[1, 4] = np.nan
    with pytest.raises(DataError, match="1 of 2 features are nan or infinite: the model has diverged"):
        answer(world, start, end)


def test_masked_positions_may_be_minus_infinity() -> None:
    world = World([["OLD"], ["house"]], 4, 2)
    start, end = world.logits(1, 9)
    outside = world.features.token_to_orig_map < 0
    outside[:, 0] = False
    start[outside] = end[outside] = -np.inf
    assert answer(world, start, end).predictions == {"q0": "OLD", "q1": "house"}


def test_features_of_another_file_are_refused() -> None:
    world = World([["OLD"], ["house"]], 4, 2)
    start, end = world.logits(1, 9)
    with pytest.raises(DataError, match="of different files"):
        find_answers(world.examples[:1], world.features, start, end, AnswerText(IDS), Options())


def test_writes_the_three_files_as_google_does(tmp_path: Path) -> None:
    world = World([["OLD", "café,"]], 4, 2)
    start, end = world.logits(1, 9)
    found = answer(world, start, end, version_2_with_negative=True)
    paths = write_files(str(tmp_path), found, version_2_with_negative=True)
    names = [Path(path).name for path in paths]
    assert names == ["predictions.json", "nbest_predictions.json", "null_odds.json"]
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted(names)
    text = (tmp_path / "nbest_predictions.json").read_text(encoding="utf-8")
    assert text == json.dumps(found.nbest, indent=4, ensure_ascii=False) + "\n"
    assert list(json.loads(text)["q0"][0]) == ["text", "probability", "start_logit", "end_logit"]


def test_writes_no_null_odds_for_squad_1(tmp_path: Path) -> None:
    world = World([["OLD"]], 4, 2)
    paths = write_files(str(tmp_path), answer(world, *world.logits(1, 9)), version_2_with_negative=False)
    assert [Path(path).name for path in paths] == ["predictions.json", "nbest_predictions.json"]


def test_texts_are_readable_and_half_a_surrogate_pair_stops_nothing(tmp_path: Path) -> None:
    predictions = Predictions()
    predictions.update({"a": "北京 café 😀", "b": "\ud83d!"})
    nbest = {key: [{"text": text}] for key, text in predictions.items()}
    paths = write_files(str(tmp_path), Answers(predictions, nbest, {}), version_2_with_negative=False)
    text = Path(paths[0]).read_text(encoding="utf-8")
    assert '"北京 café 😀"' in text and '"\\ud83d!"' in text
    for path, held in zip(paths, (predictions, nbest)):
        assert load_json(path) == held
