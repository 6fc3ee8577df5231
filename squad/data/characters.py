"""Passages in scripts that do not divide words by spaces: answers are known by their characters.

google-research/bert knows an answer by the words that hold it, and a Chinese sentence is one such word; it
finds the answer's text in them again, and gives up if normalising has changed any of their characters. Here
a word ends at white space and at each Chinese character, as in BERT's tokenizer, so the tokens are the same;
an answer is the characters from its first token's first one to its last token's last one.
"""

from __future__ import annotations

import re
from bisect import bisect_right
from typing import Any, Iterable, Iterator, NamedTuple

from squad.data.tokenizer import CJK

SHARE = 0.25  # of characters in such scripts from which on a file is divided so
_SPACE = " \t\n\r\u00a0\u1680\u2000-\u200a\u2028\u2029\u202f\u205f\u3000"  # what the tokenizer takes for it
_SCRIPTS = (  # Thai, Lao, Tibetan, Burmese; Hangul; Khmer; kana, Bopomofo, Hangul; half-width kana
    "\u0e00-\u109f\u1100-\u11ff\u1780-\u17ff\u3005-\u3007\u3041-\u31ff\uac00-\ud7ff\uff66-\uffdc"
)
_CJK = "".join(f"{chr(low)}-{chr(high)}" for low, high in CJK)
_UNSPACED = re.compile(f"[{_CJK}{_SCRIPTS}]+")
_PERHAPS = re.compile("[\u0e00-\u1fff\u3000-\U0010ffff]")  # is looked for much faster
_DIVIDED = re.compile(f"[{_CJK}]|[^{_CJK}{_SPACE}]+")
_WHOLE = re.compile(f"[^{_SPACE}]+")


class CharacterPassage:
    """A context, its words, and the places, in characters, at which they begin.

    divide: whether words end at Chinese characters too (the tokenizer's tokenize_chinese_chars).
    """

    def __init__(self, context: str, divide: bool = True) -> None:
        self.context = context
        found = list((_DIVIDED if divide else _WHOLE).finditer(context))
        self.words = [word.group() for word in found]
        self.places = [word.start() for word in found]

    def find(self, text: str, start: int) -> tuple[int, int] | None:
        """Find the characters of an answer: start and end; None if there is no such text at its offset.

        As google-research/bert does for words with spaces, a text is accepted that stands there with other
        white space, or close by: at a place that overlaps the given one, the nearest.
        """
        if not text.strip():
            return None
        if 0 <= start and self.context.startswith(text, start):
            return start, start + len(text)
        pattern = re.compile(r"\s+".join(map(re.escape, text.split())))
        reach = len(text) - 1
        found = [
            match
            for match in pattern.finditer(self.context, max(0, start - reach))
            if match.start() <= start + reach
        ]
        if start < 0 or not found:
            return None
        nearest = min(found, key=lambda match: abs(match.start() - start))
        return nearest.span()

    def word_at(self, char: int) -> int:
        """Find the word of a character; a space belongs to the word before it, or to the first one."""
        return max(0, bisect_right(self.places, char) - 1)


class Choice(NamedTuple):
    """The rule for a file's words, "google" or "cjk", and the share of characters that decided it."""

    split: str
    share: float

    def __str__(self) -> str:
        held = f"{100 * self.share:.1f} % of the characters of its passages"
        return (
            f"word_split {self.split}: {held} are Chinese, Japanese, Korean, Thai or the like"
            f" (cjk from {100 * SHARE:.0f} %)"
        )


def choose(document: Any) -> Choice:
    """Choose the rule for the passages of a parsed file."""
    return choose_for(_contexts(document))


def choose_for(contexts: Iterable[str]) -> Choice:
    """Choose the rule for passages: by characters if those of scripts without spaces are many."""
    characters = unspaced = 0
    for context in contexts:
        characters += len(context)
        if not context.isascii() and _PERHAPS.search(context):
            unspaced += sum(map(len, _UNSPACED.findall(context)))
    share = unspaced / characters if characters else 0.0
    return Choice("cjk" if share >= SHARE else "google", share)


def _contexts(node: Any) -> Iterator[str]:
    """Yield the contexts of a file of any layout; what is wrong in it is left to the reader."""
    if isinstance(node, list):
        for item in node:
            yield from _contexts(item)
    elif isinstance(node, dict):
        context = node.get("context", node.get("context_text"))  # the latter in CMRC's own layout
        if isinstance(context, str):
            yield context
        else:
            yield from _contexts(node.get("data") or node.get("paragraphs"))
