"""Is the disk of the run folders shared? The head writes a token there, and each agent looks for it.

A client of NFS may go on believing for a while that a new file does not exist (acdirmax in nfs(5)): an agent
looks again for some time, unless its folder is on a disk that no other host can write to.
"""

from __future__ import annotations

import os
import secrets
import time
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Mapping

from launcher import foreign
from launcher.errors import ReadError, UsageError
from launcher.process import mounts
from launcher.run_dir import write_atomic
from launcher.text import some
from launcher.typed_json import Value

PATIENCE = 2.0  # seconds
_PAUSE = 0.1
_NAME, _FORGOTTEN = ".npu-launch-probe-", 3600.0  # seconds, after which a token is a killed head's


class Probe:
    """A token in the folder of the runs; it is removed at the end of `with`.

    Raises:
        UsageError: the folder cannot be written to.
    """

    def __init__(self, runs_dir: Path) -> None:
        self.token = secrets.token_hex(16)
        self.path = runs_dir / f"{_NAME}{self.token}"

    def __enter__(self) -> Probe:
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            _sweep(self.path.parent)
            write_atomic(self.path, self.token.encode())
        except OSError as error:
            raise UsageError(f"runs_dir: {self.path.parent}: {error.strerror}") from None
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        with suppress(OSError):
            os.unlink(str(self.path))

    def body(self) -> dict[str, str]:
        """Return the body of the frame `probe`."""
        return {"path": str(self.path), "token": self.token}


def _sweep(folder: Path) -> None:
    """Remove the tokens of heads that were killed."""
    for path in folder.glob(_NAME + "*"):
        with suppress(OSError):
            if time.time() - path.lstat().st_mtime > _FORGOTTEN:
                path.unlink()


def sees(body: object, patience: float = PATIENCE) -> bool:
    """Tell on an agent's host whether the token of a `probe` is there. ReadError: it is no probe's body."""
    value = Value(body, "probe")
    path, token = Path(value.get("path").text()), value.get("token").text()
    end = time.monotonic() + (0.0 if is_own(str(path.parent)) else patience)
    while not _holds(path, token):
        if time.monotonic() >= end:
            return False
        time.sleep(_PAUSE)
    return True


def _holds(path: Path, token: str) -> bool:
    with suppress(OSError):
        os.scandir(str(path.parent)).close()  # opening a folder makes NFS ask for its state
    try:
        return foreign.read_bytes(path) == token.encode()
    except ReadError:
        return False


def is_own(folder: str) -> bool:
    """Tell whether no other host can write to a folder, or to the one where it would appear."""
    while not os.path.isdir(folder) and folder != os.path.dirname(folder):
        folder = os.path.dirname(folder)
    return _kind(folder) in mounts.OWN


def _kind(folder: str) -> str:
    return mounts.mount_of(os.path.realpath(folder))[1]


def answer(runs_dir: str, seen: Mapping[str, bool]) -> str:
    """Return the note of the plan: which hosts share the disk of the runs. seen: by the name of the host."""
    alone = [name for name, sees_it in seen.items() if not sees_it]
    if not alone:
        return f"disk: {runs_dir} is shared by all {len(seen)} hosts"
    has = "has a run folder of its own" if len(alone) == 1 else "have run folders of their own"
    which = "no host shares" if len(alone) == len(seen) else "not every host shares"
    todo = "logs, checkpoints and files of `gather:` are brought here"
    return f"disk: {which} {runs_dir}: {some(alone)} {has}; {todo}"
