"""Entries of a file with one question each, and what its reader has to say of them."""

from __future__ import annotations

from typing import Any, List

ANSWERS, STARTS = "answers", "answer_start"


class Rows(List[Any]):
    """The entries of a file that has them in lines or rows.

    numbers: where each one stands, from 1; faults: (number, field, what is wrong) of those left out; notes:
    lines to show to the user; without: the column of reference answers that the file lacks, "" for none;
    named: that column is there, but empty.
    """

    def __init__(self, root: str = "line %d") -> None:
        super().__init__()
        self.root = root
        self.numbers: list[int] = []
        self.faults: list[tuple[int, str, str]] = []
        self.notes: list[str] = []
        self.without = ""
        self.named = False

    def add(self, number: int, entry: Any) -> None:
        """Add an entry."""
        self.numbers.append(number)
        self.append(entry)
