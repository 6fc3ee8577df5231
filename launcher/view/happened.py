"""What events.jsonl tells of a run while it is appended to."""

from __future__ import annotations

import json
import math
from collections import deque
from typing import Any

from launcher.run_dir import RunDir
from launcher.text import printable
from launcher.view.follow import Growing

ALERTS = 3  # kept
MOST_TEXT = 300


class Happened:
    """The events that the view needs, of the last attempt. Ranks by number."""

    def __init__(self, run: RunDir) -> None:
        self._file = Growing(run.events)
        self.attempt = 1
        self.began: float | None = None
        self.last: float | None = None  # when
        self.pids: dict[int, tuple[int, int]] = {}  # pid, its start
        self.codes: dict[int, int] = {}
        self.straggler: str | None = None
        self.alerts: deque[str] = deque(maxlen=ALERTS)
        self.unread = 0

    def problem(self, over: bool) -> str:
        """Say what is wrong with the file. over: nothing more is to come, so its last line is whole, too."""
        torn = over and self._file.torn
        unread = self.unread + torn
        lines = (
            f"events.jsonl: {unread} line(s) cannot be read{', the last is cut off' * torn}" if unread else ""
        )
        return self._file.problem or lines

    def look(self) -> None:
        """Take what is new."""
        for line in filter(bytes.strip, self._file.look()):
            try:
                self._take(json.loads(line.decode()))
            except (ValueError, TypeError, KeyError, AttributeError, OverflowError, RecursionError):
                self.unread += 1

    def _take(self, event: dict[str, Any]) -> None:
        name, data, when = event["event"], event.get("data"), float(event["time"])
        if not math.isfinite(when) or not isinstance(data, dict):
            raise ValueError(name)
        self.last = when
        if self.began is None:
            self.began = when
        if name in ("started", "ended"):
            rank = int(event["rank"])
        if name == "started":
            self.pids[rank] = int(data["pid"]), int(data.get("start", 0))
            self.codes.pop(rank, None)
        elif name == "ended":
            self.codes[rank] = int(data["code"])
        elif name == "run" or name == "restart":
            self._again(int(data["attempt"]) + 1 if name == "restart" else 1)
        elif name == "straggler":
            cost = data.get("cost", 1)
            self.straggler = _text(data) if cost else None
        elif name == "alert":
            self.alerts.append(_text(data))

    def _again(self, attempt: int) -> None:
        self.attempt = attempt
        self.pids.clear()
        self.codes.clear()
        self.straggler = None


def _text(data: dict[str, Any]) -> str:
    """Return the line that a person reads; of releases before 0.2.0, what there was."""
    text = data.get("text")
    if isinstance(text, str):
        return printable(text[:MOST_TEXT])
    return printable(", ".join(f"{name} {value}" for name, value in data.items())[:MOST_TEXT])
