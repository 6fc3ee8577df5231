"""An answer for people: the sentence with the answer in it, and what the model thinks of others."""

from __future__ import annotations

import re
import unicodedata
from typing import TYPE_CHECKING, Iterator

if TYPE_CHECKING:
    from squad.answerer import Answer

_MARK, _PLAIN = "\x1b[1;32m", "\x1b[0m"
_LINES = 3  # of the terminal, for a sentence
_BIDI = (
    "\u061c\u200e\u200f\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069"  # would turn the text around
)
# The end of a sentence: a mark and white space, but not after one capital letter or a title; in Chinese and
# Japanese the mark alone; or an empty line.
_END = re.compile(
    r"(?<!\b[A-Z])(?<!\bMr)(?<!\bMrs)(?<!\bDr)(?<!\bSt)[.!?][\"'”’»)\]]*(?=\s)|[。！？][」』”’）]*|(?=\n\s*\n)"
)


def show(answer: Answer, passage: str, threshold: float, columns: int = 80, color: bool = False) -> list[str]:
    """Format an answer in lines; columns: of the terminal."""
    lines = [f"  note: {note}" for note in answer.notes]
    if answer.text:
        before, after = sentence(passage, answer.start, answer.end)
        lines.append("  " + _marked(before, answer.text, after, columns * _LINES - 4, color))
    lines.append("  " + "; ".join(_facts(answer, threshold)))
    return lines


def _facts(answer: Answer, threshold: float) -> Iterator[str]:
    others = [f"{_quoted(other.text)} {_percent(other.probability)}" for other in answer.alternatives]
    following = f"next: {', '.join(others)}" if others else ""
    if answer.text:
        yield _percent(answer.probability)
        if following:
            yield following
        if answer.null_odds is not None:
            yield f"no answer: {answer.null_odds:.2f}, threshold {threshold:.6g}"
    elif answer.null_odds is None:
        yield "no answer found"
    else:
        yield f"no answer: {answer.null_odds:.2f} is above the threshold {threshold:.6g}"
        if following:
            yield following


def _percent(probability: float) -> str:
    return "< 0.1 %" if 0 < probability < 0.0005 else f"{100 * probability:.1f} %"


def _quoted(text: str) -> str:
    return f'"{clip(printable(text), 40)}"'


def sentence(passage: str, start: int, end: int) -> tuple[str, str]:
    """Find what stands before and after passage[start:end] in its sentence, or sentences."""
    first, last = 0, len(passage)
    for found in _END.finditer(passage):
        if found.end() <= start:
            first = found.end()
        elif found.end() >= end:
            last = found.end()
            break
    return passage[first:start].lstrip(), passage[end:last].rstrip()


def _marked(before: str, text: str, after: str, columns: int, color: bool) -> str:
    """Put the parts together; what does not fit is cut off at the far ends."""
    before, text, after = map(printable, (before, text, after))
    text = clip(text, columns)
    room = max(0, columns - width(text) - 2)
    before = clip(before[::-1], max(room // 2, room - width(after)))[::-1]
    after = clip(after, room - width(before))
    return f"{before}{_MARK}{text}{_PLAIN}{after}" if color else f"{before}[{text}]{after}"


def clip(text: str, columns: int) -> str:
    """Cut a text to a width; an ellipsis stands for the rest."""
    if width(text) <= columns:
        return text
    used, place = 1, 0
    while place < len(text) and used + _columns(text[place]) <= columns:
        used += _columns(text[place])
        place += 1
    return text[:place] + "…" if columns > 0 else ""


def width(text: str) -> int:
    """Count the columns that a text takes on a terminal."""
    return sum(map(_columns, text))


def _columns(char: str) -> int:
    if unicodedata.category(char) in ("Mn", "Me", "Cf"):
        return 0
    return 2 if unicodedata.east_asian_width(char) in "WF" else 1


def printable(text: str) -> str:
    """Replace what a terminal would obey instead of showing it; white space becomes spaces."""
    return "".join(map(_shown, text))


def _shown(char: str) -> str:
    if char.isspace():
        return " "
    return "\ufffd" if unicodedata.category(char) in ("Cc", "Cs") or char in _BIDI else char
