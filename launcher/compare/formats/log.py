"""What the lines of one log say, gathered, and the curve that is made of it."""

from __future__ import annotations

import os
import re
from typing import Mapping, NamedTuple, Sequence

from launcher.compare.curve import Curve, Point
from launcher.compare.formats.stream import Entry, Settled, Stream, mean_by_step, settle
from launcher.compare.formats.text import whole
from launcher.compare.settings import masked

_NAMED_BATCH = re.compile(r"(?:^|[_.-])gbs_?(\d{1,6})(?=[_.-]|$)")
_NAMED_PRECISION = re.compile(r"[_.-](fp16|fp32|bf16|amp|tf32)(?=[_.-])")


class Line(NamedTuple):
    """A line without its prefix. key: what tells the streams of a log apart. rank: what the prefix says."""

    text: str
    key: object = b""
    rank: int | None = None


class Log:
    """The facts of one log. section: what the program said it was doing (training, predictions, ...)."""

    def __init__(self, name: str, hints: Mapping[str, int]) -> None:
        self.name, self.hints = name, hints
        self.streams: dict[tuple[str, object, str], Stream] = {}
        self.scores: dict[str, float] = {}
        self.shares: set[str] = set()  # scores that may be from 0 to 1, as their form says nothing
        self.total = 0.0  # the number of questions
        self.settings: dict[str, str] = {}
        self.notes: dict[str, None] = {}
        self.ranks: int | None = None
        self.several_ranks = False
        self.summary: tuple[float, str] | None = None  # the rate of the whole training, and rate_is
        self.summary_note = False  # something else is said of that rate
        self.global_batch: int | None = None
        self.device_batch: int | None = None
        self.batch_of_rate: list[float] = []  # examples/s by steps/s
        self.final_loss: float | None = None
        self.total_steps: int | None = None
        self.total_epochs: float | None = None
        self.bar = 0  # the length of the last progress bar
        self.kind = ""  # the name of what was found without a curve
        self.section = ""
        self.flags_follow = 0  # lines that may be flags
        self.bare = False  # a loss without a step was there

    def stream(self, kind: str, line: Line, part: str = "") -> Stream:
        """Return the stream of a line. part: tells apart what one rank writes twice."""
        source = line.rank if line.rank is not None else line.key
        key = (kind, source, part)
        found = self.streams.get(key)
        if found is None:
            found = self.streams[key] = Stream(kind, line.rank)
        return found

    def note(self, text: str) -> None:
        """Say something once."""
        self.notes[text] = None

    def curve(self) -> Curve:
        """Make the curve of the best of what is there: the most losses, else the most rates."""
        _learn_from_name(self)
        kind, chosen = self._choose()
        self._count_by_epochs(chosen)
        settled = self._settle(chosen)
        rate_is = self._rate_is(chosen, settled)
        ranks = self.hints.get("ranks") or self.ranks or (settled.mixed if settled.mixed > 1 else None)
        ratio = self._ratio()
        if ranks is None and rate_is == "per device" and ratio and (self.global_batch or 0) % ratio == 0:
            ranks = (self.global_batch or 0) // ratio or None
        batch = self._batch(ranks, rate_is)
        points = [_point(entry, batch, self._per_rate(rate_is, batch, ranks)) for entry in settled.entries]
        if not any(point.rate is not None for point in points) and self.summary is not None:
            points.append(Point(rate=self.summary[0]))
            rate_is = self.summary[1]
            if not self.summary_note:
                self.note("its rate is the mean of the whole training")
        if ranks == 1 and rate_is in ("unknown", "per device"):
            rate_is = "global"
        self._say_what_lacks(kind, points, settled, batch)
        return Curve(
            self.name, kind, tuple(points), self._scores(), ranks, batch, masked(self.settings), rate_is,
            tuple(self.notes),
        )  # fmt: skip

    def _choose(self) -> tuple[str, list[Stream]]:
        """Return the kind with the most losses, and its streams: one of each source."""
        worth: dict[str, tuple[int, int]] = {}
        for (kind, _, _), stream in self.streams.items():
            best = worth.get(kind, (0, 0))
            worth[kind] = max(best, (stream.losses(), stream.rates()))
        kind = max(worth, key=lambda name: worth[name], default="")
        if not kind or worth[kind] == (0, 0):
            return self.kind or "unknown", []
        others = [name for name in worth if name != kind and worth[name][0]]
        if others:
            self.note(f"also holds losses in the form of {', '.join(others)}: not used")
        return kind, self._without_twins(kind)

    def _without_twins(self, kind: str) -> list[Stream]:
        """Return the streams of a kind, of those that a source writes twice the one that says more."""
        found: dict[object, list[tuple[int, int, str, Stream]]] = {}
        for (name, source, part), stream in self.streams.items():
            if name == kind:
                found.setdefault(source, []).append((stream.losses(), stream.rates(), part, stream))
        if any(len(twins) > 1 for twins in found.values()):
            self.note("each message stands twice (absl and TensorFlow): one of the two is used")
        return [max(twins, key=lambda twin: twin[:3])[3] for twins in found.values()]

    def _count_by_epochs(self, chosen: Sequence[Stream]) -> None:
        """Compute steps from fractions of epochs, where all steps and epochs are known."""
        steps, epochs = self.total_steps, self.total_epochs
        if not steps or not epochs:
            return
        for stream in chosen:
            for place, entry in enumerate(stream.entries):
                if entry.step is None and entry.epoch is not None and 0 <= entry.epoch <= epochs + 1:
                    step = max(1, round(entry.epoch * steps / epochs))
                    stream.entries[place] = entry._replace(step=step, epoch=None)
                    self.note("its steps are computed from the epochs")

    def _settle(self, chosen: Sequence[Stream]) -> Settled:
        per_line = self.hints.get("iterations_per_loop") or whole(
            self.settings.get("iterations_per_loop", "")
        )
        useful = [stream for stream in chosen if stream.losses()] or list(chosen)
        settled = [settle(stream, per_line) for stream in useful]
        if not settled:
            return Settled([], [])
        if len(settled) == 1:
            return settled[0]
        named = sorted(stream.rank for stream in useful if stream.rank is not None)
        told = f"ranks {named[0]} to {named[-1]}" if len(named) == len(useful) else f"{len(useful)} sources"
        parts = [part.entries for part in settled]
        notes = [note for part in settled for note in part.notes]
        means = mean_by_step(parts)
        self.several_ranks = True
        if not means:
            return Settled(parts[0], [*notes, f"{told} write lines: those of the first are used"], len(parts))
        ranks = max(named) + 1 if len(named) == len(useful) else len(settled)
        return Settled(means, [*notes, f"{told} write lines: their mean is taken"], ranks)

    def _rate_is(self, chosen: Sequence[Stream], settled: Settled) -> str:
        told = next((stream.rate_is for stream in chosen), "unknown")
        if told == "device or global":  # TPUEstimator's examples/sec counts the batch of its own process
            found = self._whose(settled)
            if found == "per device":
                self.note("its examples/s are those of a device: its process counts its own batch")
            return found
        return told

    def _whose(self, settled: Settled) -> str:
        ranks, ratio = self.hints.get("ranks") or self.ranks, self._ratio()
        whole_batch = self.hints.get("global_batch") or self.global_batch
        if ratio and whole_batch:
            return "global" if ratio == whole_batch else "per device"
        if settled.mixed > 1 or self.several_ranks or (ranks or 1) > 1:
            return "per device"
        return "global" if ranks == 1 else "unknown"

    def _ratio(self) -> int | None:
        """Return the batch that the rates count: examples/s by steps/s, where that is a whole number."""
        values = sorted(self.batch_of_rate)
        if not values:
            return None
        middle = values[len(values) // 2]
        near = round(middle) if middle < 1e9 else 0
        return near if near >= 1 and abs(middle - near) < 0.01 * near else None

    def _batch(self, ranks: int | None, rate_is: str) -> int | None:
        if self.hints.get("global_batch"):
            return self.hints["global_batch"]
        if self.global_batch:
            return self.global_batch
        if self.device_batch and (ranks or not self.several_ranks):
            if not ranks:
                self.note("its global batch is taken as that of one device: nothing speaks of several")
            return self.device_batch * (ranks or 1)
        ratio = self._ratio()
        if ratio and (rate_is == "global" or (rate_is == "per device" and ranks)):
            return ratio * (1 if rate_is == "global" else ranks or 1)
        return None

    def _per_rate(self, rate_is: str, batch: int | None, ranks: int | None) -> float | None:
        """Return the examples of a step in the unit of the rates, for rates that are in steps/s."""
        if rate_is != "per device":
            return batch
        return batch / ranks if batch and ranks else None

    def _scores(self) -> dict[str, float]:
        """Return the scores in per cent."""
        if self.total and _are_shares(self.scores, self.total):
            self.shares.update(self.scores)
        parts = {name: self.scores[name] for name in self.shares if name in self.scores}
        if parts and 0 < max(parts.values()) <= 1:
            self.note("EM and F1 lie between 0 and 1: taken as shares, times 100")
            return {name: value * (100 if name in parts else 1) for name, value in self.scores.items()}
        if self.scores and 0 < max(self.scores.values()) <= 1:
            self.note("EM and F1 are at most 1, of 100: in the form of SQuAD's scripts they are per cent")
        return dict(self.scores)

    def _say_what_lacks(
        self, kind: str, points: Sequence[Point], settled: Settled, batch: int | None
    ) -> None:
        for note in settled.notes:
            self.note(note)
        if not any(point.loss is not None for point in points):
            why = " (TPUEstimator prints none)" if kind == "TPUEstimator" else ""
            if self.final_loss is not None:
                why += f", but that of the final step: {self.final_loss:g}"
            self.note(f"holds no loss{why}")
        elif batch is None and not any(point.examples is not None for point in points):
            lacks = "says nowhere how many examples a step has: give --global-batch N"
            if self.device_batch:
                lacks = f"a device's batch is {self.device_batch}, but of how many devices: give --ranks N"
            self.note(lacks)
        if not any(point.rate is not None for point in points):
            timed = sum(point.time is not None and point.examples is not None for point in points)
            speeds = any(entry.speed is not None for entry in settled.entries)
            lacks = "holds steps/s, but no examples/s" if speeds else "holds no rate"
            self.note("holds no rate: it follows from the times of the lines" if timed > 1 else lacks)
        if not self.scores:
            self.note("holds no EM and F1")


def _are_shares(scores: Mapping[str, float], total: float) -> bool:
    """Tell whether exact is a share of so many questions, as it is no whole number of them in per cent."""
    count = scores.get("exact", 0.0) * total
    return 0 < count <= total and abs(count - round(count)) < 1e-3 < abs(count / 100 - round(count / 100))


def _point(entry: Entry, batch: int | None, per_rate: float | None) -> Point:
    rate = entry.rate
    if rate is None and entry.speed is not None and per_rate:
        rate = entry.speed * per_rate
    examples = float(entry.step) * batch if batch and entry.step is not None else None
    return Point(entry.step, examples, entry.loss, entry.learning_rate, rate, entry.time)


def _learn_from_name(log: Log) -> None:
    """Take the global batch and the precision from NVIDIA's file names (run_squad.sh since 2019-05)."""
    name = os.path.basename(log.name)
    batch, precision = _NAMED_BATCH.search(name), _NAMED_PRECISION.search(name)
    if batch and int(batch.group(1)):
        log.global_batch = log.global_batch or int(batch.group(1))
        log.note(f"the global batch, {log.global_batch}, is that of its name")
    if precision:
        log.settings.setdefault("precision", precision.group(1))
