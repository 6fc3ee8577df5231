"""Run in the background: a process in a session of its own goes on after the caller has returned."""

from __future__ import annotations

import json
import os
import signal
import traceback
from contextlib import suppress
from typing import Any, Callable, Iterable, Mapping

from launcher.errors import LauncherError, PreflightError
from launcher.output import echo, flush
from launcher.run_dir import RunDir
from launcher.runs.locks import hold


def start(run: RunDir, devices: Iterable[int], body: Callable[[], int]) -> int:
    """Run `body` in the background, holding the devices; return its pid once it holds them.

    Its output goes to logs/console.log, `npu-launch logs --follow` shows it, `npu-launch stop` ends it, and
    its exit code is written to result.json. `body` runs in the main thread of a process without a terminal.

    Raises:
        PreflightError: a device is in use. LauncherError: the background process ended before the run began.
    """

    def work(begun: Callable[[RunDir], None]) -> int:
        with hold(devices, run):
            begun(run)
            return body()

    return start_work(work)


def start_work(work: Callable[[Callable[[RunDir], None]], int]) -> int:
    """Run `work` in the background; return its pid once it has called what it gets, with its run folder.

    Raises:
        LauncherError: what `work` raised before, with its exit code.
    """
    flush()
    reading, writing = os.pipe()
    try:
        pid = os.fork()
    except OSError as error:
        raise LauncherError(f"--detach: cannot start a process: {error.strerror}") from None
    if pid == 0:
        os.close(reading)
        _background(work, writing)
    os.close(writing)
    try:
        with os.fdopen(reading, "rb") as stream:
            answer = json.loads(stream.read().decode() or "null")
    except KeyboardInterrupt:
        os.kill(pid, signal.SIGTERM)
        os.waitpid(pid, 0)
        raise
    if answer != {}:
        os.waitpid(pid, 0)
        raise _error(answer or {})
    return pid


def _error(answer: Mapping[str, Any]) -> LauncherError:
    lines = answer.get("lines", ["--detach: the background process ended at once"])
    code = answer.get("code", LauncherError.exit_code)
    error = PreflightError(*lines) if code == PreflightError.exit_code else LauncherError(*lines)
    error.exit_code = code
    return error


def _background(work: Callable[[Callable[[RunDir], None]], int], writing: int) -> None:
    """Run `work` in the background process; never return."""
    code, waits = LauncherError.exit_code, [writing]

    def begun(run: RunDir) -> None:
        _redirect(str(run.logs / "console.log"))
        _answer(waits, {})

    try:
        os.setsid()
        signal.signal(signal.SIGHUP, signal.SIG_IGN)  # as under nohup: the run outlives its terminal
        code = work(begun)
    except LauncherError as error:
        code = error.exit_code
        if not _answer(waits, {"code": code, "lines": list(error.lines)}):
            echo(*(f"npu-launch: {line}" for line in error.lines), err=True)
    except SystemExit as error:
        code = error.code if isinstance(error.code, int) else 1
    except BaseException as error:
        _answer(waits, {"lines": [f"--detach: {type(error).__name__}: {error}"]})
        echo(*traceback.format_exc().splitlines(), err=True)
    finally:
        flush()
        os._exit(code)


def _redirect(log: str) -> None:
    null = os.open(os.devnull, os.O_RDONLY)
    out = os.open(log, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
    for target, source in ((0, null), (1, out), (2, out)):
        os.dup2(source, target)
    os.close(null)
    os.close(out)


def _answer(waits: list[int], answer: dict[str, Any]) -> bool:
    """Answer whoever waits, once; tell whether somebody did."""
    if not waits:
        return False
    with suppress(OSError):
        os.write(waits[0], json.dumps(answer).encode())
    os.close(waits.pop())
    return True
