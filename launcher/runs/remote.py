"""What the head of a run on several hosts leaves in its folder for other commands, and takes from there.

RANKS_FILE: by rank [host, pid, code or null, last step of training or null, phase]. To get the stacks of
ranks of other hosts, a token is written into ASK; the head answers in a file that has the token in its name.
ASK_STOP ends the run: "stop", or "now" for an end without grace.
"""

from __future__ import annotations

import os
import secrets
import time
from contextlib import suppress
from pathlib import Path
from typing import Mapping, NamedTuple

from launcher import foreign
from launcher.errors import MissingFileError, ReadError, UsageError
from launcher.run_dir import RunDir, write_atomic
from launcher.text import SCHEDULER
from launcher.typed_json import Value

RANKS_FILE = "ranks.json"
ASK, ASK_STOP = ".ask-stacks", ".ask-stop"
_LARGEST = 1 << 28  # bytes
_POLL = 0.05
PATIENCE = 10.0  # seconds for the answer of the head


class RemoteRank(NamedTuple):
    """A rank, as its agent has told the head. code: None while it lives. train_step: None before any."""

    host: str
    pid: int
    code: int | None
    train_step: int | None
    phase: str


def read_ranks(run: RunDir) -> dict[int, RemoteRank]:
    """Read the ranks of a run on several hosts; none for a run on one. ReadError: the file is damaged."""
    try:
        value = foreign.read_json(run.path / RANKS_FILE, _LARGEST)
    except MissingFileError:
        return {}
    return {_number(rank, row): _rank(row) for rank, row in value.members().items()}


def _number(text: str, value: Value) -> int:
    known = text.isdecimal() or text == str(SCHEDULER)
    return int(text) if known else value.refuse(f"rank {text!r:.40}", "a number")


def _rank(row: Value) -> RemoteRank:
    if len(row.items()) != 5:
        row.refuse("no rank", "host, pid, code, step, phase")
    host, pid, code, step, phase = row.items()
    known, train_step = (None if item.value is None else item.whole() for item in (code, step))
    return RemoteRank(host.text(), pid.whole(), known, train_step, phase.text())


def known_ranks(run: RunDir) -> dict[int, RemoteRank]:
    """Read the ranks of a run on several hosts; none where that cannot be read."""
    try:
        return read_ranks(run)
    except ReadError:
        return {}


def answer_path(folder: Path, token: str) -> Path:
    """Return the path of the head's answer."""
    return folder / f".stacks-{token}.json"


def stacks(run: RunDir, patience: float = PATIENCE) -> dict[int, str]:
    """Ask the head for the stacks of all ranks (rank: text); none where it does not answer."""
    token = secrets.token_hex(8)
    write_atomic(run.path / ASK, token.encode())
    path = answer_path(run.path, token)
    end = time.monotonic() + patience
    while time.monotonic() < end:
        try:
            value = foreign.read_json(path, _LARGEST)
        except MissingFileError:
            time.sleep(_POLL)
            continue
        with suppress(OSError):
            os.unlink(str(path))
        return {_number(rank, text): text.text() for rank, text in value.members().items()}
    with suppress(OSError):
        os.unlink(str(run.path / ASK))
    return {}


def ask_to_stop(run: RunDir, now: bool) -> None:
    """Ask the head, on whatever host, to end the run. UsageError: that cannot be written."""
    try:
        write_atomic(run.path / ASK_STOP, b"now" if now else b"stop")
    except OSError as error:
        raise UsageError(f"{run.path / ASK_STOP}: {error.strerror}") from None


def asked_to_stop(folder: Path) -> str:
    """Take a request to end the run: "stop" or "now"; "" when there is none."""
    word = _taken(folder / ASK_STOP)
    return word if word in ("stop", "now") else ""


def asked(folder: Path) -> str:
    """Take the token of somebody who asks for stacks; "" when nobody does."""
    token = _taken(folder / ASK)
    return token if token.isalnum() and len(token) <= 32 else ""


def _taken(path: Path) -> str:
    """Take away a request; "" when there is none."""
    try:
        text = foreign.read_bytes(path).decode("ascii", "replace")
    except ReadError:
        return ""
    with suppress(OSError):
        os.unlink(str(path))
    return text


def answer(run: RunDir, token: str, texts: Mapping[int, str]) -> None:
    """Write the answer."""
    with suppress(OSError):
        run.write_json(answer_path(run.path, token), {str(rank): text for rank, text in texts.items()})
