"""Take Markdown apart, for tests that hold documents against the program and against each other."""

from __future__ import annotations

import re
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
_FENCE = re.compile(r"^( *)```(\w*)\n(.*?)^\1```$", re.MULTILINE | re.DOTALL)


def documents() -> list[Path]:
    """List the Markdown files of the repository, those of installed packages left out."""
    folders = (
        "docs",
        ".github",
        "examples",
        "tests",
        "benchmarks",
        "squad",
        "bert",
        "rank_table",
        "launcher",
    )
    below = [path for folder in folders for path in (ROOT / folder).rglob("*.md")]
    return sorted([*ROOT.glob("*.md"), *below])


def blocks(text: str, language: str | None = None) -> list[str]:
    """List the code blocks of a document, or those of a language."""
    found = _FENCE.findall(text)
    return [body for _, word, body in found if language is None or word == language]


def prose(text: str) -> str:
    """Return a document without its code blocks."""
    return _FENCE.sub("", text)


def links(text: str) -> list[str]:
    """List the targets of links and pictures in their order."""
    return re.findall(r"\]\(([^)\s]+)\)", prose(text))


def headings(text: str) -> list[tuple[int, str]]:
    """List the headings: level and words."""
    return [(len(marks), words) for marks, words in re.findall(r"^(#+) (.+)$", prose(text), re.MULTILINE)]


def anchors(text: str) -> set[str]:
    """Return the names under which GitHub shows a document's headings."""
    return {re.sub(r"[^\w\- ]", "", words.lower()).replace(" ", "-") for _, words in headings(text)}


def tables(text: str) -> list[list[list[str]]]:
    """List the tables as rows of cells."""
    found = re.findall(r"(?:^ *\|.*\|$\n?)+", prose(text), re.MULTILINE)
    return [[_cells(line) for line in table.splitlines()] for table in found]


def _cells(line: str) -> list[str]:
    return [cell.strip() for cell in re.split(r"(?<!\\)\|", line.strip())[1:-1]]


def code_spans(text: str) -> list[str]:
    """List what stands between backquotes, sorted: another language may have another order of words."""
    return sorted(re.findall(r"`([^`]+)`", text))
