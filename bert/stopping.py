"""Notice SIGTERM, so that training can save and end.

The main thread is inside TensorFlow nearly all the time, where Python runs no signal handler. So a thread
notices the signal through Python's wake-up descriptor: it sets a flag for the loop, and if the current step
never ends because another rank is dead, it ends the process.
"""

from __future__ import annotations

import os
import signal
import sys
import threading
import time
from types import TracebackType
from typing import Any

EXIT_CODE = 128 + signal.SIGTERM
_PATIENCE = 5.0  # the least seconds after which a step counts as one that never ends


class StopRequest:
    """A watch for SIGTERM while the block runs; outside the main thread it does nothing."""

    def __init__(self) -> None:
        self.requested = False
        self._installed = threading.current_thread() is threading.main_thread()
        self._over = False
        self._busy_since: float | None = None  # None: not inside a step
        self._longest = 0.0
        self._steps = 0

    def __enter__(self) -> StopRequest:
        if self._installed:
            self._read, self._write = os.pipe()
            os.set_blocking(self._write, False)
            self._descriptor = signal.set_wakeup_fd(self._write)
            self._handler = signal.signal(signal.SIGTERM, lambda number, frame: None)
            threading.Thread(target=self._watch, args=(self._read,), daemon=True).start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._over = True
        if self._installed:
            signal.set_wakeup_fd(self._descriptor)
            signal.signal(signal.SIGTERM, self._handler)
            os.close(self._write)  # the thread reads the end of the file, and ends

    def call(self, run: Any, *arguments: Any) -> Any:
        """Call run(*arguments), which may wait for other ranks."""
        begin = time.monotonic()
        self._busy_since = begin
        try:
            return run(*arguments)
        finally:
            self._busy_since = None
            if self._steps:  # not the first one, which also prepares the graph
                self._longest = max(self._longest, time.monotonic() - begin)
            self._steps += 1

    def _watch(self, descriptor: int) -> None:
        with os.fdopen(descriptor, "rb", buffering=0) as stream:
            while True:
                data = stream.read(1)
                if not data:
                    return
                if data[0] == signal.SIGTERM and not self.requested:
                    self.requested = True
                    threading.Thread(target=self._end_if_stuck, daemon=True).start()

    def _end_if_stuck(self) -> None:
        """Exit without saving if the current call does not end: it waits for a rank that is dead."""
        noticed = time.monotonic()
        while not self._over:
            since, patience = self._busy_since, max(_PATIENCE, 3 * self._longest)
            if since is not None and time.monotonic() - max(since, noticed) > patience:
                text = "SIGTERM: the current step does not end; exiting without a checkpoint"
                print(text, file=sys.stderr, flush=True)
                os._exit(EXIT_CODE)
            time.sleep(0.1)
