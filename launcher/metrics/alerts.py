"""What is not as it should be in a run that goes on: its loss, its throughput, its disk. Pure rules.

Each alert comes once, and again only when all was well in between. `over` goes through the rows of a run for
which nobody looked while it went on.
"""

from __future__ import annotations

import math
from collections import deque
from pathlib import Path
from statistics import median
from typing import Any, Iterator, Mapping, NamedTuple, Sequence

from launcher import foreign
from launcher.metrics import series

NAN, SPIKE, THROUGHPUT, DISK, NO_PROGRESS = "nan", "loss spike", "throughput", "disk", "no progress"
MEAN, LEAST = 50, 20  # rows before the last ones, of which the loss's mean is taken
RECENT = (3, 10)  # last rows whose median is held against it: a single one may be a batch that is hard
SIGMAS = 6.0
WINDOW, ROWS = 60.0, 3  # seconds of which the throughput is the median, and rows at least
LONG = 600.0  # seconds without a step, at least, of a program that may be evaluating without a word
AGAIN = 1.2  # x the limit: from there on all is well again
GROWTH, LONGEST = 1800.0, 7200.0  # seconds of watching a disk before its growth counts; at most
SOON = 3600.0  # seconds: a disk full by then is worth an alert where nobody knows when the run ends


class Alert(NamedTuple):
    """What a person should know. step: of the training; None: the alert is about none."""

    kind: str
    step: int | None
    text: str


class Rules:
    """The rules on the rows of the leading rank (launcher/metrics/leading.py).

    loss: above this x its running mean is a spike (msprobe's rule; 0: none is). throughput: below this share
    of the run's best is low (0: none is).
    """

    def __init__(self, loss: float = 1.5, throughput: float = 0.5) -> None:
        self._loss, self._rate, self._step = _Loss(loss), _Rate(throughput), -1.0
        self._stall = _Stall(throughput)
        self._bad = False

    def add(self, record: Mapping[str, Any]) -> Iterator[Alert]:
        """Take a row as series.record returns it; yield what it shows."""
        row = series.numbers(record)
        if row["step"] <= self._step:  # the ranks were started again
            self._loss.go_back(row["step"])
            self._rate.begin()
            self._stall.begin()
        self._step = row["step"]
        value = record.get("loss", "")
        bad = value is None or (isinstance(value, float) and not math.isfinite(value))
        if bad and not self._bad:
            shown = "no finite number" if value is None else str(value)
            yield Alert(NAN, int(row["step"]), f"the loss is {shown} at step {row['step']:.0f}")
        self._bad = bad or (self._bad and "loss" not in row)
        found = (self._loss.add(row), self._rate.add(row))
        yield from (alert for alert in found if alert is not None)

    def came(self, now: float) -> None:
        """Take down when a row came. now: seconds of one clock, the caller's."""
        self._stall.came(now)

    def look(self, now: float, step: int | None, phases: bool = True) -> Alert | None:
        """Tell whether the training stands still, though nothing says so. step: None while it does not train.

        It trains from its first step until it saves, evaluates or has made its last step. phases: whether it
        says so; else it may do anything between two steps.
        """
        return self._stall.look(now, step, phases)

    def ended(self) -> None:
        """Take it that an attempt is over: the first steps of another one may take longer."""
        self._stall.begin()


