"""Report how far a loop over data is, on a terminal."""

from __future__ import annotations

from contextlib import contextmanager
from typing import Callable, Iterator, TextIO

from bert.bar import Bar

Progress = Callable[[int, int], None]  # (done, of how many)


@contextmanager
def progress_bar(what: str, stream: TextIO | None = None) -> Iterator[Progress]:
    """Show a bar on a terminal while the block runs; yield what moves it."""
    bar = Bar(what, stream=stream)
    try:
        yield bar.show
    finally:
        bar.close()
