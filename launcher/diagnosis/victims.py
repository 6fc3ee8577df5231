"""Ranks that failed because another one did not take part: how their last message reads.

Loaded at the first failure, as compiling the patterns takes longer than the rest of the package.
"""

from __future__ import annotations

import re

from launcher.diagnosis.failure import RankEnd

_LATE = r"(timed? ?out|timeout|not (arrive|come)|gave up waiting|deadline exceeded)"
_TOGETHER = (
    r"(collective|all_?_?reduce|all_?gather|barrier|broadcast|hccl|nccl|gloo|rendezvous|peer|ranks?|notify)"
)
_WAITED = re.compile(rf"(?is)\b{_LATE}\b.{{0,300}}?{_TOGETHER}|{_TOGETHER}.{{0,300}}?{_LATE}")
_ACCUSED = re.compile(r"ranks? ([\d, ]+) did not (?:come|arrive)")
_PEER_LOST = re.compile(
    r"(?i)CollectiveError|EI0002|EI0006|connection (reset|closed|aborted) by (the )?(remote )?peer"
    r"|connection reset|socket closed|broken pipe"
    r"|peer (rank |process )?(\d+ )?(is |was |has )?(gone|lost|died|failed|left)"
)
_LAST_BYTES = 600  # of a rank's output, where it left no exception


def waits_for_others(end: RankEnd) -> bool:
    """Tell whether a rank's last message is a timeout or a lost connection caused by another rank."""
    if end.error and end.error.kind != "SystemExit":
        text = f"{end.error.kind}: {end.error.message}"
    elif end.code is not None and end.code >= 0:
        text = end.tail[-_LAST_BYTES:].decode("utf-8", "replace")
    else:
        return False
    return bool(_WAITED.search(text) or _PEER_LOST.search(text))


def accused_ranks(victim: RankEnd) -> set[int]:
    """Read which ranks a victim says it waited for."""
    found = _ACCUSED.search(victim.error.message if victim.error else victim.tail.decode("utf-8", "replace"))
    return {int(word) for word in re.findall(r"\d+", found.group(1))} if found else set()
