"""On a hang: ask every rank where it is, before any is killed, and name the one that is elsewhere."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, List, Optional, Sequence, Tuple

from launcher.ranks import Running
from launcher.run_dir import RunDir
from launcher.watch import stopped

if TYPE_CHECKING:  # loaded when there is trouble, not at every start
    from launcher.stacks import Group

PATIENCE = 2.0  # seconds for the dumps of all ranks


@dataclass(frozen=True)
class RollCall:
    """Hold where the ranks were: one line, the stacks by group, and the rank that is elsewhere."""

    line: str
    stacks: Tuple[str, ...]
    odd: Optional[int]


def roll_call(run: RunDir, ranks: Sequence[Running]) -> RollCall:
    """Have the living ranks dump their stacks; ranks that do not answer are named with the reason."""
    from launcher import stacks

    living = [rank for rank in ranks if rank.alive]
    mute = stopped(living)
    texts = stacks.ask(run, {rank.rank: rank.pid for rank in living}, PATIENCE)
    groups = stacks.group(texts)
    summary = [stacks.summary(groups)] if groups else []
    silent = [rank for rank in living if rank.rank not in texts]
    return RollCall(
        "; ".join([*summary, *mute]), tuple(stacks.report(groups)[1:]) if groups else (), _odd(groups, silent)
    )


def _odd(groups: Sequence[Group], silent: List[Running]) -> Optional[int]:
    """Choose the rank that is elsewhere: one that cannot answer, else one of the smallest group."""
    if len(silent) == 1 and groups:
        return silent[0].rank
    if len(groups) > 1 and len(groups[-1].ranks) < len(groups[0].ranks):
        return groups[-1].ranks[0]
    return None
