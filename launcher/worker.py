"""Run a Python program inside a rank, and leave evidence when it fails. Stdlib only, one file.

    worker.py -m MODULE [ARG ...]      worker.py SCRIPT [ARG ...]

The first thing that an exception does is error.json in the rank's folder, written in one go: a rank that
then hangs in an exit handler has already said why. SIGUSR2... dumps of all stacks go to stacks.txt.
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
from typing import Any, Optional, Type

RANK_DIR = os.environ.get("NPU_LAUNCH_RANK_DIR", "")
DUMP_SIGNAL = signal.SIGRTMIN + 8


def report(kind: Type[BaseException], error: BaseException, trace: Optional[TracebackType], thread: str) -> None:
    """Write error.json, once: the first error is the one that counts."""
    path = os.path.join(RANK_DIR, "error.json")
    if not RANK_DIR or os.path.exists(path):
        return
    try:
        message = str(error)
    except Exception as problem:
        message = "<%s whose message cannot be made: %s>" % (kind.__name__, type(problem).__name__)
    record = {
        "time_ns": int(time.time() * 1e9) if sys.version_info < (3, 7) else time.time_ns(),
        "monotonic_ns": time.monotonic_ns(),
        "rank": int(os.environ.get("RANK_ID", "0")),
        "pid": os.getpid(),
        "type": kind.__name__,
        "message": message,
        "traceback": "".join(traceback.format_exception(kind, None, trace)),
        "thread": thread,
    }
    try:
        with open(path + ".tmp", "w", encoding="utf-8", errors="backslashreplace") as stream:
            json.dump(record, stream)
        os.replace(path + ".tmp", path)
    except OSError:
        pass  # a full disk must not hide the error itself


def _hook(kind: Type[BaseException], error: BaseException, trace: Optional[TracebackType]) -> None:
    report(kind, error, trace, threading.current_thread().name)
    sys.__excepthook__(kind, error, trace)


def _thread_hook(args: Any) -> None:
    if args.exc_type is not SystemExit:
        report(args.exc_type, args.exc_value, args.exc_traceback, getattr(args.thread, "name", "?"))
        sys.__excepthook__(args.exc_type, args.exc_value, args.exc_traceback)


def install() -> None:
    """Install the hooks and the first heartbeat."""
    sys.excepthook = _hook
    if hasattr(threading, "excepthook"):  # Python 3.8
        threading.excepthook = _thread_hook
    faulthandler.enable()
    if RANK_DIR:
        stacks = open(os.path.join(RANK_DIR, "stacks.txt"), "a", encoding="utf-8")
        faulthandler.register(DUMP_SIGNAL, file=stacks, all_threads=True)
        beat = os.path.join(RANK_DIR, "heartbeat.json")
        try:
            with open(beat + ".tmp", "w", encoding="utf-8") as stream:
                json.dump({"step": 0, "phase": "start", "time": time.time()}, stream)
            os.replace(beat + ".tmp", beat)
        except OSError:
            pass


def main() -> None:
    """Run the program as `python -m` or `python SCRIPT` would."""
    install()
    words = sys.argv[1:]
    if words[0] == "-m":
        sys.path[0] = os.environ.get("NPU_LAUNCH_CWD") or os.getcwd()
        sys.argv = words[1:]
        runpy.run_module(words[1], run_name="__main__", alter_sys=True)
    else:
        sys.path[0] = os.path.dirname(os.path.abspath(words[0]))
        sys.argv = words
        runpy.run_path(words[0], run_name="__main__")


if __name__ == "__main__":
    main()
