"""The clock of a run: monotonic, and paused while the launcher itself does not run."""

from __future__ import annotations

import time
from typing import Callable

LATE = 1.0  # seconds; a wait that ends later means that the launcher was stopped, or the machine slept


class PausableClock:
    """A count of seconds without those in which the launcher was stopped, so that no timeout counts them."""

    def __init__(self, monotonic: Callable[[], float] = time.monotonic) -> None:
        self._monotonic = monotonic
        self._skipped = 0.0

    def now(self) -> float:
        """Return the seconds since an arbitrary moment."""
        return self._monotonic() - self._skipped

    def discount_pause(self, waiting_since: float, timeout: float) -> float:
        """Leave out the time that a wait took beyond its timeout; return those seconds (0: on time)."""
        late = self.now() - waiting_since - timeout
        if late < LATE:
            return 0.0
        self._skipped += late
        return late
