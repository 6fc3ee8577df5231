"""Signals as bytes on a pipe: the handlers do nothing, the loop reads the pipe (set_wakeup_fd)."""

from __future__ import annotations

import os
import signal
from contextlib import suppress
from types import TracebackType
from typing import Any

ENDING = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGQUIT)
FORWARDED = (signal.SIGUSR1, signal.SIGUSR2)
WATCHED = (*ENDING, *FORWARDED, signal.SIGTSTP, signal.SIGCONT, signal.SIGCHLD)


class Signals:
    """The signals that have come since `with` began; `descriptor` is readable when there are any.

    A signal that was ignored when the launcher started stays ignored, as nohup and `&` request.
    """

    def __init__(self) -> None:
        self.descriptor = self._write = -1
        self._before: dict[int, Any] = {}
        self._wakeup = -1

    def __enter__(self) -> Signals:
        self.descriptor, self._write = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)
        self._wakeup = signal.set_wakeup_fd(self._write, warn_on_full_buffer=False)
        for number in WATCHED:
            if signal.getsignal(number) is not signal.SIG_IGN or number not in ENDING:
                self._before[number] = signal.signal(number, _nothing)
        # With `stty tostop` a terminal would stop a launcher in the background, and the ranks' output.
        self._before[signal.SIGTTOU] = signal.signal(signal.SIGTTOU, signal.SIG_IGN)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, WATCHED)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler if handler is not None else signal.SIG_DFL)
        signal.set_wakeup_fd(self._wakeup)
        os.close(self.descriptor)
        os.close(self._write)

    def take(self) -> list[int]:
        """Return the signals that came since the last call, in order."""
        taken = b""
        with suppress(BlockingIOError):
            while True:
                taken += os.read(self.descriptor, 4096)
        return list(taken)


def name(number: int) -> str:
    """Return the name of a signal: SIGKILL, or `signal 40` when it has none."""
    with suppress(ValueError):
        return signal.Signals(number).name
    return f"signal {number}"


def _nothing(number: int, frame: object) -> None:
    """Do nothing: Python writes to the wakeup descriptor only for signals that have a handler."""
