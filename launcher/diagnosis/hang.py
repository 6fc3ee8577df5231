"""On a hang: ask every rank where it is, before any is killed, and name the one that is elsewhere."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Mapping, Sequence

from launcher.process import procfs
from launcher.run_dir import RunDir

if TYPE_CHECKING:  # loaded when there is trouble, not at every start
    from launcher.diagnosis.stacks import Frame, Group

PATIENCE = 2.0  # seconds for the dumps of all ranks


@dataclass(frozen=True)
class RollCall:
    """Hold where the ranks were: one line, the stacks by group, and the rank that is elsewhere."""

    line: str
    stacks: tuple[str, ...]
    odd: int | None


def roll_call(run: RunDir, pids: Mapping[int, int]) -> RollCall:
    """Have living ranks (rank: pid) dump their stacks; ranks that do not answer are named with the reason."""
    from launcher.diagnosis import stacks

    mute = stopped(pids)
    texts = stacks.ask(run, pids, PATIENCE)
    groups = groups_of(texts)
    summary = [stacks.summary(groups)] if groups else []
    silent = [rank for rank in pids if rank not in texts]
    lines = stacks.report(groups)[1:] if groups else []
    return RollCall("; ".join([*summary, *mute]), tuple(lines), _odd(groups, silent))


def groups_of(texts: Mapping[int, str]) -> list[Group]:
    """Group ranks by the function in which they are, the largest group first.

    The main thread often waits in the same call everywhere (a session's run), while a thread below it is in
    the collective on one rank and in the data on another. So what counts is the first thread whose place not
    all ranks have in common. Lines do not count: a loop that waits is now here, now there.
    """
    from launcher.diagnosis import stacks

    threads = {rank: [t for t in stacks.threads(text) if t] for rank, text in texts.items()}
    places = {rank: {_function(frames) for frames in found} for rank, found in threads.items()}
    common: set[tuple[str, str]] = set.intersection(*places.values()) if places else set()
    groups: dict[tuple[str, str], list[int]] = {}
    chosen: dict[tuple[str, str], tuple[Frame, ...]] = {}
    for rank in sorted(threads):
        special = [frames for frames in threads[rank] if _function(frames) not in common]
        frames = (special or threads[rank] or [()])[0]
        key = _function(frames)
        groups.setdefault(key, []).append(rank)
        chosen.setdefault(key, frames)
    made = [stacks.Group(tuple(who), chosen[key]) for key, who in groups.items()]
    return sorted(made, key=lambda group: (-len(group.ranks), group.ranks))


def _function(frames: Sequence[Frame]) -> tuple[str, str]:
    """Give file and name of the innermost function that is no library's."""
    from launcher.diagnosis import stacks

    own = [frame for frame in frames if not stacks.is_library(frame)]
    found = (own or list(frames))[:1]
    return (found[0].file, found[0].function) if found else ("", "")


def _odd(groups: Sequence[Group], silent: Sequence[int]) -> int | None:
    """Choose the rank that is elsewhere: one that cannot answer, else one of the smallest group."""
    if len(silent) == 1 and groups:
        return silent[0]
    if len(groups) > 1 and len(groups[-1].ranks) < len(groups[0].ranks):
        return groups[-1].ranks[0]
    return None


def stopped(pids: Mapping[int, int]) -> list[str]:
    """Describe ranks that cannot answer: stopped ones, and those that sleep in the kernel."""
    table = procfs.processes()
    lines = []
    for rank, pid in pids.items():
        letter = table[pid].state if pid in table else ""
        if letter in ("T", "t"):
            lines.append(f"rank {rank} is stopped (SIGSTOP, or a debugger)")
        elif letter == "D":
            where = procfs.waits_in(pid) or "?"
            lines.append(f"rank {rank} sleeps in the kernel ({where})")
    return lines
