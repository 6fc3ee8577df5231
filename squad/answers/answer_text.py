"""Turn a span of tokens back into the words of the passage.

A span of tokens may begin or end inside a word ("Smith" of "Smith's") and has lost case and accents. The
rule of google-research/bert: find the tokens' text in the normalised words, then count the characters
other than spaces to find it in the words as written; if that fails, take the whole words.
"""

from __future__ import annotations

import unicodedata
from bisect import bisect_right
from itertools import accumulate
from typing import TYPE_CHECKING, Callable, Dict, Mapping, Sequence

from squad.data.token_places import TokenPlaces
from squad.data.tokenizer import basic_tokens
from squad.data.words import word_places

if TYPE_CHECKING:
    from squad.data.examples import Example

Log = Callable[[str], None]


class AnswerText:
    """The text of token spans. Each word is normalised once, as the spans of a passage share words."""

    def __init__(
        self,
        vocab: Mapping[str, int],
        do_lower_case: bool = True,
        log: Log | None = None,
        strip_accents: bool | None = None,
        tokenize_chinese_chars: bool = True,
    ) -> None:
        self._tokens = {index: token for token, index in vocab.items()}
        self._log = log
        self._normalised = _Normalised(do_lower_case, strip_accents, tokenize_chinese_chars)
        self.strips = do_lower_case if strip_accents is None else strip_accents
        self._token_places = TokenPlaces(vocab, (do_lower_case, strip_accents, tokenize_chinese_chars))
        self._places: tuple[str, list[int]] = ("", [])  # of the words of the last context

    def text(self, token_ids: Sequence[int], words: Sequence[str]) -> str:
        """Return the part of `words` that the tokens represent, as written in the passage."""
        start, end = self._place(token_ids, words)
        return " ".join(words)[start:end]

    def find(self, token_ids: Sequence[int], example: Example, first: int, last: int) -> tuple[str, int, int]:
        """Find the text of tokens of the words first..last, and its place in the context: (text, start, end).

        The text has single spaces between its words, whatever the context has there.
        """
        words = example.doc_tokens[first : last + 1]
        start, end = self._place(token_ids, words)
        begins = [0, *accumulate(len(word) + 1 for word in words)]
        before, behind = bisect_right(begins, start) - 1, bisect_right(begins, max(start, end - 1)) - 1
        places = self._word_places(example.context)[first:]
        text = " ".join(words)[start:end]
        return text, places[before] + start - begins[before], places[behind] + end - begins[behind]

    def cut(self, example: Example, first: tuple[int, int], last: tuple[int, int]) -> tuple[str, int, int]:
        """Cut an answer out of its context: (text, start, end).

        first, last: its first and last token, each by word and by number in the word.
        """
        places = example.word_places or []
        start, end = (
            places[word] + self._token_places[example.doc_tokens[word]][token][side]
            for side, (word, token) in enumerate((first, last))
        )
        if self.strips:
            end = _with_accents(example.context, end - 1)
        return example.context[start:end], start, end

    def _word_places(self, context: str) -> list[int]:
        if self._places[0] != context:
            self._places = (context, word_places(context))
        return self._places[1]

    def _place(self, token_ids: Sequence[int], words: Sequence[str]) -> tuple[int, int]:
        written = " ".join(words)
        normalised = " ".join(filter(None, map(self._normalised.__getitem__, words)))
        return locate(self._join(token_ids), normalised, written, self._log, self._normalised.letters)

    def _join(self, token_ids: Sequence[int]) -> str:
        text = " ".join([self._tokens[index] for index in token_ids])
        return " ".join(text.replace(" ##", "").replace("##", "").split())


class _Normalised(Dict[str, str]):
    """The basic tokens of each word. White space always ends a token, so words can be taken one by one."""

    def __init__(self, do_lower_case: bool, strip_accents: bool | None, chinese: bool) -> None:
        super().__init__()
        self._rules = (do_lower_case, strip_accents, chinese)  # of basic_tokens

    def __missing__(self, word: str) -> str:
        value = self[word] = " ".join(basic_tokens(word, *self._rules))
        return value

    def letters(self, char: str) -> int:
        """Count the characters that one character of a word becomes; the spaces beside it do not count."""
        value = self[char]
        return len(value) - value.count(" ")


def align(
    predicted: str,
    normalised: str,
    written: str,
    log: Log | None = None,
    letters: Callable[[str], int] | None = None,
) -> str:
    """Cut out of `written` what `locate` finds."""
    start, end = locate(predicted, normalised, written, log, letters)
    return written[start:end]


def locate(
    predicted: str,
    normalised: str,
    written: str,
    log: Log | None = None,
    letters: Callable[[str], int] | None = None,
) -> tuple[int, int]:
    """Find `predicted` in `normalised`, and the same characters in `written`: their start and end.

    If they cannot be aligned, these are of all of `written`, and `log` gets the reason. With `letters`, how
    many characters each one becomes, texts that normalising has made longer or shorter can be aligned too:
    with zero-width characters, no-break spaces, separate accents, or Hangul, of which google-research/bert
    returns all words.
    """
    start = normalised.find(predicted)
    before = start - normalised.count(" ", 0, start)
    last = before + len(predicted) - predicted.count(" ") - 1
    solid = len(normalised) - normalised.count(" ")
    problem = ""
    if start < 0:
        problem = f"Unable to find text: '{predicted}' in '{written}'"
    elif solid != len(written) - written.count(" "):
        places = _places(written, letters) if letters and predicted else []
        if len(places) == solid and solid:
            return places[before], _with_accents(written, places[last])
        texts = [text.replace(" ", "") for text in (written, normalised)]
        problem = f"Length not equal after stripping spaces: '{texts[0]}' vs '{texts[1]}'"
    elif not predicted:
        problem = "Couldn't map end position"
    if problem:
        if log:
            log(problem)
        return 0, len(written)
    return _solid(written, before), _solid(written, last) + 1


def _places(written: str, letters: Callable[[str], int]) -> list[int]:
    """Find, for each character of the normalised text other than spaces, the character that it came from."""
    return [place for place, char in enumerate(written) if char != " " for _ in range(letters(char))]


def _with_accents(written: str, last: int) -> int:
    """Find the end of a character with the combining accents that follow it."""
    end = last + 1
    while written[end : end + 1] and unicodedata.category(written[end]) == "Mn":
        end += 1
    return end


def _solid(text: str, number: int) -> int:
    """Find the place of the character of that number, from 0, if spaces are not counted."""
    place = number
    while True:
        lacking = number - place + text.count(" ", 0, place + 1)
        if not lacking:
            return place
        place += lacking  # never too far, as each step counts every character as solid
