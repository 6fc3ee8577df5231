"""What is known of a failure: how each rank ended, what it wrote about its error, how the run ended."""

from __future__ import annotations

import base64
import enum
import os
import time
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Mapping, NamedTuple

from launcher import foreign, typed_json
from launcher.diagnosis.exit_codes import signal_of
from launcher.errors import ReadError
from launcher.text import SCHEDULER

LONGEST_TEXT = 1 << 15  # characters that are taken of a message or a traceback


class RankStatus(enum.Enum):
    """How a rank ended; the value is what result.json and the report say."""

    FINISHED = "finished"
    RAISED = "raised"
    EXITED = "exited"  # with a code other than 0, and no exception is known
    SIGNALLED = "signalled"
    OUT_OF_MEMORY = "out of memory"
    HUNG = "hung"
    EXITED_EARLY = "exited early"  # with 0, while the others waited for it
    SILENT = "silent"  # the others timed out waiting for it, and it wrote nothing about it
    VICTIM = "victim"
    TERMINATED = "ended by npu-launch"
    NOT_STARTED = "not started"
    LOST = "lost with its host"


class ErrorRecord(NamedTuple):
    """The content of a rank's error.json. `fatal`: the exception ended the main thread."""

    monotonic_ns: int
    kind: str
    message: str
    traceback: str
    thread: str
    fatal: bool


@dataclass(frozen=True)
class RankEnd:
    """The end of one rank. `code` is -n for signal n, None when the rank did not end."""

    rank: int
    device_id: int
    pid: int = 0
    code: int | None = None
    seconds: float = 0.0  # from the start of the attempt
    ended_ns: int = 0  # monotonic
    status: RankStatus = RankStatus.FINISHED
    error: ErrorRecord | None = None
    thread_error: ErrorRecord | None = None  # in another thread than the main one; does not end the rank
    step: int = 0
    detail: str = ""  # the evidence, as text
    tail: bytes = b""  # the end of its output
    plog: bytes = b""  # the end of what CANN logged of it, where it failed
    host: str = ""  # of a run on several
    peak_bytes: int = 0  # of memory (resident); 0: not known

    @property
    def exit_code(self) -> int:
        """The exit code as a shell reports it: 128 + n for signal n."""
        return 128 - self.code if self.code is not None and self.code < 0 else self.code or 0

    @property
    def signal(self) -> int:
        """The signal that killed it, or a process that it started; 0: none."""
        return signal_of(self.code)

    @property
    def cause_ns(self) -> int:
        """When its failure began, on the monotonic clock."""
        return self.error.monotonic_ns if self.error else self.ended_ns

    def to_json(self) -> dict[str, Any]:
        """Return a JSON value that `from_json` reads, on another host."""
        texts = {name: base64.b64encode(getattr(self, name)).decode() for name in ("tail", "plog")}
        return {**vars(self), **texts, "status": self.status.value}

    @classmethod
    def from_json(cls, document: typed_json.Value) -> RankEnd:
        """Read what `to_json` returned. ReadError: it is something else."""
        at = document.fields(cls)
        try:
            status = RankStatus(at["status"].text())
            tail, plog = (base64.b64decode(at[name].text(), validate=True) for name in ("tail", "plog"))
        except ValueError as error:
            raise ReadError(f"the end of a rank: {error}") from None
        return cls(
            rank=at["rank"].whole(),
            device_id=at["device_id"].whole(),
            pid=at["pid"].whole(),
            code=None if at["code"].value is None else at["code"].whole(),
            seconds=at["seconds"].number(),
            ended_ns=at["ended_ns"].whole(),
            status=status,
            error=_error(at["error"]),
            thread_error=_error(at["thread_error"]),
            step=at["step"].whole(),
            detail=at["detail"].text(),
            tail=tail,
            plog=plog,
            peak_bytes=at["peak_bytes"].whole(),
        )

    def on_clock(self, ahead_ns: int) -> RankEnd:
        """Return the end with times of a clock that the host's is ahead of."""
        errors = {
            name: error._replace(monotonic_ns=error.monotonic_ns - ahead_ns)
            for name in ("error", "thread_error")
            for error in [getattr(self, name)]
            if error is not None
        }
        return replace(self, ended_ns=self.ended_ns and self.ended_ns - ahead_ns, **errors)

    def as_dict(self) -> dict[str, Any]:
        """Return what result.json holds of it."""
        error = self.error
        return {
            "rank": self.rank,
            "device_id": self.device_id,
            "pid": self.pid,
            "state": self.status.value,
            "exit_code": self.exit_code,
            "signal": self.signal or None,
            "seconds": round(self.seconds, 3),
            "step": self.step,
            "detail": self.detail,
            "error": {"type": error.kind, "message": error.message} if error else None,
            **({"host": self.host} if self.host else {}),
            **({"peak_bytes": self.peak_bytes} if self.peak_bytes else {}),
        }


