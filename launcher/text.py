"""Text for a person: ranks, times, and the output of ranks without terminal control sequences."""

from __future__ import annotations

import re
import time
from typing import Iterable

from rank_table.ranges import spell

_STYLE = re.compile(r"\x1b\[[0-9;?]*[ -/]*[@-~]")
_UNPRINTABLE = re.compile(r"[\x00-\x08\x0a-\x1f\x7f-\x9f]")  # control characters but tab


def label(ranks: set[int]) -> str:
    """Name ranks: 3 or [0-2,5].

    >>> label({0, 1, 2, 5})
    '[0-2,5]'
    """
    return str(next(iter(ranks))) if len(ranks) == 1 else f"[{spell(sorted(ranks))}]"


def clock(wall: float) -> str:
    """Render a time of day with milliseconds."""
    return time.strftime("%H:%M:%S", time.localtime(wall)) + f".{int(wall % 1 * 1000):03d}"


def printable(text: str) -> str:
    """Show control characters of a rank as text, so that the terminal does not obey them; drop colours."""
    if text.isprintable():
        return text
    return _UNPRINTABLE.sub(lambda match: f"\\x{ord(match.group()):02x}", _STYLE.sub("", text))


def did_you_mean(word: str, known: Iterable[str], otherwise: str) -> str:
    """Suggest the known word that is nearest to a mistyped one, or say something else if none is near."""
    import difflib  # costs more than a start without mistakes should pay

    near = difflib.get_close_matches(word, known, n=1)
    return f"did you mean {near[0]}?" if near else otherwise
