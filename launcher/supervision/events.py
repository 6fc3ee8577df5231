"""What happened in a run: events.jsonl for programs, launcher.log and the console for people.

A line of events.jsonl is {"time": seconds since the epoch, "event": its name, "rank": a number or null,
"data": {...}}; the rank -1 is MindSpore's scheduler, which has none. In a run of several hosts "host" names
the one that a line comes from, unless it is the head's own, and "time" is on the head's clock. `Event` lists
the names and the data of each; `python -m launcher.supervision.events` prints them as the table of
docs/reference.md. Fields may be added later; none changes its meaning.
"""

from __future__ import annotations

import enum
import json
import os
import time
from collections import deque
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Collection, Iterator, Mapping, NamedTuple

from launcher.errors import describe
from launcher.process import procfs
from launcher.run_dir import AppendedFile, RunDir
from launcher.ui.console import Console

if TYPE_CHECKING:  # loaded where a job names a command
    from launcher.supervision.hook import Hook


class Field(NamedTuple):
    """A field of an event's data. `kind` is a key of KINDS."""

    kind: str
    meaning: str


SCHEMA = 4  # 1: no `schema` in `run`, no "host"; `straggler`: up to 2 steps alone, up to 3 no `ranks`
VERDICTS = 100  # of a run that are kept for its end
KINDS: Mapping[str, tuple[type, ...]] = {
    "int": (int,),
    "number": (int, float),
    "text": (str,),
    "int or null": (int, type(None)),
    "list of int": (list,),
}
_START = Field("int", "its start in clock ticks since boot, as pids are used again")
_SYMPTOM = Field("text", "what was observed")


class Event(str, enum.Enum):
    """The name of an event: what it means, whether it concerns one rank (None: it may), its data."""

    meaning: str
    of_rank: bool | None
    fields: Mapping[str, Field]

    def __new__(cls, name: str, of_rank: bool | None, meaning: str, fields: Mapping[str, Field]) -> Event:
        event = str.__new__(cls, name)
        event._value_ = name
        event.of_rank, event.meaning, event.fields = of_rank, meaning, fields
        return event

    RUN = (
        "run", False, "the launcher begins",
        {
            "pid": Field("int", "process of the launcher"),
            "start": _START,
            "run_id": Field("text", "id of the run"),
            "schema": Field("int", "version of this schema"),
        },
    )  # fmt: skip
    STARTED = (
        "started", True, "the program of a rank runs",
        {"pid": Field("int", "process of the rank"), "start": _START},
    )  # fmt: skip
    NOT_STARTED = (
        "not_started", True, "a rank could not be started",
        {"error": Field("text", "the reason")},
    )  # fmt: skip
    ENDED = (
        "ended", True, "the process of a rank ended",
        {
            "code": Field("int", "its exit code; -n: killed by signal n"),
            "seconds": Field("number", "how long it ran"),
        },
    )  # fmt: skip
    STRAGGLER = (
        "straggler", None,
        "something makes the run slow, its cost has changed by 0.05, or it is over; the last one holds",
        {
            "kind": Field("text", "`slow rank`, `slow input`, `slow collective` or `slower than before`"),
            "ranks": Field("list of int", "the slow ranks, one alone as `rank`, too; none: it is the run's"),
            "cost": Field("number", "part of the run's time that would go without it; 0: it is over"),
            "since": Field("int", "the step of the training since when"),
            "text": Field("text", "what a person reads"),
        },
    )  # fmt: skip
    ALERT = (
        "alert", False, "the run goes on, but not as it should; again only when all was well in between",
        {
            "kind": Field("text", "`nan`, `loss spike`, `throughput`, `disk` or `no progress`"),
            "step": Field("int or null", "of the training, where the alert is about one"),
            "text": Field("text", "what a person reads"),
        },
    )  # fmt: skip
    HUNG = ("hung", True, "no heartbeat or sign of life came within `hang_timeout`", {"detail": _SYMPTOM})
    EXITED_EARLY = (
        "early", True, "a rank exited with 0, and the others were idle for `early_exit_grace`",
        {"detail": _SYMPTOM},
    )  # fmt: skip
    HOST_LOST = (
        "host_lost", False, "nothing comes from a host any more; its ranks count as lost",
        {
            "name": Field("text", "the host"),
            "why": Field("text", "the reason"),
            "ranks": Field("list of int", "its ranks"),
        },
    )  # fmt: skip
    SIGNAL = (
        "signal", False, "the launcher got a signal that ends the run",
        {"signal": Field("text", "its name, such as SIGTERM")},
    )  # fmt: skip
    LAUNCHER_WAS_STOPPED = (
        "launcher_was_stopped", False, "the launcher did not run for a while; no timeout counts that time",
        {"seconds": Field("number", "how long")},
    )  # fmt: skip
    TEARDOWN = (
        "teardown", False, "the launcher ends the ranks: SIGTERM now, SIGKILL after `grace`",
        {"why": Field("text", "the reason"), "ranks": Field("list of int", "ranks still alive")},
    )  # fmt: skip
    SWEPT = (
        "swept", False, "leftover processes of the run were killed",
        {"pids": Field("list of int", "these processes")},
    )  # fmt: skip
    SURVIVORS = (
        "survivors", False, "processes of the run could not be killed",
        {"pids": Field("list of int", "these processes")},
    )  # fmt: skip
    UNREADABLE = (
        "unreadable", True, "a file that the rank wrote cannot be read and is ignored; once for each file",
        {"file": Field("text", "its path"), "why": Field("text", "what is wrong with it")},
    )  # fmt: skip
    RESTART = (
        "restart", False, "the ranks will be started again",
        {"attempt": Field("int", "1 for the first restart")},
    )  # fmt: skip
    END = (
        "end", False, "the launcher is done",
        {
            "exit_code": Field("int", "of the run"),
            "culprit": Field("int or null", "the rank that failed first; -1: the scheduler"),
        },
    )  # fmt: skip