class _Loss:
    """The loss beside its mean over the rows before, in logarithms, in which its noise has one width.

    Early in a training, and where batches differ, losses far above the mean are normal: so the median of
    the last rows must be above by a multiple of the noise, too.
    """

    def __init__(self, factor: float) -> None:
        self._factor = factor
        self._rows: deque[tuple[float, float]] = deque(maxlen=MEAN + RECENT[-1])  # step, logarithm
        self._usual: float | None = None  # while it is too high: what it was before
        self._since = 0

    def go_back(self, step: float) -> None:
        self._rows = deque((item for item in self._rows if item[0] < step), MEAN + RECENT[-1])

    def add(self, row: series.Row) -> Alert | None:
        loss = row.get("loss", 0.0)
        if loss <= 0 or not self._factor:
            return None
        self._rows.append((row["step"], math.log(loss)))
        logs = [item for _, item in self._rows]
        before = logs[: -RECENT[-1]]
        if self._usual is not None:
            self._since += 1  # rows after those that have shown it
            calm = median(logs[-RECENT[-1] :]) - self._usual < math.log(self._factor) / 2
            self._usual = None if calm and self._since >= RECENT[-1] else self._usual
        elif len(before) >= LEAST:
            usual = _mean(before)
            noise = math.sqrt(_mean([(item - usual) ** 2 for item in before]))
            for count in RECENT:
                above = median(logs[-count:]) - usual
                if above > max(
                    math.log(self._factor), SIGMAS * noise * math.sqrt(1 / count + 1 / len(before))
                ):
                    self._usual, self._since = usual, 0
                    return self._spike(count, usual)
        return None

    def _spike(self, count: int, usual: float) -> Alert:
        rows = [item for item in [*self._rows][-count:] if item[1] > usual + math.log(self._factor)]
        first, level = int(rows[0][0]), math.exp(_mean([item for _, item in rows]))
        before = math.exp(usual)
        factor = f"{level / before:.1f} x its mean before ({before:.4g})"
        text = f"the loss is {level:.4g} since step {first}, {factor}"
        return Alert(SPIKE, first, text)


class _Rate:
    """The throughput of a window beside the best one of the run, in tokens where rows count them.

    Rates leave out saving and the first call, and their median one slow interval.
    """

    def __init__(self, share: float) -> None:
        self._share, self._best, self._told = share, 0.0, False
        self._rows: deque[tuple[float, float, series.Rate]] = deque()  # time, what is compared, the rate
        self._first = True

    def begin(self) -> None:
        """Begin anew with what is beside the best: the first interval of an attempt is none."""
        self._rows.clear()
        self._first = True

    def add(self, row: series.Row) -> Alert | None:
        rate, now = series.rate_of(row), row.get("time")
        first, self._first = self._first, False
        tokens, examples = row.get("interval_tokens", 0.0), row.get("interval_examples", 0.0)
        compared = rate.value * (tokens / examples if tokens > 0 and examples > 0 else 1.0)
        if not 0 < compared < math.inf or now is None or first or not self._share:
            return None
        if self._rows and now < self._rows[-1][0]:  # the clock was set back
            self._rows.clear()
        self._rows.append((now, compared, rate))
        while len(self._rows) > ROWS and now - self._rows[1][0] >= WINDOW:
            self._rows.popleft()
        if len(self._rows) < ROWS or now - self._rows[0][0] < WINDOW:
            return None
        return self._compare(int(row["step"]))

    def _compare(self, step: int) -> Alert | None:
        usual = median(item for _, item, _ in self._rows)
        self._best = max(self._best, usual)
        part = usual / self._best
        if part >= min(1.0, AGAIN * self._share):
            self._told = False
        if part >= self._share or self._told:
            return None
        self._told = True
        rate = median(item.value for _, _, item in self._rows)
        told = f"{rate:.4g} {self._rows[-1][2].unit} at step {step}"
        return Alert(THROUGHPUT, step, f"the throughput is {part:.0%} of this run's best ({told})")


