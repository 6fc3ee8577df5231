"""What a check of doctor or of the preflight reports."""

from __future__ import annotations

from dataclasses import dataclass

OK, WARNING, ERROR = "ok", "warning", "error"


@dataclass(frozen=True)
class Finding:
    """The result of one check: its name, "ok", "warning" or "error", what was found, and what to do."""

    name: str
    level: str
    what: str
    todo: str = ""  # empty: there is nothing to do

    def __str__(self) -> str:
        return f"{self.what}; {self.todo}" if self.todo else self.what
