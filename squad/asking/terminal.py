"""A conversation on a terminal: a passage, then questions about it."""

from __future__ import annotations

import os
import select
import sys
from typing import TYPE_CHECKING, Callable, Iterator

from squad.asking import passages, view
from squad.errors import DataError

if TYPE_CHECKING:
    from squad.answerer import Answerer

_HELP = "  :passage [FILE]  another passage;  :quit  or Ctrl-D  the end;  anything else is a question"
_PASTE = "passage (text, then an empty line or Ctrl-D; or a file)> "
_PAUSE = 0.1  # seconds without a key in which a pasted text has ended
_MORE = "... "
ASK = "question> "
Reader = Callable[[str], str]


class Conversation:
    """Questions are read with `read`, answers printed; `model` waits until it is loaded.

    waiting: tells whether more of the input is there already, as of a text that was pasted.
    """

    def __init__(
        self,
        model: Callable[[], Answerer],
        read: Reader = input,
        waiting: Callable[[], bool] = lambda: False,
    ) -> None:
        self._model, self._read, self._waiting = model, read, waiting
        self._passage = ""

    def run(self, passage: str, question: str) -> None:
        """Ask until the input ends; passage and question are the first ones, or empty."""
        try:
            self._use(passage or self._paste())
            if question:
                self._ask(question)
            while True:
                self._obey(self._read(ASK).strip())
        except EOFError:
            print()
        except _Quit:
            pass

    def _obey(self, line: str) -> None:
        word, _, rest = line.partition(" ")
        if word in (":q", ":quit", ":exit"):
            raise _Quit
        if word in (":passage", ":p"):
            self._switch(rest.strip())
        elif line.startswith(":"):
            print(_HELP)
        elif line:
            self._ask(line)

    def _switch(self, path: str) -> None:
        try:
            self._use(passages.read(path) if path else self._paste())
        except DataError as error:
            print(f"  {view.printable(str(error))}")

    def _use(self, passage: str) -> None:
        self._passage = passage
        print(f"  a passage of {len(passage)} characters; :help lists commands")

    def _paste(self) -> str:
        """Read a passage, or the name of a file. EOFError: the input has ended before it."""
        while True:
            first = self._read(_PASTE)
            if not first.strip():
                continue
            try:
                if os.path.isfile(os.path.expanduser(first.strip())):
                    return passages.read(first.strip())
            except DataError as error:
                print(f"  {view.printable(str(error))}")
                continue
            return "\n".join([first, *self._rest()]).strip()

    def _rest(self) -> Iterator[str]:
        """Yield lines up to an empty one behind which nothing is waiting, or to the end of the input."""
        try:
            line = self._read(_MORE)
            while line.strip() or self._waiting():
                yield line
                line = self._read(_MORE)
        except EOFError:
            print()

    def _ask(self, question: str) -> None:
        model = self._model()
        try:
            answer = model.answer(question, self._passage)
        except DataError as error:
            print(f"  {error}")
            return
        print(*view.show(answer, self._passage, model.settings.threshold, *looks()), sep="\n")


class _Quit(Exception):
    """The user has had enough."""


def line_editor() -> Reader:
    """Return a reader of lines with editing and a history of this conversation, where Python has one."""
    try:
        import readline
    except ImportError:
        return input
    readline.set_auto_history(False)

    def read(prompt: str) -> str:
        line = input(prompt)
        if line.strip() and prompt == ASK:
            readline.add_history(line)
        return line

    return read


def waiting() -> bool:
    """Tell whether the terminal has sent more than was read, or does so within a moment."""
    return bool(select.select([sys.stdin], [], [], _PAUSE)[0])


def looks() -> tuple[int, bool]:
    """Return the columns of the terminal, and whether it shows colours (https://no-color.org)."""
    try:
        columns = os.get_terminal_size(sys.stdout.fileno()).columns
    except (OSError, ValueError):
        return 80, False
    plain = os.environ.get("NO_COLOR") or os.environ.get("TERM") == "dumb"
    return columns or 80, not plain
