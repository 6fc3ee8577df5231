"""The one way out: every line that npu-launch prints is made printable here, whatever name it quotes."""

from __future__ import annotations

import os
import sys
from contextlib import contextmanager, suppress
from typing import IO, Any, Iterator

from launcher.errors import LauncherError
from launcher.text import printable, printable_json


def echo(*lines: str, err: bool = False) -> None:
    """Print lines on stdout, or on stderr; each of them stays one line. None of stderr's faults stops a run.

    Raises:
        BrokenPipeError: nobody reads stdout any more. LauncherError: it cannot be written, as on a full disk.
    """
    _write("".join(printable(line) + "\n" for line in lines), err)


def echo_text(text: str) -> None:
    """Print a document of several lines, such as a table, whose line ends are its own."""
    echo(*text.rstrip("\n").split("\n"))


def echo_json(value: Any) -> None:
    """Print a JSON document for programs."""
    import json  # most commands print none

    echo_document(json.dumps(value, indent=1))


def echo_document(text: str) -> None:
    """Print a JSON document; what a terminal would obey stands in it as the escape of JSON."""
    _write(printable_json(text.rstrip("\n")) + "\n", err=False)


def flush() -> None:
    """Pass on what stdout and stderr still hold, as far as they take it."""
    for stream in (sys.stdout, sys.stderr):
        if stream is not None:
            with suppress(OSError, ValueError):
                stream.flush()


def open_closed_streams() -> None:
    """Open on /dev/null what the caller closed of stdin, stdout, stderr: no other file gets 0, 1 or 2."""
    for descriptor in range(3):
        try:
            os.fstat(descriptor)
        except OSError:
            os.set_inheritable(os.open(os.devnull, os.O_RDWR), True)


def discard(stream: IO[str]) -> None:
    """Let what is left in a stream that cannot be written go nowhere: Python flushes it once more at exit."""
    with suppress(OSError, ValueError):
        os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())


def echo_bytes(data: bytes, flush: bool) -> None:
    """Print on stdout what is printable already. Raises: as `echo`, maybe only when it flushes."""
    with _reported(sys.stdout, False):
        sys.stdout.buffer.write(data)
        if flush:
            sys.stdout.flush()


def _write(text: str, err: bool) -> None:
    stream = sys.stderr if err else sys.stdout
    if stream is None:  # closed before the start: `>&-`
        return
    with _reported(stream, err):
        stream.write(_encodable(text, stream.encoding))
        stream.flush()


@contextmanager
def _reported(stream: IO[str], err: bool) -> Iterator[None]:
    try:
        yield
    except BrokenPipeError:
        if not err:
            raise
    except OSError as error:
        discard(stream)
        if not err:
            raise LauncherError(f"stdout: {error.strerror}") from None


def _encodable(text: str, encoding: str | None) -> str:
    """Write as escapes what the stream's encoding lacks: under LC_ALL=C that is all but ASCII."""
    encoding = encoding or "utf-8"
    return text.encode(encoding, "backslashreplace").decode(encoding)
