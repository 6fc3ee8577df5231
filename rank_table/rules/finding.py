"""The findings of the rules, and the report that collects them."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any, Mapping

from rank_table.inventory import CHIPS
from rank_table.rules.catalogue import RULES

ERROR, WARNING = "error", "warning"
MOST = 20  # findings of one rule that are kept; the others are counted


@dataclass(frozen=True)
class RuleFinding:
    """One finding of a rule. `chip` is the generation that the rule applies to; "" for all of them.

    `code` is what CANN 9 reports for it (older ones report EI0004 for most); "" when HCCL reports
    nothing. `path` is a JSON path such as server_list[0].device[1].rank_id; `line` and `column` count from 1,
    0 stands for unknown.
    """

    rule: str
    level: str
    code: str
    path: str
    value: str
    message: str
    todo: str
    chip: str = ""
    line: int = 0
    column: int = 0

    def __str__(self) -> str:
        place = f"line {self.line} column {self.column}" if self.line else self.path
        value = f" {self.value}" if self.value else ""
        head = ": ".join(part for part in (place + value, self.message) if part.strip())
        tail = " ".join(part for part in (self.chip, self.code) if part)
        source = f"{self.rule}, {tail}" if tail else self.rule
        return f"{self.level}: {head.strip()}; {self.todo} [{source}]"


class Report:
    """The findings for one document; at most MOST of a rule are kept, the others are counted.

    `chips` are the generations that the table may be for: the one given, else those whose HCCL reads the
    layout. A rule of one generation is an error when no other is left, else a warning.
    """

    def __init__(self, chip: str = "", environ: Mapping[str, str] | None = None) -> None:
        self.chip = chip
        self.chips: frozenset[str] = frozenset((chip,) if chip else CHIPS)
        self.environ: Mapping[str, str] = environ or {}
        self.findings: list[RuleFinding] = []
        self._counts: dict[str, int] = {}
        self._last: dict[str, RuleFinding] = {}

    def narrow(self, *chips: str) -> None:
        """Limit the generations to those whose HCCL reads this layout, unless one was given."""
        if not self.chip:
            self.chips = frozenset(chips)

    def error(self, rule: str, path: str, value: Any, message: str, todo: str, **more: Any) -> None:
        """Report what HCCL refuses."""
        self._add(ERROR, rule, path, value, message, todo, more)

    def warning(self, rule: str, path: str, value: Any, message: str, todo: str, **more: Any) -> None:
        """Report what HCCL accepts, but its documentation or experience advises against."""
        self._add(WARNING, rule, path, value, message, todo, more)

    def on(
        self, chip: str, rule: str, path: str, value: Any, message: str, todo: str, level: str = ERROR
    ) -> None:
        """Report what one generation refuses: a warning while the table may be for another."""
        if chip in self.chips:
            sure = self.chips == frozenset((chip,))
            self._add(level if sure else WARNING, rule, path, value, message, todo, {"chip": chip})

    @property
    def failed(self) -> bool:
        return any(finding.level == ERROR for finding in self.findings)

    def done(self) -> list[RuleFinding]:
        """Return the findings, errors first, with a line for those that were only counted."""
        for rule, count in self._counts.items():
            if count > MOST:
                last = self._last[rule]
                message = f"{count - MOST} more findings of this rule are not shown"
                self.findings.append(
                    RuleFinding(rule, last.level, last.code, "", "", message, "fix these first", last.chip)
                )
        return sorted(self.findings, key=lambda finding: finding.level != ERROR)

    def _add(
        self, level: str, rule: str, path: str, value: Any, message: str, todo: str, more: Mapping[str, Any]
    ) -> None:
        count = self._counts[rule] = self._counts.get(rule, 0) + 1
        if count <= MOST:
            finding = RuleFinding(rule, level, RULES[rule].code, path, shown(value), message, todo, **more)
            self.findings.append(finding)
            self._last[rule] = finding


def shown(value: Any) -> str:
    """Write a value as short ASCII JSON; "" for None."""
    if value is None:
        return ""
    if isinstance(value, (list, dict)):
        return "a list" if isinstance(value, list) else "an object"
    text = json.dumps(value)
    return text if len(text) <= 60 else text[:57] + "..."
