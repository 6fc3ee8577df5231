"""The folder in which the processes of one run meet that came up by themselves.

`head` holds the head's word: the folder of its present attempt, or `over CODE`; `beat` holds a number that
grows while the head lives; `came-I` is there when host I is, `left-I` when it has read that it is over.
`hccl.json` is the rank table as MindCluster writes one: {"status": "initializing"} until all hosts have told
of their devices.
"""

from __future__ import annotations

import os
import select
import shutil
import subprocess
import threading
import time
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, Callable, Iterator, Mapping, Sequence

from launcher.diagnosis.verdict import LOST_EXIT_CODE
from launcher.errors import LauncherError, PreflightError
from launcher.hosts.folder_channel import FolderTransport, Pace
from launcher.hosts.folder_files import read_word, write_word
from launcher.process.itself import PROGRAM
from launcher.process.signals import ENDING, FORWARDED, Signals
from launcher.run_dir import write_atomic

BEAT = 2.0  # seconds between two signs of the head's life
FAREWELL = 5.0  # seconds that the head waits for the others to read that it is over


class HeadLostError(LauncherError):
    """A head of which nothing is to be seen any more."""

    exit_code = LOST_EXIT_CODE


class Meeting:
    """One host's view of the folder.

    names: of all hosts; "" for one that names itself. lease: seconds without a sign of the head. patience:
    seconds until there is a first one.
    """

    def __init__(self, folder: Path, index: int, names: Sequence[str], lease: float, patience: float) -> None:
        self.folder, self._index, self._names, self._hosts = folder, index, names, len(names)
        self._lease, self._patience = lease, patience
        self._attempts = 0
        try:
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        except OSError as error:
            raise PreflightError(f"{folder}: {error.strerror}; the hosts meet here: see runs_dir") from None

    # The head's side.

    @contextmanager
    def alive(self) -> Iterator[None]:
        """Give signs of life meanwhile, also where an attempt has ended and the next has not begun."""
        done = threading.Event()

        def beat() -> None:
            number = time.time_ns()
            while True:
                with suppress(OSError):
                    write_word(self.folder / "beat", str(number))
                number += 1
                if done.wait(BEAT):
                    return

        thread = threading.Thread(target=beat, daemon=True)
        thread.start()
        try:
            yield
        finally:
            done.set()
            thread.join()

    def connect(self) -> FolderTransport:
        """Begin an attempt: every host starts its agent; return the transport to them."""
        name = f"{self._attempts}-{os.urandom(4).hex()}"
        self._attempts += 1
        (self.folder / name).mkdir(mode=0o700)
        self._write_table('{"status": "initializing"}\n')
        write_word(self.folder / "head", name)
        return FolderTransport(self.folder / name, self._hosts, self._start(name), self._ordered)

    def _ordered(self, order: Mapping[str, Any]) -> None:
        """Show the table of an order; where all hosts share the head's disk it is in the run folder."""
        with suppress(OSError):
            text = order["table"] or (Path(order["run_dir"]) / "rank_table.json").read_text("utf-8")
            self._write_table(text)

    def _write_table(self, text: str) -> None:
        with suppress(OSError):
            write_atomic(self.folder / "hccl.json", text.encode())

    def over(self, code: int) -> None:
        """Let every host end with this code, then remove the folder.

        For a host that has not come yet the word stays, and nothing else.
        """
        with suppress(OSError):
            write_word(self.folder / "head", f"over {code}")
        end = time.monotonic() + FAREWELL
        others = range(1, self._hosts)
        while any(map(self._stays, others)) and time.monotonic() < end:
            time.sleep(0.05)
        keep = {"head"} if not all(self._has("left", index) for index in others) else set()
        with suppress(OSError):
            for path in self.folder.iterdir():
                if path.name not in keep:
                    shutil.rmtree(str(path), ignore_errors=True)
                    with suppress(OSError):
                        path.unlink()
            self.folder.rmdir()

    def _has(self, word: str, index: int) -> bool:
        return bool(read_word(self.folder / f"{word}-{index}"))

    def _stays(self, index: int) -> bool:
        """Tell whether a host has come and not left."""
        return self._has("came", index) and not self._has("left", index)

    def _start(self, name: str) -> subprocess.Popen[bytes]:
        words = ["agent", f"--folder={self.folder / name}", f"--index={self._index}"]
        name = self._names[self._index]
        environ = {**os.environ, **({"NPU_LAUNCH_HOST_NAME": name} if name else {})}
        return subprocess.Popen([*PROGRAM, *words], stdin=subprocess.DEVNULL, env=environ)

    # The side of the other hosts.

    def follow(self) -> int:
        """Start an agent for each attempt of the head; return its code when it is over.

        Raises:
            PreflightError: nothing of the head is to be seen in the folder. HeadLostError: nothing any more.
        """
        with Signals() as signals:
            with suppress(OSError):
                write_word(self.folder / f"came-{self._index}", "came")
            seen, code = "", 0
            while True:
                word = self._word(seen, signals)
                if word.startswith("signal "):
                    return 128 + int(word.split()[1])
                if word.startswith("over "):
                    with suppress(OSError):
                        write_word(self.folder / f"left-{self._index}", "left")
                    return int(word.split()[1])
                seen = word
                code, number = self._accompany(word, signals)
                if number:
                    return code

    def _word(self, seen: str, signals: Signals) -> str:
        """Wait for another word of the head than the one that was seen, or for a signal."""
        life = _Life(self.folder / "beat", self._lease if seen else self._patience)
        pace = Pace()
        while True:
            word = read_word(self.folder / "head")
            if word and word != seen:
                return word
            number = next((item for item in signals.take() if item in ENDING), 0)
            if number:
                return f"signal {number}"
            if not life.goes_on():
                raise self._silent(bool(seen))
            pace.looked(0.0, False)
            select.select([signals.descriptor], [], [], pace.left())

    def _silent(self, known: bool) -> LauncherError:
        if known:
            return HeadLostError(
                f"host 0 is silent for {self._lease:g} s; ranks here have ended (see {self.folder})"
            )
        return PreflightError(
            f"nothing of host 0 in {self.folder} for {self._patience:g} s: it has not started, or the hosts"
            " see different folders; let runs_dir be on a disk that all of them share"
        )

    def _accompany(self, name: str, signals: Signals) -> tuple[int, int]:
        """Run the agent of an attempt; return its code, and the signal that came meanwhile."""
        child = self._start(name)
        came = 0
        while child.poll() is None:
            select.select([signals.descriptor], [], [], 1.0)
            for number in signals.take():
                if number in ENDING or number in FORWARDED:
                    child.send_signal(number)
                    came = number if number in ENDING else came
        code = child.returncode if child.returncode >= 0 else 128 - child.returncode
        with suppress(OSError):
            write_word(self.folder / name / f"gone-{self._index}", str(code))
        return code, came


class _Life:
    """Whether the number in a file still grows."""

    def __init__(self, path: Path, patience: float, clock: Callable[[], float] = time.monotonic) -> None:
        self._path, self._patience, self._clock = path, patience, clock
        self._last, self._since = "", clock()

    def goes_on(self) -> bool:
        number = read_word(self._path)
        if number != self._last:
            self._last, self._since = number, self._clock()
        return self._clock() - self._since < self._patience
