"""What one rank wrote into a log in one format, and how it becomes points.

Of steps that come again after a restart the last counts. Where each step comes several times, the lines of
several ranks without prefixes are mixed: their mean is taken.
"""

from __future__ import annotations

from collections import Counter
from operator import lt
from typing import Iterable, NamedTuple, Sequence

MOST = 1 << 20  # entries that are held; of a log with more every second one, then every fourth, ...
MIXED = 0.8  # the share of steps that come several times where ranks are mixed
BACK = 0.25  # of the repeated steps so many follow their own step; after a restart they come much later


class Entry(NamedTuple):
    """One line or group of lines. rate: examples/s. speed: steps/s. epoch: steps may begin anew in each."""

    step: int | None = None
    loss: float | None = None
    learning_rate: float | None = None
    rate: float | None = None
    speed: float | None = None
    time: float | None = None
    epoch: float | None = None

    def having(self, speed: float | None = None, rate: float | None = None) -> Entry:
        """Return the entry with a rate that comes on a line of its own."""
        return self._replace(
            speed=self.speed if speed is None else speed, rate=self.rate if rate is None else rate
        )


NOTHING = Entry()


class Stream:
    """The entries of one rank in one format. rate_is: as in Curve; loss_line: the last line was a loss."""

    def __init__(self, kind: str, rank: int | None = None) -> None:
        self.kind, self.rank = kind, rank
        self.entries: list[Entry] = []
        self.rate_is = "unknown"
        self.doubled = 0
        self.every = 1  # of the entries that came
        self.pending = NOTHING
        self.steps_per_epoch: float | None = None
        self._came = 0
        self._before: Entry | None = None

    def add(self, entry: Entry) -> None:
        """Take an entry, unless it is the one before it again."""
        before = self._before
        if before is not None and entry.step is not None and entry.loss is not None:
            if entry.step == before.step and entry.epoch == before.epoch and _same(entry.loss, before.loss):
                self.doubled += 1
                return
        self._before = entry
        self._came += 1
        if self._came % self.every:
            return
        self.entries.append(entry)
        if len(self.entries) > MOST:
            del self.entries[::2]
            self.every *= 2

    def amend(self, speed: float | None = None, rate: float | None = None) -> None:
        """Add to the last entry what a line after it says."""
        if self.entries and self._before is self.entries[-1]:
            self._before = self.entries[-1] = self.entries[-1].having(speed, rate)

    def losses(self) -> int:
        """Count the entries that have a loss."""
        return sum(entry.loss is not None for entry in self.entries)

    def rates(self) -> int:
        """Count the entries that have a rate."""
        return sum(entry.rate is not None or entry.speed is not None for entry in self.entries)


def _same(a: float | None, b: float | None) -> bool:
    return a == b or (a != a and b != b)


class Settled(NamedTuple):
    """Entries in their order, the steps numbered from 1. mixed: how many ranks were mixed in it, else 1."""

    entries: list[Entry]
    notes: list[str]
    mixed: int = 1


def settle(stream: Stream, per_line: int | None) -> Settled:
    """Put the entries of a stream in order. per_line: steps between two lines without step numbers."""
    notes: list[str] = []
    entries = _numbered(stream, per_line, notes)
    if stream.doubled:
        notes.append(f"{stream.doubled} doubled line(s) are left out")
    if stream.every > 1:
        notes.append(f"it is long: one line in {stream.every} is kept")
    mixed = 1 if _ascends(entries) else _mixture(entries)
    if mixed > 1:
        notes.append(f"each step comes {mixed} times, as of ranks without prefixes: their mean is taken")
        entries = mean_by_step([entries])
    else:
        entries = _last_attempt(entries, notes)
    return Settled(entries, notes, mixed)


def _ascends(entries: Sequence[Entry]) -> bool:
    steps = [entry.step for entry in entries if entry.step is not None]
    return all(map(lt, steps, steps[1:]))


