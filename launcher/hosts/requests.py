"""Requests that other commands make of the head, through files in the run folder."""

from __future__ import annotations

import os
from typing import Mapping

from launcher.run_dir import RunDir
from launcher.runs import remote


class Requests:
    """The requests of one run. `token`: of the one that waits for an answer, "" for none."""

    def __init__(self, run: RunDir) -> None:
        self._run, self._ask, self._stop = run, str(run.path / remote.ASK), str(run.path / remote.ASK_STOP)
        self.token = ""

    def look(self) -> bool:
        """Tell whether there is a new request."""
        if self.token or not os.path.lexists(self._ask):
            return False
        self.token = remote.asked(self._run.path)
        return bool(self.token)

    def stop(self) -> str:
        """Return how the run is to end, as somebody asks for: "stop" or "now"; "" for not at all."""
        return remote.asked_to_stop(self._run.path) if os.path.lexists(self._stop) else ""

    def answer(self, texts: Mapping[int, str]) -> None:
        """Answer the request."""
        token, self.token = self.token, ""
        remote.answer(self._run, token, texts)
