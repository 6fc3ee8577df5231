"""Signals as bytes on a pipe: the handlers do nothing, the loop reads the pipe (set_wakeup_fd)."""

from __future__ import annotations

import os
import signal
from contextlib import ExitStack, contextmanager, suppress
from typing import Any, Iterable, Iterator

ENDING = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGQUIT)
FORWARDED = (signal.SIGUSR1, signal.SIGUSR2)
WATCHED = (*ENDING, *FORWARDED, signal.SIGTSTP, signal.SIGCONT, signal.SIGCHLD)


@contextmanager
def handled(numbers: Iterable[int], handler: Any) -> Iterator[None]:
    """Handle signals meanwhile, then as before.

    One that would end the launcher, but was ignored when it started, stays ignored, as nohup and `&` request.
    """
    before: dict[int, Any] = {}
    try:
        for number in numbers:
            if number not in ENDING or signal.getsignal(number) is not signal.SIG_IGN:
                before[number] = signal.signal(number, handler)
        yield
    finally:
        for number, earlier in before.items():
            signal.signal(number, earlier if earlier is not None else signal.SIG_DFL)


class Signals:
    """The signals that have come since `with` began; `descriptor` is readable when there are any."""

    def __init__(self) -> None:
        self.descriptor = -1
        self._undo = ExitStack()

    def __enter__(self) -> Signals:
        self.descriptor, writing = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)
        self._undo.callback(os.close, writing)
        self._undo.callback(os.close, self.descriptor)
        self._undo.callback(signal.set_wakeup_fd, signal.set_wakeup_fd(writing, warn_on_full_buffer=False))
        self._undo.enter_context(handled(WATCHED, _nothing))
        # With `stty tostop` a terminal would stop a launcher in the background, and the ranks' output.
        self._undo.enter_context(handled([signal.SIGTTOU], signal.SIG_IGN))
        signal.pthread_sigmask(signal.SIG_UNBLOCK, WATCHED)
        return self

    def __exit__(self, *about: object) -> None:
        self._undo.close()

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
