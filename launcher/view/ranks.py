"""One rank, look after look: its files, its process, what happened between two readings."""

from __future__ import annotations

import time
from collections import deque
from typing import Any, Mapping

from launcher.heartbeat import Beat, Counters, read_beat
from launcher.metrics import series
from launcher.process import procfs
from launcher.run_dir import RunDir
from launcher.runs.remote import RemoteRank
from launcher.text import printable
from launcher.view.follow import Changing, last_row, stamp_of
from launcher.view.happened import Happened
from launcher.view.snapshot import RankView
from rank_table.sources.npu_smi import SmiChip

READINGS = 4  # between the oldest and the newest of which shares and rates are taken
NOTHING = Counters(0.0, 0, 0, 0, 0.0, 0.0, 0.0, 0.0)  # counters begin with the training of an attempt


class Pace:
    """The last readings of a rank's counters."""

    def __init__(self) -> None:
        self._kept: deque[Counters] = deque([NOTHING], maxlen=READINGS)

    def take(self, now: Counters) -> None:
        """Take a reading; counters that went back are those of a new attempt."""
        last = self._kept[-1]
        if now.steps < last.steps or _seconds(now) < _seconds(last):
            self._kept = deque([NOTHING], maxlen=READINGS)
        if now.steps > self._kept[-1].steps:
            if len(self._kept) == 1 or self._kept[0] is not NOTHING:
                self._kept.append(now)
            else:
                self._kept = deque([self._kept[-1], now], maxlen=READINGS)  # the mean of the run gave way

    @property
    def made(self) -> tuple[Counters, Counters, float]:
        """Return the oldest and the newest reading, and the seconds that they account for between them."""
        first, last = self._kept[0], self._kept[-1]
        return first, last, _seconds(last) - _seconds(first)

    def steps(self) -> float | None:
        """Compute steps per second. The rank's clock may jump: the counters' own seconds do not."""
        first, last, seconds = self.made
        return (last.steps - first.steps) / seconds if seconds > 0 else None

    def figures(self) -> dict[str, float]:
        """Return the fields of a RankView that come of it."""
        first, last, seconds = self.made
        if seconds <= 0:
            return {}
        found = {
            "own": (last.own_s - first.own_s) / seconds,
            "input": (last.input_s - first.input_s) / seconds,
            "save": (last.save_s - first.save_s) / seconds,
        }
        if last.wait_s is not None and first.wait_s is not None:
            found["wait"] = (last.wait_s - first.wait_s) / seconds
        if last.examples:
            found["examples_per_second"] = (last.examples - first.examples) / seconds
        return found


def _seconds(counters: Counters) -> float:
    return counters.input_s + counters.own_s + counters.save_s + (counters.wait_s or 0.0)


class RankLooks:
    """What is kept of a rank from one look to the next."""

    def __init__(self, run: RunDir, rank: int, host: str | None, device: int | None) -> None:
        self.rank, self._run, self._host, self._device = rank, run, host, device
        self.beat: Changing[Beat] = Changing(run.heartbeat(rank), read_beat)
        self.row: Changing[series.Row] = Changing(run.metrics(rank), last_row)
        self.pace = Pace()
        self._ticks: tuple[int, float] | None = None  # of the processor, when
        self._who = (0, 0)
        self.alive = False

    def look(
        self, happened: Happened, ended: Mapping[str, object], told: RemoteRank | None, over: bool
    ) -> RankView:
        """Look at the rank. ended: its entry in result.json; told: what the head has of it."""
        self.row.look()
        if self.beat.look() and self.beat.value and self.beat.value.counters:
            self.pace.take(self.beat.value.counters)
        usage = self._usage(happened)
        fields: dict[str, Any] = {**self.pace.figures(), **usage, **self._beaten(told)}
        row = self.row.value or {}
        fields["loss"] = row.get("own_loss", row.get("loss"))
        fields["line_age"] = _age(stamp_of(self._run.log(self.rank))[0] / 1e9)
        fields["state"] = self._state(happened, ended, told, over)
        host = self._host or (told.host if told else None)
        return RankView(self.rank, host and printable(host), self._device, **fields)

    @property
    def is_mixed(self) -> bool:
        """Whether its own time holds what it waits for others."""
        counters = self.beat.value.counters if self.beat.value else None
        return counters is not None and counters.wait_s is None

    def _beaten(self, told: RemoteRank | None) -> dict[str, Any]:
        beat = self.beat.value
        if beat is not None:
            phase = printable(beat.phase[:20]) or None
            return {"step": beat.train_step, "phase": phase, "beat_age": _age(self.beat.written)}
        return {"step": told.train_step, "phase": printable(told.phase[:20]) or None} if told else {}

    def _state(
        self, happened: Happened, ended: Mapping[str, object], told: RemoteRank | None, over: bool
    ) -> str:
        state = ended.get("state")
        if isinstance(state, str):
            return printable(state[:20])
        code = happened.codes.get(self.rank, told.code if told else None)
        if code is not None:
            return "finished" if code == 0 else "failed"
        begun = self.rank in happened.pids or bool(told and told.pid)
        if self.alive:
            return "running"
        return ("lost" if over else "running" if told else "ended") if begun else "waiting"

    def _usage(self, happened: Happened) -> dict[str, Any]:
        """Add up its processes where they are of this machine; with one look, since they began."""
        who = happened.pids.get(self.rank, (0, 0))
        if who != self._who:
            self._who, self._ticks = who, None
        top = procfs.read(who[0]) if who[0] > 0 and self.rank not in happened.codes else None
        self.alive = bool(top and top.living and top.start == who[1])
        if top is None or not self.alive:
            return {}
        used, now = procfs.usage(top.pid), time.monotonic()
        before = self._ticks or (0, now - procfs.age(top.start))
        self._ticks = used.ticks, now
        busy = max(0, used.ticks - before[0]) / procfs.TICKS
        return {"cpu": 100 * busy / max(0.01, now - before[1]), "memory": used.resident}


def with_npu(chips: Mapping[int, SmiChip], device: int | None) -> dict[str, Any]:
    """Return the fields that npu-smi knows of a device."""
    chip = chips.get(device) if device is not None else None
    if chip is None:
        return {}
    known: dict[str, float] = {"npu": chip.busy, "npu_memory": chip.used, "npu_memory_total": chip.total}
    known.update({"temperature": chip.temperature, "power": chip.power})
    return {name: value for name, value in known.items() if value >= 0}


def _age(when: float | None) -> float | None:
    """Return how long ago something was; a clock that was set back makes it now."""
    return max(0.0, time.time() - when) if when else None
