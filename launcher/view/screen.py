"""The live view on a terminal: keys, what is shown, the terminal as it was at every end."""

from __future__ import annotations

import os
import select
import shutil
import signal
import sys
import termios
import time
import tty
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Iterator, Sequence

from launcher.process.signals import Signals, handled
from launcher.view import table
from launcher.view.log import LogLines
from launcher.view.looks import RunLooks
from launcher.view.snapshot import RunView

if TYPE_CHECKING:
    from rich.live import Live
    from rich.text import Text

KEYS = {
    "\x1b[A": "up", "\x1bOA": "up", "k": "up", "\x1b[B": "down", "\x1bOB": "down", "j": "down",
    "\r": "enter", "\n": "enter", "\x1b": "back", "\x7f": "back", "\x1b[D": "back", "\x1b[5~": "page up",
    "\x1b[6~": "page down",
}  # fmt: skip
HELP = (
    "up, down, k, j    choose a rank, or a run",
    "enter             its log; of several runs, its ranks",
    "esc, backspace    back",
    "s o w c m r       sort by step (least first), own, wait, CPU, memory, rank",
    "q                 quit; the run goes on",
    "?                 this help",
)


class Screen:
    """What is shown: the list of runs, the ranks of one, or the log of a rank."""

    def __init__(self, runs: Sequence[RunLooks], blocks: str) -> None:
        self._runs, self._blocks = runs, blocks
        self._views: list[RunView] = []
        self._open = 0 if len(runs) == 1 else -1
        self._chosen, self._top, self._sort = 0, 0, "r"
        self._log: LogLines | None = None
        self._helping = False

    def look(self) -> None:
        """Look at what is shown; of several runs at all, as long as none is open."""
        if self._open < 0 or not self._views:
            self._views = [run.look() for run in self._runs]
        else:
            self._views[self._open] = self._runs[self._open].look()

    def press(self, key: str) -> bool:
        """Do what a key asks for; False: quit."""
        if key == "q":
            return False
        if self._helping or key == "?":
            self._helping = not self._helping
        elif key == "back":
            self._back()
        elif self._log is not None:
            return True
        elif key in table.SORTS:
            self._sort = key
        elif key == "enter":
            self._enter()
        else:
            moves = {"up": -1, "down": 1, "page up": -10, "page down": 10}
            self._chosen = max(0, min(self._count() - 1, self._chosen + moves.get(key, 0)))
        return True

    def _count(self) -> int:
        return len(self._views[self._open].ranks if self._open >= 0 else self._views)

    def _enter(self) -> None:
        if self._open < 0:
            self._open, self._chosen = self._chosen, 0
            self.look()
        elif self._count():
            rank = table.in_order(self._views[self._open].ranks, self._sort)[self._chosen].rank
            self._log = LogLines(self._runs[self._open].run, rank)

    def _back(self) -> None:
        if self._log is not None:
            self._log = None
        elif len(self._runs) > 1 and self._open >= 0:
            self._chosen, self._open = self._open, -1

    def lines(self, width: int, height: int) -> tuple[list[str], int]:
        """Return what is shown, and the number of the chosen line; -1: none."""
        foot = "q quit  ? keys  enter log  s step o own w wait c CPU m memory r rank"
        if self._helping:
            return list(HELP)[:height], -1
        if self._log is not None:
            title = f"rank {self._log.rank} of {self._views[self._open].run}: esc back, q quit"
            return [title[:width], *self._log.lines(width, height - 1)], -1
        if self._open < 0:
            above, body = [], table.lines(table.chosen(table.RUNS, self._views, width), self._views)
        else:
            view = self._views[self._open]
            ranks = table.in_order(view.ranks, self._sort)
            above = table.head(view, width, self._blocks)
            body = table.lines(table.chosen(table.COLUMNS, ranks, width), ranks)
        return self._fitted(above, body, foot[:width], height)

    def _fitted(self, above: list[str], body: list[str], foot: str, height: int) -> tuple[list[str], int]:
        """Scroll the rows so that the chosen one is seen."""
        above = above[: max(1, height - 6)] if above else []
        room = max(1, height - len(above) - 2)
        rows = body[1:]
        self._chosen = max(0, min(self._chosen, len(rows) - 1))
        self._top = max(0, min(self._top, self._chosen, len(rows) - room), self._chosen - room + 1)
        shown = [*above, body[0], *rows[self._top : self._top + room], foot]
        return shown[:height], len(above) + 1 + self._chosen - self._top if rows else -1


