"""The Python stacks of all ranks, grouped by equal ones.

The worker file registers faulthandler for DUMP_SIGNAL; it writes the stacks of all threads to the rank's
stacks.txt, even while the rank runs C code. No debugger is attached and no rank stops.
"""

from __future__ import annotations

import os
import re
import time
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Callable, Mapping, Sequence

from launcher import foreign
from launcher.errors import MissingFileError, ReadError
from launcher.process import procfs
from launcher.run_dir import RunDir
from launcher.worker import DUMP_SIGNAL
from rank_table.ranges import spell

_LONGEST = 1 << 22  # bytes of a dump
_SETTLED = 0.05  # seconds: a dump that has not grown for so long is complete


@dataclass(frozen=True)
class Frame:
    """One frame of a stack."""

    file: str
    line: int
    function: str


@dataclass(frozen=True)
class Group:
    """Ranks whose stacks are equal; frames, innermost first."""

    ranks: tuple[int, ...]
    frames: tuple[Frame, ...]

    def __str__(self) -> str:
        return f"{spell(self.ranks)} in {place(self.frames)}"


def ask(run: RunDir, pids: Mapping[int, int], timeout: float = 3.0) -> dict[int, str]:
    """Make the ranks (rank: pid) dump their stacks; return the dumps that came within the timeout.

    The signal would kill a process that does not handle it, so those are left out.
    """
    asked = {rank: pid for rank, pid in pids.items() if procfs.handles(pid, DUMP_SIGNAL)}
    before = {rank: _size(_file(run, rank)) for rank in asked}
    for pid in asked.values():
        with suppress(ProcessLookupError, PermissionError):
            os.kill(pid, DUMP_SIGNAL)
    seen: dict[int, tuple[int, float]] = {}
    end = time.monotonic() + timeout
    while time.monotonic() < end and not _complete(seen, asked, before):
        time.sleep(0.01)
        for rank in asked:
            size = _size(_file(run, rank))
            if rank not in seen or seen[rank][0] != size:
                seen[rank] = (size, time.monotonic())
    return {rank: text for rank, text in ((r, _since(run, r, before[r])) for r in asked) if text}


def _complete(
    seen: Mapping[int, tuple[int, float]], asked: Mapping[int, int], before: Mapping[int, int]
) -> bool:
    now = time.monotonic()
    return len(seen) == len(asked) and all(
        size > before[rank] and now - since > _SETTLED for rank, (size, since) in seen.items()
    )


def _file(run: RunDir, rank: int) -> Path:
    return run.rank_dir(rank) / "stacks.txt"


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except OSError:
        return 0


def _since(run: RunDir, rank: int, offset: int) -> str:
    """Return what a rank has appended to its stacks.txt; "" where something else is in its place."""
    with suppress(ReadError, OSError):
        with foreign.open_regular(_file(run, rank)) as stream:
            stream.seek(offset)
            return stream.read(_LONGEST).decode("utf-8", "backslashreplace")
    return ""


def unreadable(run: RunDir, ranks: Sequence[int]) -> list[str]:
    """Name what some ranks have in place of a stacks.txt."""
    found: list[str] = []
    for rank in ranks:
        try:
            foreign.open_regular(_file(run, rank)).close()
        except MissingFileError:
            pass
        except ReadError as error:
            found.append(f"rank {rank}: {error}")
    return found


def threads(text: str) -> list[tuple[Frame, ...]]:
    """Parse faulthandler's output: the frames of each thread, the thread that took the signal first."""
    found: list[tuple[bool, list[Frame]]] = []
    for line in text.splitlines():
        head = re.match(r"(Current thread|Thread) 0x", line)
        frame = re.match(r'  File "(.*)", line (\d+) in (.*)$', line)
        if head:
            found.append((head.group(1) == "Current thread", []))
        elif frame and found:
            found[-1][1].append(Frame(frame.group(1), int(frame.group(2)), frame.group(3)))
    return [tuple(frames) for _, frames in sorted(found, key=lambda item: not item[0])]


def raised_in(traceback: str) -> tuple[Frame, ...]:
    """Parse Python's traceback: the frames of what was raised last, innermost first."""
    last = traceback[traceback.rfind("Traceback (most recent call last)") :]
    found = re.findall(r'^ *File "(.*)", line (\d+), in (.*)$', last, re.M)
    return tuple(Frame(file, int(line), function) for file, line, function in reversed(found))


def group(texts: Mapping[int, str]) -> list[Group]:
    """Group ranks by the stack of their main thread, the largest group first."""
    return grouped({rank: (threads(texts[rank]) or [()])[0] for rank in sorted(texts)}, tuple)


def grouped(frames: Mapping[int, tuple[Frame, ...]], key: Callable[[Sequence[Frame]], object]) -> list[Group]:
    """Group ranks by what their frames have in common, the largest group first."""
    ranks: dict[object, list[int]] = {}
    for rank, found in frames.items():
        ranks.setdefault(key(found), []).append(rank)
    made = [Group(tuple(who), frames[who[0]]) for who in ranks.values()]
    return sorted(made, key=lambda item: (-len(item.ranks), item.ranks))


_LIBRARY = re.compile(r"(^<|/lib/python|site-packages/|launcher/(worker|beats)\.py$)")


def is_library(frame: Frame) -> bool:
    """Tell whether a frame is outside the user's program: it shows how a rank waits, not where."""
    return bool(_LIBRARY.search(frame.file))


def place(frames: Sequence[Frame]) -> str:
    """Describe a stack: its innermost function, and its innermost line outside of libraries."""
    if not frames:
        return "no Python code"
    own = next((frame for frame in frames if not is_library(frame)), frames[0])
    inner = frames[0].function
    via = "" if own is frames[0] else f", called in {own.function}"
    return f"{inner}{via} ({own.file}:{own.line})"


def summary(groups: Sequence[Group]) -> str:
    """Say where the ranks are, in one line: "0,2-3 in all_reduce; 1 in tokenise"."""
    return "; ".join(str(item) for item in groups)


def report(groups: Sequence[Group]) -> list[str]:
    """Render the summary and the stack of each group, the innermost call last, as in a traceback."""
    lines = [summary(groups)]
    for item in groups:
        lines += ["", f"rank {spell(item.ranks)}:"]
        lines += [f'  File "{f.file}", line {f.line}, in {f.function}' for f in reversed(item.frames)]
    return lines


def dumped(texts: Mapping[int, str]) -> list[str]:
    """List the lines of every dump as they are, rank by rank."""
    return [line for rank in sorted(texts) for line in (f"rank {rank}:", *texts[rank].splitlines(), "")]
