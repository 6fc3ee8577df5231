"""On a hang: record the stacks of all ranks before any is killed, and find the rank that differs."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Mapping, Sequence, Tuple

from launcher.process import procfs
from launcher.run_dir import RunDir

if TYPE_CHECKING:  # loaded on a hang, not at every start
    from launcher.diagnosis.stacks import Frame, Group

PATIENCE = 2.0  # seconds for the dumps of all ranks
_DEPTH = 2  # functions of libraries by which calls are told apart
Place = Tuple[str, str]  # file and name of a function
# Where ranks wait for each other; DistributedDataParallel's do so in the backward pass.
_COLLECTIVE = re.compile(
    r"/(torch|torch_npu)/(distributed|autograd)/|/(paddle/distributed|mindspore/communication)/"
)


@dataclass(frozen=True)
class StackSnapshot:
    """Where the ranks were: in one line, as stacks by group, and the rank that differs from the others."""

    summary: str
    stacks: tuple[str, ...]
    outlier: int | None


def take_snapshot(run: RunDir, pids: Mapping[int, int]) -> StackSnapshot:
    """Have living ranks (rank: pid) dump their stacks; the summary says why others gave none."""
    from launcher.diagnosis import stacks

    stopped = describe_stopped(pids)
    texts = stacks.ask(run, pids, PATIENCE)
    silent = [rank for rank in pids if rank not in texts]
    return compared(texts, silent, [*stopped, *stacks.unreadable(run, silent)])


def compared(texts: Mapping[int, str], silent: Sequence[int], why: Sequence[str]) -> StackSnapshot:
    """Compare the dumps of ranks; silent: those that gave none, why: what is known of that."""
    from launcher.diagnosis import stacks

    groups = groups_of(texts)
    # A rank without a frame is beginning or ending; where all are, that tells nothing.
    summary = ["rank " + stacks.summary(groups)] if any(group.frames for group in groups) else []
    lines = stacks.report([group for group in groups if group.frames])[1:]
    return StackSnapshot("; ".join([*summary, *why]), tuple(lines), _outlier(groups, silent))


def groups_of(texts: Mapping[int, str]) -> list[Group]:
    """Group ranks by the function in which they are, the largest group first.

    The main threads often wait in the same call (a session's run) while another thread is in the collective
    on one rank and in the input data on another. So the first thread counts whose function is not common to
    all ranks. Line numbers do not count: a loop that waits is at another line each time. Ranks that are all
    in one function, such as the loop of the training, are told apart by what it calls.
    """
    from launcher.diagnosis import stacks

    threads = {rank: [t for t in stacks.threads(text) if t] for rank, text in texts.items()}
    places = {rank: {_function(frames) for frames in found} for rank, found in threads.items()}
    common: set[Place] = set.intersection(*places.values()) if places else set()
    chosen: dict[int, tuple[Frame, ...]] = {}
    for rank in sorted(threads):
        distinct = [frames for frames in threads[rank] if _function(frames) not in common]
        chosen[rank] = (distinct or threads[rank] or [()])[0]
    groups = stacks.grouped(chosen, _function)
    return groups if len(groups) > 1 else stacks.grouped(chosen, _call)


def _function(frames: Sequence[Frame]) -> Place:
    """Return file and name of the innermost function outside of libraries."""
    found = frames[_own(frames) :][:1]
    return (found[0].file, found[0].function) if found else ("", "")


def _call(frames: Sequence[Frame]) -> tuple[Place, ...]:
    """Return the function and what it calls: two functions of libraries, as the first may be a decorator."""
    found = frames[: _own(frames)][-_DEPTH:]
    return (_function(frames), *((frame.file, frame.function) for frame in found))


def _own(frames: Sequence[Frame]) -> int:
    """Return the index of the innermost frame outside of libraries; 0 where all are inside."""
    from launcher.diagnosis import stacks

    return next((at for at, frame in enumerate(frames) if not stacks.is_library(frame)), 0)


def apart(tracebacks: Mapping[int, str]) -> tuple[int, str] | None:
    """Return the one rank that raised elsewhere than all others, of three or more, and where that was."""
    from launcher.diagnosis import stacks

    groups = stacks.grouped({rank: stacks.raised_in(text) for rank, text in tracebacks.items()}, _call)
    if [len(group.ranks) for group in groups[1:]] != [1] or len(groups[0].ranks) < 2 or not groups[1].frames:
        return None
    return groups[1].ranks[0], stacks.place(groups[1].frames)


def _outlier(groups: Sequence[Group], silent: Sequence[int]) -> int | None:
    """Choose the rank that differs: the only one that gave no stack, else one of the smallest group.

    Of groups as large as each other, such as those of two ranks, it is the one that waits for no other rank.
    """
    if len(silent) == 1 and groups:
        return silent[0]
    if len(groups) > 1 and len(groups[-1].ranks) < len(groups[0].ranks):
        return groups[-1].ranks[0]
    apart = [group for group in groups if not _waits(group)]
    return apart[0].ranks[0] if len(apart) == 1 < len(groups) else None


def _waits(group: Group) -> bool:
    return bool(group.frames) and _COLLECTIVE.search(group.frames[0].file) is not None


def describe_stopped(pids: Mapping[int, int]) -> list[str]:
    """Describe ranks that cannot dump their stacks: those that are stopped, or sleep in the kernel."""
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
