"""Programs in processes forked from a server that has imported TensorFlow, which takes four seconds."""

from __future__ import annotations

import atexit
import multiprocessing
import os
import runpy
import sys
import time
import traceback
from pathlib import Path
from typing import Any, Mapping, Sequence

PRELOAD = ["tests.bert.runs"]


def context() -> Any:
    """Return a context of multiprocessing whose processes are forked from the server."""
    os.environ["PYTHONPATH"] = os.pathsep.join(filter(None, sys.path))  # the server's
    made = multiprocessing.get_context("forkserver")
    made.set_forkserver_preload(PRELOAD)
    return made


class Forked:
    """A program that runs in a forked process; much like Popen with its output in a file."""

    def __init__(self, words: Sequence[str], cwd: Path, env: Mapping[str, str], output: Path) -> None:
        self._output = output
        output.write_bytes(b"")
        given = (list(map(str, words)), str(cwd), dict(env), str(output))
        self._process = context().Process(target=_run, args=given, daemon=True)
        self._process.start()
        self.pid: int = self._process.pid

    def wait(self, timeout: float) -> int:
        """Return the exit code; a program that takes longer is killed."""
        self._process.join(timeout)
        if self._process.is_alive():
            self.kill()
            raise TimeoutError(f"still running after {timeout} seconds:\n{self.text()}")
        return int(self._process.exitcode)

    def kill(self) -> None:
        """Kill what still runs."""
        if self._process.is_alive():
            self._process.kill()
        self._process.join()

    def text(self) -> str:
        """Return what it has written."""
        return self._output.read_text(encoding="utf-8", errors="replace")


def wait_all(programs: Sequence[Forked], timeout: float = 240) -> list[int]:
    """Return the exit codes of programs that run at the same time; none is left running."""
    end = time.monotonic() + timeout
    try:
        return [program.wait(max(0.0, end - time.monotonic())) for program in programs]
    finally:
        for program in programs:
            program.kill()


def _run(words: list[str], cwd: str, env: dict[str, str], output: str) -> None:
    """Run a script as `python WORDS` would."""
    log = os.open(output, os.O_WRONLY | os.O_APPEND)
    os.dup2(log, 1)
    os.dup2(log, 2)
    os.environ.clear()
    os.environ.update(env)
    os.chdir(cwd)
    sys.argv = words
    sys.path[:0] = [os.path.dirname(words[0]), *env.get("PYTHONPATH", "").split(os.pathsep)]
    try:
        runpy.run_path(words[0], run_name="__main__")
    except SystemExit:
        raise
    except BaseException:
        traceback.print_exc()
        sys.exit(1)
    finally:
        atexit._run_exitfuncs()  # the program's, and coverage's, which writes its file
