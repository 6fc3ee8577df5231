"""Notice SIGTERM and SIGUSR1 (the time limit is near), so that training can save and end.

The main thread is inside TensorFlow nearly all the time, where Python runs no signal handler. So a thread
notices the signal through Python's wake-up descriptor: it sets a flag for the loop, and if the current step
never ends after SIGTERM, because another rank is dead, it ends the process.
"""

from __future__ import annotations

import os
import signal
import sys
import threading
import time
from types import TracebackType
from typing import Any, Sequence

EXIT_CODE = 128 + signal.SIGTERM
AGAIN = 75  # EX_TEMPFAIL of sysexits.h: saved because of SIGUSR1; a batch script requeues the job
_PATIENCE = 5.0  # the least seconds after which a step counts as one that never ends


def leave_on_usr1() -> None:
    """End with AGAIN on SIGUSR1, until and after a StopRequest: outside training nothing is to be saved."""

    def leave(number: int, frame: object) -> None:
        print("SIGUSR1: nothing to save now; start the same command again", file=sys.stderr, flush=True)
        sys.exit(AGAIN)

    signal.signal(signal.SIGUSR1, leave)


def code_of(signals: Sequence[int]) -> tuple[str, int]:
    """Choose what stopped the ranks, from what each has received (0: nothing): (name, exit code)."""
    if signal.SIGTERM in signals or signal.SIGUSR1 not in signals:
        return "SIGTERM", EXIT_CODE
    return "SIGUSR1", AGAIN


class StopRequest:
    """A watch for SIGTERM and SIGUSR1 while the block runs; outside the main thread it does nothing."""

    def __init__(self) -> None:
        self.requested = 0  # the signal; SIGTERM replaces SIGUSR1
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
            self._handlers = {
                number: signal.signal(number, lambda *_: None) for number in (signal.SIGTERM, signal.SIGUSR1)
            }
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
            for number, handler in self._handlers.items():
                signal.signal(number, handler)
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
                if data[0] == signal.SIGUSR1:
                    self.requested = self.requested or signal.SIGUSR1
                elif data[0] == signal.SIGTERM and self.requested != signal.SIGTERM:
                    self.requested = signal.SIGTERM
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