def violations(record: Mapping[str, Any]) -> list[str]:
    """List what is wrong with a line of events.jsonl, as the schema has it."""
    event = next((event for event in Event if event.value == record.get("event")), None)
    if event is None:
        return [f"unknown event {record.get('event')!r}"]
    data = record.get("data")
    wrong = [] if isinstance(record.get("time"), float) else ["time is no number"]
    if event.of_rank is not None and (record.get("rank") is not None) != event.of_rank:
        wrong.append(f"rank must be {'a number' if event.of_rank else 'null'}")
    if not isinstance(data, dict) or set(data) != set(event.fields):
        return [*wrong, f"data must have the fields {', '.join(event.fields)}"]
    return wrong + [
        f"{name} must be {field.kind}, not {data[name]!r}"
        for name, field in event.fields.items()
        if not isinstance(data[name], KINDS[field.kind])
    ]


def reference() -> str:
    """Render the schema as a Markdown table."""
    rows = ["| event | rank | when | data |", "|---|---|---|---|"]
    for event in Event:
        data = [f"`{name}` ({field.kind}): {field.meaning}" for name, field in event.fields.items()]
        rank = {True: "yes", False: "null", None: "or null"}[event.of_rank]
        rows.append(f"| `{event.value}` | {rank} | {event.meaning} | {'<br>'.join(data)} |")
    return "\n".join(rows)


class EventLog:
    """The files in which a run is recorded; a full disk costs lines of them, never the run."""

    def __init__(self, run: RunDir, console: Console, hook: Hook | None = None) -> None:
        self._folder, self._console, self._hook = run, console, hook
        self.alerts: list[dict[str, Any]] = []  # what those of this run hold
        self.verdicts: deque[dict[str, Any]] = deque(maxlen=VERDICTS)  # likewise, the last ones
        self._events, self._log = AppendedFile(run.events), AppendedFile(run.launcher_log)
        self._said: set[object] = set()

    def record(self, event: Event, rank: int | None = None, **data: Any) -> None:
        """Append an event to events.jsonl; `data` holds exactly the event's fields."""
        self._append(self.line(event, rank, data))

    def alert(self, kind: str, step: int | None, text: str) -> None:
        """Tell of something that is not as it should be while the run goes on."""
        self.announce("alert: " + text)
        self.alerts.append({"kind": kind, "step": step, "text": text})
        self.record(Event.ALERT, kind=kind, step=step, text=text)

    def verdict(self, kind: str, ranks: Collection[int], cost: float, since: int, text: str) -> None:
        """Tell what makes the run slow. cost: 0 where that is over."""
        self.announce(f"{'warning: ' if cost else ''}{text}")
        slow, part = sorted(ranks), round(cost, 4)
        self.verdicts.append({"kind": kind, "ranks": slow, "cost": part, "since": since, "text": text})
        rank = slow[0] if len(slow) == 1 else None
        self.record(Event.STRAGGLER, rank, kind=kind, ranks=slow, cost=part, since=since, text=text)

    @staticmethod
    def line(event: Event, rank: int | None, data: Mapping[str, Any]) -> dict[str, Any]:
        """Return what a line of events.jsonl holds."""
        return {"time": time.time(), "event": event.value, "rank": rank, "data": data}

    def begin(self, run_id: str) -> None:
        """Record that this process runs a run."""
        me = os.getpid()
        self.record(Event.RUN, pid=me, start=procfs.start_of(me), run_id=run_id, schema=SCHEMA)

    def forward(self, host: str, line: Mapping[str, Any], ahead: float) -> None:
        """Append an event of a host whose clock is ahead by some seconds."""
        self._append({**line, "time": line["time"] - ahead, "host": host})

    def _append(self, record: Mapping[str, Any]) -> None:
        self._write(self._events, json.dumps(record) + "\n")
        if self._hook is not None:
            with self.surviving("the hook of on_event"):
                self._hook.send(record)

    def announce(self, text: str) -> None:
        """Tell the user, on the console and in launcher.log."""
        self.debug(text)
        self._console.say("npu-launch: " + text)

    def debug(self, text: str) -> None:
        """Write to launcher.log alone."""
        self._write(self._log, f"{time.strftime('%Y-%m-%d %H:%M:%S')} {text}\n")

    def unreadable(self, rank: int, path: Path, why: str) -> None:
        """Name once a file that a rank has left and that cannot be read."""
        if self._first(path):
            self.record(Event.UNREADABLE, rank, file=str(path), why=why)
            self.announce(f"warning: {why}; it is ignored")

    @contextmanager
    def surviving(self, what: str) -> Iterator[None]:
        """Let an exception in a part of the work cost that part alone: it is named once, with its place."""
        try:
            yield
        except Exception as error:
            import traceback

            if self._first((what, type(error))):
                self.announce(f"warning: {what} failed: {describe(error)}")
                self.debug(traceback.format_exc())

    def close(self) -> None:
        """Close the files; name those that have been taken away meanwhile."""
        for path, file in ((self._folder.events, self._events), (self._folder.launcher_log, self._log)):
            if not file.in_place() and self._folder.in_place():
                self._console.say(f"npu-launch: warning: {path}: moved or removed while the run went on")
            file.close()

    def _first(self, key: object) -> bool:
        first = key not in self._said
        self._said.add(key)
        return first

    def _write(self, file: AppendedFile, text: str) -> None:
        file.append(text)
        if file.last_error and self._first(file):
            self._console.say(
                f"npu-launch: warning: {file.last_error}; lines of it are lost, the run goes on"
            )


if __name__ == "__main__":
    print(reference())
