"""Wait for a rank table that the platform is still writing (`"status": "initializing"`)."""

from __future__ import annotations

import json
import os
import time
from typing import Callable

from rank_table import files
from rank_table.errors import RankTableError
from rank_table.table import LONGEST, RankTable, short_integer

MINDCLUSTER = "/user/serverid/devindex/config/hccl.json"
MODELARTS = "/user/config/jobstart_hccl.json"
NAMES = ("hccl.json", "jobstart_hccl.json", "rank_table.json", "ranktable.json")
LIMIT = 1800.0  # seconds; HCCL itself waits as long (HCCL_RANKTABLE_TIMEOUT_S)


class StillWaiting(RankTableError):
    """An expired time limit; the message says what the file contains."""


def resolve(path: str) -> str:
    """Return the file for a path: ModelArts' RANK_TABLE_FILE is the folder of the file."""
    if os.path.isdir(path):
        for name in NAMES:
            if os.path.isfile(os.path.join(path, name)):
                return os.path.join(path, name)
    return path


def wait_for(
    path: str,
    limit: float = LIMIT,
    notify: Callable[[str], None] = lambda line: None,
    poll: float = 1.0,
    clock: Callable[[], float] = time.monotonic,
    sleep: Callable[[float], None] = time.sleep,
) -> tuple[RankTable, str]:
    """Read a table once its status is completed: (table, text of the file).

    A missing, empty or half-written file counts as not completed, for at most `limit` seconds.
    `notify` gets one line when the wait starts.

    Raises:
        StillWaiting: the limit has passed. RankTableError: completed, or not half a text, but no rank table.
    """
    start, told = clock(), False
    while True:
        try:
            text, state = _look(resolve(path))
            if not state:
                return RankTable.loads(text), text
        except RankTableError as error:
            raise RankTableError(f"{path}: {error}") from None
        if clock() - start >= limit:
            raise StillWaiting(f"{path}: {state} after {limit:g} s (expected status completed)")
        if not told:
            notify(f"{path}: {state}; waiting up to {limit:g} s for completed")
            told = True
        sleep(poll)


def _look(path: str) -> tuple[str, str]:
    """Read the file: (text, "") when it is completed, else ("", its state).

    Raises:
        RankTableError: more text would not make it a table, or it is no file.
    """
    if os.path.isdir(path):
        return "", "no table in this folder"
    try:
        text = files.text(path, LONGEST)
    except FileNotFoundError as error:
        return "", files.reason(error)
    except (OSError, ValueError) as error:
        raise RankTableError(files.reason(error)) from None
    if not text.strip():
        return "", "empty"
    try:
        document = json.loads(text, parse_int=short_integer)
    except json.JSONDecodeError as error:
        if error.pos < len(text.rstrip()) - len("false") and not error.msg.startswith("Unterminated"):
            raise RankTableError(f"line {error.lineno} column {error.colno}: {error.msg}") from None
        return "", f"not JSON ({str(error)[:80]})"
    except RecursionError:
        raise RankTableError("nested too deeply for a rank table") from None
    status = document.get("status") if isinstance(document, dict) else None
    if status in ("completed", None):  # without a status there is nothing to wait for
        return text, ""
    return "", f"status {status!s:.40}"
