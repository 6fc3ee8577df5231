"""A progress bar on a terminal; nothing in a log file. Without TensorFlow, as data is loaded before it."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, TextIO

if TYPE_CHECKING:
    from rich.progress import Progress


class Bar:
    """A progress bar on a stream, by default stderr, if that is a terminal; else it does nothing."""

    def __init__(
        self, what: str, total: int | None = None, start: int = 0, stream: TextIO | None = None
    ) -> None:
        stream = sys.stderr if stream is None else stream
        self._bar: Progress | None = None
        if not stream.isatty():
            return
        from rich.console import Console
        from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

        columns = (TextColumn(what), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
        self._bar = Progress(*columns, console=Console(file=stream), transient=True)
        self._task = self._bar.add_task(what, total=total, completed=start)
        self._bar.start()

    def show(self, done: int, total: int | None = None) -> None:
        """Move the bar; a total replaces the one given before."""
        if self._bar:
            self._bar.update(self._task, completed=done, total=total)

    def close(self) -> None:
        """Remove the bar."""
        if self._bar:
            self._bar.stop()
