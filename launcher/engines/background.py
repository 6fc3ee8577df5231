"""Run in the background: a process in a session of its own goes on after the caller has returned."""

from __future__ import annotations

import json
import os
import signal
import traceback
from contextlib import suppress
from typing import Callable, Iterable

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
    flush()
    reading, writing = os.pipe()
    try:
        pid = os.fork()
    except OSError as error:
        raise LauncherError(f"--detach: cannot start a process: {error.strerror}") from None
    if pid == 0:
        os.close(reading)
        _background(run, devices, body, writing)
    os.close(writing)
    with os.fdopen(reading, "rb") as stream:
        answer = json.loads(stream.read().decode() or "null")
    if answer != {}:
        os.waitpid(pid, 0)
        raise _error(answer or {})
    return pid


def _error(answer: dict[str, str]) -> LauncherError:
    if answer.get("kind") == "PreflightError":
        return PreflightError(*answer["text"].split("\n"))
    return LauncherError(f"--detach: {answer.get('text', 'the background process ended at once')}")


def _background(run: RunDir, devices: Iterable[int], body: Callable[[], int], writing: int) -> None:
    """Run `body` in the background process; never return."""
    code = LauncherError.exit_code
    try:
        os.setsid()
        signal.signal(signal.SIGHUP, signal.SIG_IGN)  # as under nohup: the run outlives its terminal
        _redirect(str(run.logs / "console.log"))
        with hold(devices, run):
            os.write(writing, b"{}")
            os.close(writing)
            writing = -1
            code = body()
    except LauncherError as error:
        code = error.exit_code
        _answer(writing, {"kind": type(error).__name__, "text": str(error)})
        echo(*(f"npu-launch: {line}" for line in error.lines), err=True)
    except SystemExit as error:
        code = error.code if isinstance(error.code, int) else 1
    except BaseException as error:
        _answer(writing, {"kind": type(error).__name__, "text": f"{type(error).__name__}: {error}"})
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


def _answer(writing: int, answer: dict[str, str]) -> None:
    if writing >= 0:
        with suppress(OSError):
            os.write(writing, json.dumps(answer).encode())
