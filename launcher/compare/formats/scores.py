"""Exact match and F1 in the text of a log, by the names of SQuAD's evaluation."""

from __future__ import annotations

import re
from typing import Iterable

from launcher.compare.formats.log import Line, Log
from launcher.compare.formats.text import NUMBER, number

_NAMES = {"exact_match": "exact", "exact": "exact", "em": "exact", "f1": "f1"}
_SCORE = re.compile(
    r"(?<![\w.])([\"']?(?:eval_)?)((?:HasAns_|NoAns_|best_)?(?:exact_match|exact|f1|F1|EM|em|total))[\"']?"
    r"\s{0,40}[:=]\s{0,40}[\"']?(" + NUMBER + r")"
)
_OURS = re.compile(r"(?:^|\s)(HasAns|NoAns)?\s*EM ([\d.]{1,20})  F1 ([\d.]{1,20})  on \d")


def read(line: Line, log: Log) -> bool:
    """Read `{"exact_match": F, "f1": F}`, in b'...' too, `f1 = F`, `EM F  F1 F`. A name may come anew."""
    found = _OURS.search(line.text)
    if found:
        group = f"{found.group(1)}_" if found.group(1) else ""
        take(((group + "exact", number(found.group(2))), (group + "f1", number(found.group(3)))), log, "")
        return True
    matches = _SCORE.findall(line.text)
    official = all(head == '"' for head, _, _ in matches)  # JSON of SQuAD's scripts: always per cent
    form = "" if official or "tensorflow" in line.text else "share"
    take(((name, number(value)) for _, name, value in matches), log, form)
    return bool(matches)


def take(values: Iterable[tuple[str, float | None]], log: Log, form: str) -> None:
    """Take the scores among some values. form: "share" where they may be from 0 to 1 instead of per cent."""
    for name, value in values:
        group, last = _parts(name)
        if last == "total" and not group and value is not None and 0 < value < 1e9:
            log.total = value
        if last not in _NAMES or value is None or not 0 <= value <= 100:
            continue
        known = (group + "_" if group else "") + _NAMES[last]
        log.scores[known] = value
        log.shares.discard(known)
        if form == "share":
            log.shares.add(known)


def _parts(name: str) -> tuple[str, str]:
    plain = name[5:] if name.startswith("eval_") else name
    for group in ("HasAns", "NoAns", "best"):
        if plain.startswith(group + "_"):
            return group, plain[len(group) + 1 :].lower()
    return "", plain.lower()