def keys(data: bytes) -> list[str]:
    """Split what a terminal sent into keys.

    >>> keys(b"s\\x1b[Bq")
    ['s', 'down', 'q']
    """
    text, found = data.decode("utf-8", "replace"), []
    while text:
        length = next((size for size in (4, 3, 1) if text[:size] in KEYS and len(text) >= size), 1)
        found.append(KEYS.get(text[:length], text[:length]))
        text = text[length:]
    return found


class Terminal:
    """The terminal in raw mode on its other screen, drawn by rich; `leave` restores it, however it ends."""

    def __init__(self) -> None:
        from rich.console import Console

        self.descriptor = sys.stdin.fileno()
        self._before = termios.tcgetattr(self.descriptor)
        self._console = Console()
        self._live: Live | None = None

    def enter(self) -> None:
        """Take the terminal; while this is in the background, stop as others do."""
        from rich.live import Live

        while os.tcgetpgrp(self.descriptor) != os.getpgrp():
            os.kill(os.getpid(), signal.SIGSTOP)
        tty.setcbreak(self.descriptor)
        self._live = Live(console=self._console, screen=True, auto_refresh=False)
        self._live.start()

    def leave(self) -> None:
        """Restore the terminal; also where it is gone, or called twice."""
        live, self._live = self._live, None
        try:
            if live is not None:
                with suppress(OSError, ValueError):
                    live.stop()
        finally:
            with suppress(OSError, termios.error):
                termios.tcsetattr(self.descriptor, termios.TCSADRAIN, self._before)

    def draw(self, screen: Screen) -> None:
        """Draw what a screen shows."""
        width, height = shutil.get_terminal_size()
        if self._live is not None and width > 1 and height > 1:
            self._live.update(as_text(*screen.lines(width, height)), refresh=True)


def as_text(lines: Sequence[str], chosen: int) -> Text:
    """Return lines as rich draws them, the chosen one reversed."""
    from rich.text import Text

    text = Text(no_wrap=True, overflow="crop", end="")
    for place, line in enumerate(lines):
        text.append(line + "\n" if place < len(lines) - 1 else line, "reverse" if place == chosen else "")
    return text


def show(runs: Sequence[RunLooks], interval: float) -> int:
    """Show runs until `q` or a signal; return the exit code."""
    blocks = table.BLOCKS if "utf" in (sys.stdout.encoding or "").lower() else table.PLAIN
    screen, terminal = Screen(runs, blocks), Terminal()
    with Signals() as signals, handled([signal.SIGWINCH], lambda number, frame: None):
        screen.look()
        with _taken(terminal):
            return _loop(screen, terminal, signals, interval)


@contextmanager
def _taken(terminal: Terminal) -> Iterator[None]:
    try:
        terminal.enter()
        yield
    finally:
        terminal.leave()


def _loop(screen: Screen, terminal: Terminal, signals: Signals, interval: float) -> int:
    due = time.monotonic() + interval
    while True:
        terminal.draw(screen)
        wait = max(0.0, due - time.monotonic())
        ready = select.select([terminal.descriptor, signals.descriptor], [], [], wait)[0]
        if signals.descriptor in ready:
            ending = _obey(signals.take(), terminal)
            if ending is not None:
                return ending
        if terminal.descriptor in ready:
            data = os.read(terminal.descriptor, 1024)
            if not data or not all(map(screen.press, keys(data))):
                return 0
        if time.monotonic() >= due:
            screen.look()
            due = time.monotonic() + interval


def _obey(numbers: Sequence[int], terminal: Terminal) -> int | None:
    """Return the exit code where signals end the view: Ctrl-C is a way to quit."""
    for number in numbers:
        if number == signal.SIGINT:
            return 0
        if number in (signal.SIGTERM, signal.SIGHUP, signal.SIGQUIT):
            return 128 + number
        if number == signal.SIGTSTP:
            terminal.leave()
            os.kill(os.getpid(), signal.SIGSTOP)
            terminal.enter()
    return None
