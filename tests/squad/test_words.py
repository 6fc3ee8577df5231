"""Words and the words of an answer: whatever white space separates them and the answer holds."""

from __future__ import annotations

import re
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from squad.data.words import SPACES, Passage, split_words

WORDS = st.sampled_from(
    ["a", "lyon", "42\u00a0000", "b\u3000c", "\u200b", "x\u2009y", "1,5.", "\ufeffé", "\x0b"]
)
GAPS = st.sampled_from([" "] * 4 + ["\n", "  ", "\r\n", "\t", "\u202f", " \n "])
ENDS = st.sampled_from(["", "", " ", "\n"])


@st.composite
def passages(draw: Any) -> str:
    words = draw(st.lists(WORDS, min_size=1, max_size=8))
    gaps = [*draw(st.lists(GAPS, min_size=len(words) - 1, max_size=len(words) - 1)), draw(ENDS)]
    return draw(ENDS) + "".join(word + gap for word, gap in zip(words, gaps))


@given(passages(), st.data())
def test_an_answer_cut_out_of_a_passage_has_the_fewest_words_that_cover_it(text: str, data: Any) -> None:
    start = data.draw(st.integers(0, len(text) - 1))
    answer = text[start : data.draw(st.integers(start + 1, len(text)))]
    found = Passage(text).find(answer, start)
    assert found is not None
    covering = [
        number
        for number, word in enumerate(re.finditer(f"[^{SPACES}]+", text))
        if word.start() < start + len(answer) and word.end() > start
    ]
    if covering:  # else white space alone: the word before it, as in google-research/bert
        assert found == (covering[0], covering[-1])


@given(passages())
def test_words_are_what_white_space_separates(text: str) -> None:
    assert Passage(text).words == split_words(text) == re.findall(f"[^{SPACES}]+", text)


def test_words_end_at_five_kinds_of_space_only() -> None:
    words = split_words(" a\tb\nc\rd\u202fe\u00a0f\u2003g\x0bh ")
    assert words == ["a", "b", "c", "d", "e\u00a0f\u2003g\x0bh"]


@pytest.mark.parametrize(
    ("passage", "answer", "start", "words"),
    [
        # a line break and a surplus space, which cancel out when spaces are counted
        ("born in 1900\nin lyon and died  in 1950", "lyon", 16, (4, 4)),
        ("born in 1900\nin lyon and died  in 1950", "1950", 34, (8, 8)),
        ("a (lyon). b", "lyon", 3, (1, 1)),
        ("a lyon b", " lyon ", 1, (1, 1)),
        ("new \n york city", "new york", 0, (0, 1)),  # the answer's spaces were tidied
        ("new york", "new\u00a0york", 0, (0, 1)),
        ("a lyon b", "paris", 2, None),
        ("a lyon b", "lyon", 3, (1, 1)),  # among the words at its offset, as in google-research/bert
        ("a lyon b b c d", "lyon", 7, None),
        ("a lyon b", "lyon", -6, None),
        ("a lyon b", "b", 8, None),
    ],
)
def test_answers_of_each_kind(passage: str, answer: str, start: int, words: Any) -> None:
    assert Passage(passage).find(answer, start) == words
