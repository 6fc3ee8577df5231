"""What happens on a host: recorded there, and told to the head."""

from __future__ import annotations

import json
from typing import Any

from launcher.hosts.channel import AgentChannel
from launcher.run_dir import RunDir
from launcher.supervision.events import Event, EventLog
from launcher.ui.console import Console


def silent_console() -> Console:
    """Return a console that shows nothing: lines for a person are the head's to print."""
    return Console(None, quiet=True)


class AgentEvents(EventLog):
    """The events of a host's attempt."""

    def __init__(self, run: RunDir, console: Console, channel: AgentChannel) -> None:
        super().__init__(run, console)
        self._channel = channel

    def record(self, event: Event, rank: int | None = None, **data: Any) -> None:
        line = self.line(event, rank, data)
        self._write(self._events, json.dumps(line) + "\n")
        self._channel.send("event", line)

    def announce(self, text: str) -> None:
        self.debug(text)
        self._channel.send("say", {"text": text})