def _numbered(stream: Stream, per_line: int | None, notes: list[str]) -> list[Entry]:
    entries = _over_epochs(stream, notes)
    with_loss = [entry for entry in entries if entry.loss is not None]
    steps = [entry.step for entry in with_loss if entry.step is not None]
    if with_loss and not steps:
        return _counted(entries, per_line, stream.every, notes)
    if steps and min(steps) == 0:
        notes.append("its steps count from 0: one is added, so that a step is the number of steps made")
        return [entry if entry.step is None else Entry(entry.step + 1, *entry[1:]) for entry in entries]
    return entries


def _counted(entries: list[Entry], per_line: int | None, every: int, notes: list[str]) -> list[Entry]:
    """Number lines that have no step."""
    if not per_line:
        notes.append("holds no step numbers; give --iterations-per-loop N, the steps between two lines")
        return entries
    notes.append(f"holds no step numbers: a line is taken as {per_line} steps")
    numbered, step = [], 0
    for entry in entries:
        step += per_line * every if entry.loss is not None else 0
        numbered.append(entry._replace(step=step if entry.loss is not None else None))
    return numbered


def _over_epochs(stream: Stream, notes: list[str]) -> list[Entry]:
    """Number steps through where they begin anew in each epoch."""
    entries = stream.entries
    placed = [
        (entry.epoch, entry.step) for entry in entries if entry.epoch is not None and entry.step is not None
    ]
    if not any(b[0] > a[0] and b[1] <= a[1] for a, b in zip(placed, placed[1:])):
        return entries
    low = min(step for _, step in placed)
    length = max(step for _, step in placed) + (low == 0)
    first = 1 if min(epoch for epoch, _ in placed) >= 1 else 0
    notes.append(f"its steps begin anew in each epoch: an epoch is taken as {length} steps, the most seen")
    return [
        entry._replace(step=int(entry.epoch - first) * length + entry.step)
        if entry.epoch is not None and entry.step is not None
        else entry
        for entry in entries
    ]


def _mixture(entries: Sequence[Entry]) -> int:
    """Return how many ranks' lines are mixed; 1: those of one."""
    steps = [entry.step for entry in entries if entry.loss is not None and entry.step is not None]
    counts = Counter(steps)
    repeated = len(steps) - len(counts)
    if not repeated or sum(count > 1 for count in counts.values()) < MIXED * len(counts):
        return 1
    back = sum(now <= before for before, now in zip(steps, steps[1:]))
    if back < max(2, BACK * repeated) and not (len(counts) == 1 and back):
        return 1
    return Counter(counts.values()).most_common(1)[0][0]


def mean_by_step(parts: Sequence[Sequence[Entry]]) -> list[Entry]:
    """Average entries of the same step, steps ascending; of several parts only those that half have."""
    found: dict[int, list[Entry]] = {}
    for part in parts:
        for entry in part:
            if entry.step is not None:
                found.setdefault(entry.step, []).append(entry)
    kept = {step: same for step, same in found.items() if 2 * len(same) >= len(parts)}
    return [_mean(step, same) for step, same in sorted(kept.items())]


def _mean(step: int, same: Sequence[Entry]) -> Entry:
    return Entry(
        step,
        _average(entry.loss for entry in same),
        same[-1].learning_rate,
        _average(entry.rate for entry in same),
        _average(entry.speed for entry in same),
        same[-1].time,
        same[-1].epoch,
    )


def _average(values: Iterable[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return sum(known) / len(known) if known else None


def _last_attempt(entries: Sequence[Entry], notes: list[str]) -> list[Entry]:
    """Drop what a restart repeats, and single steps that fall out of their order."""
    if _ascends(entries):
        return list(entries)
    kept: list[Entry] = []
    steps: list[int] = []  # of what is kept
    dropped = odd = 0
    following = [entry.step for entry in entries[1:]] + [None]
    for entry, after in zip(entries, following):
        if entry.step is None:
            kept.append(entry)
            continue
        if steps and entry.step < steps[-1] and after is not None and after > steps[-1]:
            odd += 1
            continue
        while steps and steps[-1] >= entry.step:
            gone = kept.pop()
            if gone.step is not None:
                steps.pop()
                dropped += 1
        kept.append(entry)
        steps.append(entry.step)
    if dropped:
        notes.append(f"{dropped} line(s) were repeated after a restart: the last of each step counts")
    if odd:
        notes.append(f"{odd} line(s) whose steps are out of order are left out")
    return kept
