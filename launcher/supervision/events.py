"""What happened in a run: events.jsonl for programs, launcher.log and the console for people."""

from __future__ import annotations

import json
import time
from contextlib import suppress
from typing import IO, Any

from launcher.run_dir import RunDir
from launcher.ui.console import Console


class Journal:
    """Write down events; a full disk costs the files, never the run."""

    def __init__(self, run: RunDir, console: Console) -> None:
        self._console = console
        self._events = _append(str(run.events))
        self._log = _append(str(run.launcher_log))

    def event(self, name: str, rank: int | None = None, **data: Any) -> None:
        """Append an event."""
        record: dict[str, Any] = {"time": time.time(), "event": name, "rank": rank, "data": data}
        _write(self._events, json.dumps(record) + "\n")

    def say(self, text: str) -> None:
        """Tell a person, on the console and in launcher.log."""
        _write(self._log, "{} {}\n".format(time.strftime("%Y-%m-%d %H:%M:%S"), text))
        self._console.say("npu-launch: " + text)

    def note(self, text: str) -> None:
        """Write to launcher.log alone."""
        _write(self._log, "{} {}\n".format(time.strftime("%Y-%m-%d %H:%M:%S"), text))

    def close(self) -> None:
        """Close the files."""
        for stream in (self._events, self._log):
            if stream is not None:
                with suppress(OSError):
                    stream.close()


def _append(path: str) -> IO[str] | None:
    with suppress(OSError):
        return open(path, "a", encoding="utf-8", errors="backslashreplace", buffering=1)
    return None


def _write(stream: IO[str] | None, text: str) -> None:
    if stream is not None:
        with suppress(OSError, ValueError):
            stream.write(text)
