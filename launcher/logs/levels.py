"""Tell how serious a line is, by the formats of Python's logging, absl, TensorFlow and CANN."""

from __future__ import annotations

import re

DEBUG, INFO, WARNING, ERROR = 10, 20, 30, 40
NAMES: dict[str, int] = {"debug": DEBUG, "info": INFO, "warning": WARNING, "error": ERROR}

_WORDS: dict[bytes, int] = {
    b"DEBUG": DEBUG,
    b"INFO": INFO,
    b"EVENT": INFO,
    b"WARN": WARNING,
    b"WARNING": WARNING,
    b"ERROR": ERROR,
    b"CRITICAL": ERROR,
    b"FATAL": ERROR,
}
_LETTERS: dict[bytes, int] = {b"D": DEBUG, b"I": INFO, b"W": WARNING, b"E": ERROR, b"F": ERROR}
_HEAD = 96  # bytes in which a level is looked for; a word further on is part of the message
_WORD = re.compile(rb"(?<![A-Za-z_])(DEBUG|INFO|EVENT|WARN(?:ING)?|ERROR|CRITICAL|FATAL)(?![A-Za-z_])")
_LETTER = re.compile(rb"([IWEF])\d{4} \d\d:\d\d:\d\d|.{19,32}: ([IWEF]) ")  # absl; TensorFlow's C++ side
# What Python, the C library and the kernel print without a level.
_PLAIN = re.compile(
    rb"(?:[A-Za-z_][\w.]*(?:Error|Exception|Interrupt|Exit)(?::|$)|Fatal Python error|Segmentation fault|"
    rb"terminate called|Aborted|Killed|Bus error|[\w./-]+: (?:fatal )?error\b)"
)
_TRACEBACK = b"Traceback (most recent call last):"
_BETWEEN = (b" ", b"\t", b"During handling of", b"The above exception")


class LevelTracker:
    """The levels of one stream's lines; those of a traceback belong together."""

    def __init__(self) -> None:
        self._inside = False

    def level_of(self, line: bytes) -> int:
        """Return the level of the next line; a line that names none is INFO."""
        if _TRACEBACK in line:
            self._inside = True
            return ERROR
        if self._inside:
            self._inside = not line or line.startswith(_BETWEEN)
            return ERROR
        return level(line)


def level(line: bytes) -> int:
    """Return the level that a line names; INFO where it names none."""
    match = _WORD.search(line, 0, _HEAD)
    if match:
        return _WORDS[match.group(1)]
    match = _LETTER.match(line)
    if match:
        return _LETTERS[match.group(1) or match.group(2)]
    return ERROR if _PLAIN.match(line) else INFO