@dataclass(frozen=True)
class Outcome:
    """The end of a run; `report` is the text for a person, "" on success."""

    exit_code: int
    ends: tuple[RankEnd, ...]
    culprit: int | None
    report: str
    attempts: int
    seconds: float
    alerts: tuple[Mapping[str, Any], ...] = ()  # kind, step, text
    verdicts: tuple[Mapping[str, Any], ...] = ()  # on slowness: kind, ranks, cost, since, text

    def as_dict(self) -> dict[str, Any]:
        """Return what result.json holds of it."""
        scheduler = next((end.as_dict() for end in self.ends if end.rank == SCHEDULER), None)
        return {
            "exit_code": self.exit_code,
            "culprit": self.culprit,
            "attempts": self.attempts,
            "seconds": round(self.seconds, 3),
            "alerts": list(map(dict, self.alerts)),
            "verdicts": list(map(dict, self.verdicts)),
            "ends": [end.as_dict() for end in self.ends if end.rank != SCHEDULER],
            **({"scheduler": scheduler} if scheduler else {}),
        }


def _error(value: typed_json.Value) -> ErrorRecord | None:
    """Read an error record, which is written as the list of its fields."""
    if value.value is None:
        return None
    if len(value.items()) != len(ErrorRecord._fields):
        value.refuse("no error", f"a list of {len(ErrorRecord._fields)} fields")
    at, kind, message, traceback, thread, fatal = value.items()
    texts = (kind.text(), message.text(), traceback.text(), thread.text())
    return ErrorRecord(at.whole(), *texts, fatal.flag())


def read_error(path: Path) -> ErrorRecord:
    """Read an error record. ReadError: it is none; MissingFileError: no file."""
    record = foreign.read_record(path)
    raised_at = record.get("monotonic_ns")
    if not 0 <= raised_at.whole() < 1 << 63:
        raised_at.refuse("a number out of range", "nanoseconds of the monotonic clock")
    return ErrorRecord(
        raised_at.whole(),
        shorten(record.get("type").text(), 200),
        shorten(record.get("message").text()),
        shorten(record.get("traceback").text()),
        shorten(record.get("thread", "").text(), 200),
        record.get("fatal", True).flag(),
    )


def read_torch_error(path: Path) -> ErrorRecord:
    """Read what torch's @record writes into TORCHELASTIC_ERROR_FILE; errors as of read_error.

    Source: torch/distributed/elastic/multiprocessing/errors/error_handler.py. It tells whole seconds, so
    when the file was written counts, which is later by less.
    """
    message = foreign.read_record(path).get("message")
    trace = ""
    if isinstance(message.value, dict):
        trace = shorten(message.get("extraInfo", {}).get("py_callstack", "").text())
        message = message.get("message", "")
    kind, colon, text = message.text().partition(": ")
    if not (colon and kind.replace(".", "").isidentifier()):
        kind, text = "", message.text()
    try:
        age_ns = time.time_ns() - os.stat(str(path)).st_mtime_ns
    except OSError as error:
        raise ReadError(f"{path}: {error.strerror}") from None
    return ErrorRecord(time.monotonic_ns() - max(0, age_ns), kind, shorten(text), trace, "", True)


def shorten(text: str, most: int = LONGEST_TEXT) -> str:
    """Leave out the middle of a text that is too long to search and to print."""
    left_out = len(text) - most
    if left_out <= 0:
        return text
    return f"{text[: most // 2]}\n... {left_out} characters left out ...\n{text[-most // 2 :]}"
