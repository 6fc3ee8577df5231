"""Run a Python program inside a rank, and leave evidence when it fails. Stdlib only, one file.

    worker.py -m MODULE [ARG ...]      worker.py SCRIPT [ARG ...]

The first thing that an exception does is error.json in the rank's folder, written in one go: a rank that
then hangs in an exit handler has already said why. An exception in another thread, which ends no process,
goes to thread_error.json. DUMP_SIGNAL makes faulthandler write all stacks to stacks.txt.
"""

from __future__ import annotations

import faulthandler
import json
import os
import runpy
import signal
import sys
import threading
import time
import traceback
from types import TracebackType
from typing import Any, Mapping, TextIO

RANK_DIR = os.environ.get("NPU_LAUNCH_RANK_DIR", "")
DUMP_SIGNAL = signal.SIGRTMIN + 8
LONGEST_TEXT = 1 << 15  # characters: an error.json stays below the MiB that its reader takes
_PID = os.getpid()
_OWN_FILES = (os.path.abspath(__file__), os.path.abspath(runpy.__file__), "<frozen runpy>")


def report(error: BaseException, trace: TracebackType | None, thread: str, fatal: bool = True) -> None:
    """Write error.json, or thread_error.json, once: the first error is the one that counts."""
    path = os.path.join(RANK_DIR, "error.json" if fatal else "thread_error.json")
    # A child that was forked inherits the hooks; its errors are not the rank's.
    if not RANK_DIR or os.getpid() != _PID or (os.path.isfile(path) and not os.path.islink(path)):
        return
    record = {
        "time_ns": time.time_ns(),
        "monotonic_ns": time.monotonic_ns(),
        "rank": int(os.environ.get("RANK_ID") or os.environ.get("NPU_LAUNCH_RANK", "0")),
        "pid": _PID,
        "type": type(error).__qualname__,
        "message": shorten(message_of(error)),
        "traceback": shorten(traceback_of(error, trace)),
        "thread": thread,
        "fatal": fatal,
    }
    try:
        write(path, record)
    except OSError:
        pass  # a full disk must not hide the error itself


def shorten(text: str) -> str:
    """Leave out the middle of a text that would make the record too long to read."""
    left_out = len(text) - LONGEST_TEXT
    if left_out <= 0:
        return text
    half = LONGEST_TEXT // 2
    return f"{text[:half]}\n... {left_out} characters left out ...\n{text[-half:]}"


def message_of(error: BaseException) -> str:
    """Return the message of an exception, also of one whose __str__ fails."""
    try:
        return str(error)
    except Exception as problem:
        return f"<message cannot be made: {type(problem).__name__} in __str__>"


def traceback_of(error: BaseException, trace: TracebackType | None) -> str:
    """Format a traceback, with its causes, without the frames of this file."""
    trace = own_frames_off(trace)
    try:
        return "".join(traceback.format_exception(type(error), error, trace))
    except Exception:  # whatever an exception's own methods may do
        return "".join(traceback.format_tb(trace)) + type(error).__name__


def own_frames_off(trace: TracebackType | None) -> TracebackType | None:
    """Leave out the frames that lead from this file to the program."""
    while trace is not None and trace.tb_frame.f_code.co_filename in _OWN_FILES:
        trace = trace.tb_next
    return trace


def _hook(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
    """Print an exception as Python does, from the program's first frame on."""
    trace = own_frames_off(trace)
    sys.__excepthook__(kind, error.with_traceback(trace), trace)


def _thread_hook(args: Any) -> None:
    if args.exc_type is not SystemExit and args.exc_value is not None:
        report(args.exc_value, args.exc_traceback, getattr(args.thread, "name", "?"), fatal=False)
    _print_thread(args)


_print_thread: Any = getattr(threading, "excepthook", None)  # Python 3.8


def _older_thread_hook() -> None:
    """Do what threading.excepthook does, on Python 3.7, which has none."""
    run = threading.Thread.run

    def watched(thread: threading.Thread) -> None:
        try:
            run(thread)
        except Exception as error:
            report(error, error.__traceback__, thread.name, fatal=False)
            raise

    threading.Thread.run = watched  # type: ignore[method-assign,assignment]


def install() -> None:
    """Install the hooks, and write the first heartbeat."""
    sys.excepthook = _hook
    if _print_thread is not None:
        threading.excepthook = _thread_hook
    else:
        _older_thread_hook()
    faulthandler.enable()
    if RANK_DIR:
        try:
            stacks = opened(os.path.join(RANK_DIR, "stacks.txt"), os.O_APPEND)
            faulthandler.register(DUMP_SIGNAL, file=stacks, all_threads=True)
        except OSError:
            pass
        try:
            beat = {"step": 0, "phase": "start", "time": time.time()}
            write(os.path.join(RANK_DIR, "heartbeat.json"), beat)
        except OSError:
            pass


def opened(path: str, flags: int) -> TextIO:
    """Open a file for writing, without waiting for the reader of a FIFO that an earlier attempt has left."""
    flags |= os.O_WRONLY | os.O_CREAT | os.O_NONBLOCK | os.O_NOFOLLOW | os.O_CLOEXEC
    return open(os.open(path, flags, 0o600), "w", encoding="utf-8")


def write(path: str, record: Mapping[str, object]) -> None:
    """Write a JSON file in one go, so that nobody reads half of it."""
    with opened(path + ".tmp", os.O_TRUNC) as stream:
        json.dump(record, stream)
    os.replace(path + ".tmp", path)


def main() -> None:
    """Run the program as `python -m` or `python SCRIPT` would."""
    install()
    try:
        _run(sys.argv[1:])
    except SystemExit as error:
        if error.code not in (None, 0):
            report(error, error.__traceback__, threading.current_thread().name)
        raise
    except BaseException as error:
        report(error, error.__traceback__, threading.current_thread().name)
        raise


def _run(words: list[str]) -> None:
    if words[0] == "-m":
        sys.path[0] = os.environ.get("NPU_LAUNCH_CWD") or os.getcwd()
        sys.argv = words[1:]
        runpy.run_module(words[1], run_name="__main__", alter_sys=True)
    else:
        sys.path[0] = os.path.dirname(os.path.abspath(words[0]))
        sys.argv = words
        runpy.run_path(os.path.abspath(words[0]), run_name="__main__")


if __name__ == "__main__":
    main()
