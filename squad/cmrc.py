"""Score answers as CMRC 2018 does: by characters, and by the longest run that answer and reference share.

The rules are those of cmrc2018_evaluate.py, version 6 (github.com/ymcui/cmrc2018), as its code has them:
- Both texts are lower-cased, and 32 marks, most of them full-width, are removed.
- Exact match compares what is left as it is, with its ASCII marks and spaces.
- For F1, each character from U+4E00 to U+9FA5 is a segment, and what stands between them is divided into
  words. Other scripts (kana, Hangul, rare characters) are divided at spaces alone.
- F1 is that of the longest run of segments, without gaps, that the two share: what the script calls lcs is
  the longest common substring, not the subsequence.

The script divides words by nltk's word_tokenize; `words` says where this differs. In CMRC's dev
and trial files those were 6 of 23,394 texts; versions of nltk differ more (3.10 divides words at dashes, 3.9
does not). A question without an answer, for which CMRC has no rule, is right if the prediction is empty, as
in SQuAD 2.0.
"""

from __future__ import annotations

import re
from typing import Dict, Iterator, List, Mapping, Sequence

from squad.data.questions import Question

# The script lists "……", too, but compares it with single characters, so it stays.
_MARKS = "-:_*^/\\~`+=，。：？！“”；’《》·、「」（）－～『』"
_NO_MARKS = dict.fromkeys(map(ord, _MARKS))
_RUNS = re.compile("[\u4e00-\u9fa5]|[^\u4e00-\u9fa5]+")
_ALONE = r";@#$%&?!\[\](){}<>«»„‘–—\""  # marks that are always words of their own
_PIECES = re.compile(rf"\.\.+|''|[{_ALONE}]|,(?!\d)|^'(?=\w\w)|(?:[^{_ALONE}.,']|,(?=\d)|\.(?!\.)|'(?!'))+")
_LAST_PERIOD = re.compile(r"(?<![.\s])\.(?=[\])}>\"'»]*$)")
_CONTRACTED = re.compile(r"(?<=[^'])(?:n't|'(?:s|m|d|ll|re|ve)?)$")
_TWO_WORDS = {
    "cannot": 3, "gonna": 3, "gotta": 3, "wanna": 3, "gimme": 3, "lemme": 3,
}  # fmt: skip
_ABBREVIATIONS = frozenset(
    "mr mrs ms dr st jr sr prof gen col lt co corp inc ltd bros vs ph.d a.m p.m a.d u.s u.k u.n d.c"
    " jan feb aug sept oct nov dec".split()
)


def words(text: str) -> Iterator[str]:
    """Divide a lower-case text without Chinese as nltk's word_tokenize does, but for its model of sentences.

    White space separates words. Marks are words of their own, except a comma between digits and a period
    inside a word; "don't" is "do", "n't". A period that ends the text or a sentence is cut off. Whether one
    before a space ends a sentence nltk decides by its model; here it does, except after _ABBREVIATIONS, a
    single letter or a number.
    """
    chunks = text.split()
    for place, chunk in enumerate(chunks, 1):
        period = _LAST_PERIOD.search(chunk)
        if period and (place == len(chunks) or _ends_sentence(chunk[: period.start()])):
            yield from _pieces(chunk[: period.start()], place == 1)
            yield "."
            chunk = chunk[period.end() :]
            yield from ("''" if piece == '"' else piece for piece in chunk)
        else:
            yield from _pieces(chunk, place == 1)


def _ends_sentence(word: str) -> bool:
    """Tell whether a period after this word, before a space, ends a sentence."""
    word = re.split(r"[(\[{<\"']", word)[-1]
    short = len(word) == 1 and word.isalpha()
    number = word.replace(",", "").isdigit()
    return not (word in _ABBREVIATIONS or short or number)


def _pieces(chunk: str, first: bool) -> Iterator[str]:
    """Divide what stands between two spaces, or at the start of the text."""
    for found in _PIECES.finditer(chunk):
        piece, start = found.group(), found.start()
        if piece in ('"', "''"):
            opens = start == 0 or chunk[start - 1] in "([{<" or (first and start == 1 and chunk[0] == '"')
            yield "``" if opens else "''"
            continue
        cut = _CONTRACTED.search(piece)
        at = cut.start() if cut else _TWO_WORDS.get(piece, 0)
        yield from (piece[:at], piece[at:]) if at else (piece,)


def segments(text: str) -> list[str]:
    """Divide an answer into what F1 counts: Chinese characters, and the words between them."""
    found: list[str] = []
    for run in _RUNS.findall(text.lower().strip().translate(_NO_MARKS)):
        if "\u4e00" <= run <= "\u9fa5":
            found.append(run)
        else:
            found.extend(words(run))
    return found


def longest_run(first: Sequence[str], second: Sequence[str]) -> int:
    """Count the segments of the longest run, without gaps, that is in both.

    Segments become characters, as the search for a text in a text runs at the speed of memory.
    """
    ids: dict[str, int] = {}
    one, other = ("".join(chr(ids.setdefault(part, len(ids))) for part in parts) for parts in (first, second))
    best = 0
    for start in range(len(one)):
        while start + best < len(one) and one[start : start + best + 1] in other:
            best += 1
    return best


class _Texts(Dict[str, List[str]]):
    """The segments of each text, divided once."""

    def __missing__(self, text: str) -> list[str]:
        value = self[text] = segments(text)
        return value


def f1_score(reference: Sequence[str], predicted: Sequence[str]) -> float:
    """Compute the harmonic mean of precision and recall of the longest common run of segments."""
    same = longest_run(reference, predicted)
    if not same:
        return 0.0
    precision, recall = 1.0 * same / len(predicted), 1.0 * same / len(reference)
    return (2 * precision * recall) / (precision + recall)


def _plain(text: str) -> str:
    return text.lower().strip().translate(_NO_MARKS)


def score(
    questions: Sequence[Question], predictions: Mapping[str, str]
) -> tuple[dict[str, float], dict[str, float]]:
    """Score each question by its best reference: (exact match, F1), 0 to 1 by id; 0 without a prediction."""
    texts = _Texts()
    exact: dict[str, float] = {}
    f1: dict[str, float] = {}
    for question in questions:
        predicted = predictions.get(question.id)
        references = [answer.text for answer in question.answers or ()]
        if predicted is None or not references:
            exact[question.id] = f1[question.id] = float(predicted == "" and not references)
            continue
        plain = _plain(predicted)
        exact[question.id] = float(any(_plain(reference) == plain for reference in references))
        f1[question.id] = max(f1_score(texts[reference], texts[predicted]) for reference in references)
    return exact, f1
