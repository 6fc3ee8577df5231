"""Time as the run has it: monotonic, and still while the launcher itself does not run."""

from __future__ import annotations

import time
from typing import Callable

LATE = 1.0  # seconds; a later wake-up means that the launcher was stopped, or the machine slept


class Clock:
    """Count seconds, without those for which the launcher was stopped: no timeout fires for them."""

    def __init__(self, monotonic: Callable[[], float] = time.monotonic) -> None:
        self._monotonic = monotonic
        self._skipped = 0.0

    def now(self) -> float:
        """Give the time in seconds since some moment."""
        return self._monotonic() - self._skipped

    def woke(self, asleep_at: float, timeout: float) -> float:
        """Leave out the time that a wait took beyond its timeout; return the seconds left out."""
        late = self.now() - asleep_at - timeout
        if late < LATE:
            return 0.0
        self._skipped += late
        return late