class _Stall:
    """The time since the training last got on, by a step or a row, beside what such times were before.

    It is told after a time in which ROWS rows would have come even at `share` of the usual throughput. Of a
    program that writes no rows or does not tell its phases: after as many times the longest time so far, LONG
    at least, and more than the first step took, as that of a graph that is prepared. Then it takes as many
    rows or steps again to know what is usual.
    """

    def __init__(self, share: float) -> None:
        self._share, self._longest = share, 0.0
        self._row: float | None = None  # when the last one came
        self._step = -1
        self.begin()

    def begin(self) -> None:
        """Begin anew with what is usual: the first steps of an attempt may take longer."""
        self._gaps: deque[float] = deque(maxlen=MEAN)
        self._count = 0  # times that it got on
        self._began: float | None = None  # when the attempt was seen first
        self._first: float | None = None  # seconds from then to the first step
        self._on: float | None = None  # when it last got on

    def came(self, now: float) -> None:
        if self._row is not None:
            self._gaps.append(now - self._row)
        self._row = now
        self._get_on(now)

    def _get_on(self, now: float) -> None:
        if self._on is not None and now > self._on:
            self._longest = max(self._longest, now - self._on)
            self._count += 1
        if self._first is None and self._began is not None:
            self._first = now - self._began
        self._on = now

    def look(self, now: float, step: int | None, phases: bool) -> Alert | None:
        if self._began is None:
            self._began = now
        if step is None:  # a row that comes after a pause tells nothing of what is usual
            self._row, self._on, self._step = None, None, -1
            return None
        if step != self._step or self._on is None:
            self._get_on(now)
            self._step = step
        since = now - (now if self._on is None else self._on)
        if not self._share:
            return None
        if phases and len(self._gaps) >= ROWS:
            return self._beside_rows(since, step)
        return self._beside_longest(since, step) if self._count >= ROWS else None

    def _beside_rows(self, since: float, step: int) -> Alert | None:
        gap = median(self._gaps)
        if since <= max(WINDOW, ROWS * gap / self._share):
            return None
        usual = f"a row usually comes each {_short(gap)}" if gap >= 1 else "rows usually come within a second"
        return self._told(f"no step and no row for {_short(since)} at step {step}; {usual}", step)

    def _beside_longest(self, since: float, step: int) -> Alert | None:
        if since <= max(LONG, ROWS * self._longest / self._share, self._first or 0.0):
            return None
        text = f"no step for {_short(since)} at step {step}"
        return self._told(f"{text}; the longest time between two was {_short(max(1.0, self._longest))}", step)

    def _told(self, text: str, step: int) -> Alert:
        self._gaps.clear()
        self._row, self._count = None, 0
        return Alert(THROUGHPUT, step, text)


class Disk:
    """One disk over time; `name`: a folder on it."""

    def __init__(self, name: str) -> None:
        self._name, self._told = name, False
        self._seen: deque[tuple[float, float]] = deque()  # time, bytes free

    def add(
        self, now: float, free: int, left: float | None, checkpoint: int = 0, saved: int = 0
    ) -> Alert | None:
        """Take a look at it. left: seconds to the end of the run.

        checkpoint: bytes that the next one needs; saved: those of the checkpoints on it, which do not count
        as growth, as a program keeps some and removes the others. Growth must show in both halves of what
        was seen: another's one large file does not go on.
        """
        self._seen.append((now, float(free + saved)))
        while now - self._seen[0][0] > LONGEST:
            self._seen.popleft()
        full = free / self._growth() if self._growth() > 0 else math.inf
        horizon = SOON if left is None else left
        why = ""
        if checkpoint and free < checkpoint:
            why = f"{_size(free)} free, and the next checkpoint needs {_size(checkpoint)}"
        elif full < horizon:
            end = "" if left is None else f", the run ends in {_span(left)}"
            why = f"{_size(free)} free, full in {_span(full)} as it grows now{end}"
        if not why:
            well = free >= AGAIN * checkpoint and full >= AGAIN * horizon
            self._told = self._told and not well
            return None
        if self._told:
            return None
        self._told = True
        return Alert(DISK, None, f"the disk of {self._name}: {why}")

    def _growth(self) -> float:
        """Return the bytes a second by which it fills, in the slower half of what was seen."""
        (begin, free), (end, rest) = self._seen[0], self._seen[-1]
        if end - begin < GROWTH:
            return 0.0
        middle, half = min(self._seen, key=lambda item: abs(item[0] - (begin + end) / 2))
        return min((free - half) / (middle - begin), (half - rest) / (end - middle))


def _mean(values: Sequence[float]) -> float:
    """Return the mean (statistics.fmean is of Python 3.8)."""
    return sum(values) / len(values)


def _size(number: float) -> str:
    return f"{number / (1 << 30):.1f} GiB" if number >= 1 << 30 else f"{number / (1 << 20):.1f} MiB"


def _short(seconds: float) -> str:
    return f"{seconds:.0f} s" if seconds < 180 else _span(seconds)


def _span(seconds: float) -> str:
    return f"{seconds / 3600:.1f} h" if seconds >= 5400 else f"{seconds / 60:.0f} min"


def over(path: Path, loss: float = 1.5, throughput: float = 0.5) -> list[Alert]:
    """Return the alerts of a run by its leading rank's metrics.jsonl. ReadError: it cannot be read."""
    rules = Rules(loss, throughput)
    records = map(series.record, foreign.read_bytes(path, series.LARGEST).split(b"\n"))
    return [alert for record in records if record is not None for alert in rules.add(record)]
