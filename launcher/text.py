"""Text for a person: ranks, times, and what others wrote without anything that a terminal obeys."""

from __future__ import annotations

import re
import time
from typing import Iterable, Mapping, Sequence

from rank_table.ranges import spell

_STYLE = re.compile(r"\x1b\[[0-9;?]*[ -/]*[@-~]")
# Control characters but tab; marks that change the direction of text or begin a line (Unicode's Cf, Zl, Zp);
# halves of pairs, which no encoding takes. Joiners (U+200C, U+200D) stay: languages and emoji need them.
_UNPRINTABLE = re.compile(
    "[\x00-\x08\x0a-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u206f\ufff9-\ufffb\ud800-\udfff]"
)


SCHEDULER = -1  # in place of a rank, in files too: the process of MindSpore that has none


def label(ranks: set[int]) -> str:
    """Name ranks: 3 or [0-2,5].

    >>> label({0, 1, 2, 5}), label({SCHEDULER, 1})
    ('[0-2,5]', '[1,scheduler]')
    """
    names = [name for name in (spell(_numbered(ranks)), "scheduler" if SCHEDULER in ranks else "") if name]
    return names[0] if len(ranks) == 1 else f"[{','.join(names)}]"


def _numbered(ranks: Iterable[int]) -> list[int]:
    return sorted(rank for rank in ranks if rank != SCHEDULER)


def named(*ranks: int) -> str:
    """Name ranks in a sentence.

    >>> named(3), named(0, 1, 2), named(SCHEDULER), named(0, 1, SCHEDULER)
    ('rank 3', 'ranks 0-2', 'the scheduler', 'ranks 0-1 and the scheduler')
    """
    numbers = _numbered(ranks)
    words = [f"rank{'s' if len(numbers) > 1 else ''} {spell(numbers)}"] if numbers else []
    return " and ".join([*words, *["the scheduler"][: SCHEDULER in ranks]])


MOST_NAMED = 16  # hosts that a message names before it counts


def some(names: Sequence[str], most: int = MOST_NAMED) -> str:
    """Name some hosts or other things, and count the rest.

    >>> some(["a", "b", "c"], 2)
    'a, b and 1 more'
    """
    rest = len(names) - most
    return ", ".join(names[:most]) + (f" and {rest} more" if rest > 0 else "")


def by_value(values: Mapping[str, str], nothing: str = "none") -> str:
    """Spell values that differ between hosts, the most common first: `node1, node2: 8.0; node3: 7.0`."""
    hosts: dict[str, list[str]] = {}
    for host, value in values.items():
        hosts.setdefault(value, []).append(host)
    order = sorted(hosts, key=lambda value: -len(hosts[value]))
    return "; ".join(f"{some(hosts[value])}: {value or nothing}" for value in order)


def clock(wall: float) -> str:
    """Render a time of day with milliseconds."""
    return time.strftime("%H:%M:%S", time.localtime(wall)) + f".{int(wall % 1 * 1000):03d}"


def printable(text: str) -> str:
    """Show in one line, as escapes, what a terminal would obey; drop colours.

    >>> printable("a\\nb\\u202e")
    'a\\\\x0ab\\\\u202e'
    """
    if text.isprintable():
        return text
    return _UNPRINTABLE.sub(_escape, _STYLE.sub("", text))


def printable_json(document: str) -> str:
    """Escape what a terminal would obey in a JSON document; outside of texts it has line ends alone."""
    if document.isascii() and "\x7f" not in document:  # JSON escapes the other control characters itself
        return document
    return _UNPRINTABLE.sub(_escape_json, document)


def _escape_json(match: re.Match[str]) -> str:
    return "\n" if match.group() == "\n" else f"\\u{ord(match.group()):04x}"


def _escape(match: re.Match[str]) -> str:
    code = ord(match.group())
    return f"\\x{code:02x}" if code < 0x100 else f"\\u{code:04x}"


def nearest(word: str, known: Iterable[str]) -> str:
    """Find the known word that a mistyped one may mean, the first of equals; "" if none is near."""
    import difflib  # costs more than a start without mistakes should pay

    alike = {one: difflib.SequenceMatcher(None, one, word).ratio() for one in known}
    best = max(alike, key=lambda one: alike[one], default="")
    return best if alike.get(best, 0.0) >= 0.75 else ""


def did_you_mean(word: str, known: Iterable[str], otherwise: str) -> str:
    """Suggest the known word that is nearest to a mistyped one, or say something else if none is near."""
    near = nearest(word, known)
    return f"did you mean {near}?" if near else otherwise
