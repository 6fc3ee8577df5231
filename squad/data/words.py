"""White space, words, and the words of an answer: the one definition for training, features and prediction.

White space is what google-research/bert's run_squad.py takes for it (is_whitespace): space, tab, carriage
return, line feed and U+202F. All else, such as the no-break space U+00A0, the ideographic space U+3000 and
the zero-width characters, stays inside a word; BERT's tokenizer divides words further or drops it.
"""

from __future__ import annotations

import re
from bisect import bisect_right

SPACES = " \t\r\n\u202f"
_WORD = re.compile(f"[^{SPACES}]+")


def split_words(context: str) -> list[str]:
    """Split a text into words."""
    if _has_rare_space(context):
        return _WORD.findall(context)
    return list(filter(None, context.split(" ")))


def word_places(context: str) -> list[int]:
    """List the places, in characters, at which the words of a text begin."""
    return [word.start() for word in _WORD.finditer(context)]


def _has_rare_space(text: str) -> bool:
    return "\n" in text or "\t" in text or "\r" in text or "\u202f" in text


class Passage:
    """A context and its words."""

    places: list[int] | None = None  # as answers are known by their words

    def __init__(self, context: str) -> None:
        self.context = context
        self._starts: list[int] | None = None
        self.words = context.split(" ")
        # If single spaces alone separate the words, counting spaces finds a character's word.
        self._simple = "" not in self.words and not _has_rare_space(context)
        if not self._simple:
            self.words = split_words(context)

    def find(self, text: str, start: int) -> tuple[int, int] | None:
        """Find the words (first, last) of an answer; None if the text at its offset is another.

        An answer of white space alone gets the word before it, and one whose words are among those at its
        offset gets these, as in google-research/bert; the place -1 is before the first word.
        """
        end = start + len(text)
        if start < 0 or end > len(self.context):
            return None
        if self.context.startswith(text, start) and text.strip(SPACES):
            start += len(text) - len(text.lstrip(SPACES))
            if self._simple:
                first = self.context.count(" ", 0, start)
                return first, first + self.context.count(" ", start, end - 1)
            return self._word_at(start), self._word_at(end - 1)
        first, last = self._word_at(start), self._word_at(end - 1)
        if " ".join(text.split()) in " ".join(self.words[first : last + 1]):
            return first, last
        return self._spaced_otherwise(text, start)

    def before(self, text: str, start: int) -> str:
        """Return what stands before an answer in its first word; "" if the answer is not at its offset."""
        start += len(text) - len(text.lstrip(SPACES))
        if not start or self.context[start - 1] in SPACES:
            return ""
        if not self.context.startswith(text.strip(SPACES), start):
            return ""
        return self.context[max(self.context.rfind(space, 0, start) for space in SPACES) + 1 : start]

    def _spaced_otherwise(self, text: str, start: int) -> tuple[int, int] | None:
        """Find an answer that differs from the passage in nothing but the width and kind of its spaces."""
        words = text.split()
        if not words or text[0].isspace():
            return None
        found = re.compile(r"\s+".join(map(re.escape, words))).match(self.context, start)
        return (self._word_at(start), self._word_at(found.end() - 1)) if found else None

    def _word_at(self, char: int) -> int:
        """Find the word of a character; a space belongs to the word before it, -1 before the first one."""
        if char < 0:  # an empty answer at the beginning: google-research/bert then counts from the end
            char += len(self.context)
        if self._simple:
            return self.context.count(" ", 0, char)
        if self._starts is None:
            self._starts = word_places(self.context)
        return bisect_right(self._starts, char) - 1
