"""Run a Python program inside a rank, and leave evidence when it fails. Stdlib only, one file.

    worker.py -m MODULE [ARG ...]      worker.py SCRIPT [ARG ...]

Any program may tell what it does by `from launcher.worker import phase, step, timed`; beats.py watches some:

    for number, batch in enumerate(loader, 1):
        loss = train(batch)
        with timed("wait"):
            reduce_gradients()
        step(number, examples=len(batch), total=1000, loss=loss if number % 10 == 0 else None)

The first thing that an exception does is error.json in the rank's folder, written in one go: a rank that
then hangs in an exit handler has already said why. An exception in another thread, which ends no process,
goes to thread_error.json. DUMP_SIGNAL makes faulthandler write all stacks to stacks.txt.
"""

from __future__ import annotations

import atexit
import faulthandler
import json
import math
import os
import runpy
import signal
import sys
import threading
import time
import traceback
from contextlib import contextmanager, suppress
from importlib.machinery import ModuleSpec, SourceFileLoader
from importlib.util import spec_from_file_location
from types import CodeType, ModuleType, TracebackType
from typing import Any, Iterator, Mapping, TextIO

RANK_DIR = os.environ.get("NPU_LAUNCH_RANK_DIR", "")
DUMP_SIGNAL = signal.SIGRTMIN + 8
LONGEST_TEXT = 1 << 15  # characters: an error.json stays below the MiB that its reader takes
_PID = os.getpid()
_GAP = 0.02, 1.0  # seconds between two beats, at least and at most: short steps must not become slow by them;
_EASE = 500  # between these, so many times as long as a beat takes, as on a disk that hosts share
_FOLDER, _NAME = os.path.split(os.path.abspath(__file__))  # Python removes __file__ before atexit's functions
_OWN_FILES = (os.path.join(_FOLDER, _NAME), os.path.abspath(runpy.__file__), "<frozen runpy>")


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
    with suppress(OSError):  # a full disk must not hide the error itself
        write(path, record)


def shorten(text: str) -> str:
    """Leave out the middle of a text that would make the record too long to read."""
    left_out, half = len(text) - LONGEST_TEXT, LONGEST_TEXT // 2
    if left_out <= 0:
        return text
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
        with suppress(OSError):
            stacks = opened(os.path.join(RANK_DIR, "stacks.txt"), os.O_APPEND)
            faulthandler.register(DUMP_SIGNAL, file=stacks, all_threads=True)
        with suppress(OSError):
            beat = {"step": 0, "phase": "start", "time": time.time()}
            write(os.path.join(RANK_DIR, "heartbeat.json"), beat)


def opened(path: str, flags: int) -> TextIO:
    """Open a file for writing, without waiting for the reader of a FIFO that an earlier attempt has left."""
    flags |= os.O_WRONLY | os.O_CREAT | os.O_NONBLOCK | os.O_NOFOLLOW | os.O_CLOEXEC
    return open(os.open(path, flags, 0o600), "w", encoding="utf-8")


def write(path: str, record: Mapping[str, object]) -> None:
    """Write a JSON file in one go, so that nobody reads half of it."""
    with opened(path + ".tmp", os.O_TRUNC) as stream:
        stream.write(json.dumps(record))
    os.replace(path + ".tmp", path)


class _Told:
    """What the program has told, and the seconds between; each of them is in one of the four."""

    def __init__(self) -> None:
        self.lock = threading.RLock()
        self.training: dict[str, int] = {}
        self.counts: dict[str, float] = dict.fromkeys(
            ("steps", "examples", "tokens", "input_s", "own_s", "wait_s", "save_s"), 0
        )
        self.at_row = dict(self.counts)  # at the last line of metrics.jsonl
        self.mark: float | None = None  # up to when seconds are counted; None: the next step only begins
        self.timed = 0.0  # seconds since then that are no own work
        self.timing = self.knows_wait = self.unwritten = False
        self.torn = False  # the last write to metrics.jsonl failed
        self.watched = False  # the steps come from beats.py, not from the program
        self.next_beat: dict[str, float] = {}  # by phase: a save that follows a step is told, too

    def starts_timing(self) -> bool:
        """Tell whether no other block is being timed, in any thread; the caller's is now."""
        with self.lock:
            starts, self.timing = not self.timing, True
            return starts

    def made(self, step: int, examples: float, tokens: float) -> None:
        """Count what lies between the last step and this one."""
        now, last = time.monotonic(), self.training.get("train_step", step - 1)
        if self.mark is not None:
            self.counts["steps"] += max(1, step - last)
            self.counts["examples"] += examples
            self.counts["tokens"] += tokens
            self.counts["own_s"] += max(0.0, now - self.mark - self.timed)
        self.mark, self.timed = now, 0.0

    def record(self, counts: Mapping[str, float]) -> dict[str, float | None]:
        """Return counts as they are written: a program that times no waiting does not know it."""
        made: dict[str, float | None] = {name: round(value, 6) for name, value in counts.items()}
        return made if self.knows_wait else {**made, "wait_s": None}

    def beat(self, phase: str, step: int) -> None:
        """Write heartbeat.json; a full disk costs no more than its content."""
        counted = self.record(self.counts) if self.training else {}
        path = os.path.join(RANK_DIR, "heartbeat.json")
        try:
            write(path, {"step": step, "phase": phase, **self.training, "time": time.time(), **counted})
        except OSError:
            with suppress(OSError):
                os.utime(path)
        self.unwritten = False

    def row(self, step: int, figures: Mapping[str, float | None]) -> None:
        """Append figures, and the counts since the last line, to metrics.jsonl."""
        gained = self.record({name: value - self.at_row[name] for name, value in self.counts.items()})
        self.at_row = dict(self.counts)
        line: dict[str, float | None] = {"step": step, **figures, "time": time.time()}
        seconds = sum(gained[name] or 0.0 for name in ("input_s", "own_s", "wait_s"))
        if gained["examples"] and seconds:
            line.setdefault("examples_per_second_per_device", gained["examples"] / seconds)
        for name, value in gained.items():
            line[name if name.endswith("_s") else f"interval_{name}"] = value
        # A full disk may have taken half of the line before: the end of that one keeps this one whole.
        text = "\n" * self.torn + json.dumps(line) + "\n"
        self.torn = True
        with suppress(OSError):
            with opened(os.path.join(RANK_DIR, "metrics.jsonl"), os.O_APPEND) as stream:
                stream.write(text)
            self.torn = False


_told = _Told()
LARGEST = 1 << 53  # up to which a double is exact


def _finite(name: str, value: Any) -> float | None:
    """Return a figure as JSON can hold it. TypeError: it is no number, such as a whole array."""
    try:
        number = float(value)
    except (TypeError, ValueError, OverflowError):
        raise TypeError(f"step(): {name}: {value!r:.40}: not a number") from None
    return number if math.isfinite(number) else None


def _count(name: str, value: Any) -> float:
    number = _finite(name, value)
    if number is None or not 0 <= number <= LARGEST:
        raise ValueError(f"step(): {name}: {value!r:.40}: invalid count (expected 0 or more)")
    return int(number) if number == int(number) else number


def _is_rank() -> bool:
    """Tell whether there is a launcher, and this is no child of its rank."""
    return bool(RANK_DIR) and os.getpid() == _PID


def step(
    step: int, examples: float = 0, tokens: float = 0, total: int = 0, loss: Any = None, **figures: Any
) -> None:
    """Tell that training step `step` (from 1 on) is made; without a launcher, do nothing.

    examples, tokens: of this rank, since the call before; tokens with padding, so that they grow as the work
    does. total: the steps of the training. A loss, and further figures by name (learning_rate, gradient_norm,
    examples_per_second), make a line of metrics.jsonl: where reading them makes the device wait, give them
    each 10 steps or so. The first call, and the first one after `phase`, only begin the count: that step
    prepares what later ones use.
    """
    # Looked at without a launcher, too: a mistake shows on the first machine, and before anything is counted.
    step, total = int(_count("step", step)), int(_count("total", total))
    examples, tokens = _count("examples", examples), _count("tokens", tokens)
    if loss is not None:
        figures = {"loss": loss, **figures}
    rows = {name: _finite(name, value) for name, value in figures.items()}
    if not _is_rank():
        return
    with _told.lock:
        if _told.watched:
            _told.training, _told.mark, _told.watched = {}, None, False
        _take(step, examples, tokens, total)
        if rows:
            _told.row(step, rows)


def _take(step: int, examples: float, tokens: float, total: int) -> None:
    """Count a step and write it down, unless the last beat is too near; with the lock held."""
    if not _told.training:
        atexit.register(_write_last)
    _told.made(step, examples, tokens)
    _told.training["train_step"] = step
    if total:
        _told.training["total_steps"] = total
    _told.unwritten = True
    if step == _told.training.get("total_steps"):  # what comes after the last step may take long
        _told.next_beat.pop("train", None)
    _beat_if_due("train", step)


def _beat_if_due(phase: str, step: int) -> bool:
    """Write a beat unless the last one of this phase is too near; tell whether it was written."""
    begin = time.monotonic()
    if begin < _told.next_beat.get(phase, 0.0):
        return False
    _told.beat(phase, step)
    end = time.monotonic()
    _told.next_beat[phase] = end + min(max(_GAP[0], _EASE * (end - begin)), _GAP[1])
    return True


@contextmanager
def timed(part: str) -> Iterator[None]:
    """Count the block's time as "input" (waiting for it), "wait" (in a collective), or "save".

    For the thread that makes the steps; within another such block it does nothing. What is in none of them
    is the rank's own work.
    """
    if part not in ("input", "wait", "save"):
        raise ValueError(f"timed({part!r}): one of input, wait, save")
    if not _is_rank() or not _told.starts_timing():
        yield
        return
    begin = time.monotonic()
    with _told.lock:  # while it saves no step is to come; the next beat is due within hang_timeout as before
        saves = part == "save" and _told.mark is not None and _beat_if_due(part, _told.training["train_step"])
    try:
        yield
    finally:
        with _told.lock:
            _told.timing, _told.knows_wait = False, _told.knows_wait or part == "wait"
            if _told.mark is not None:
                if saves:
                    _told.beat("train", _told.training["train_step"])
                seconds = time.monotonic() - max(begin, _told.mark)
                _told.counts[part + "_s"] += seconds
                _told.timed += seconds


def phase(name: str, step: int = 0) -> None:
    """Tell that a phase beside training's steps begins, such as "load" or "evaluate"; it may take any time.

    With a `step` of its own, of 1 or more, the next one is due within hang_timeout. Training goes on with
    the next call of `step`.
    """
    step = int(_count("step", step))
    if _is_rank():
        with _told.lock:
            _told.mark = None
            _told.beat(name, step)


def _write_last() -> None:
    if _is_rank() and _told.unwritten:
        _told.beat("train", _told.training["train_step"])


class _Finder:
    """Finds this package for a program whose Python has none of that name: it is asked last."""

    @staticmethod
    def find_spec(name: str, path: object = None, target: object = None) -> ModuleSpec | None:
        """Return where `launcher` is."""
        if name != "launcher":
            return None
        init = os.path.join(_FOLDER, "__init__.py")
        return spec_from_file_location(name, init, submodule_search_locations=[_FOLDER])


def _watch_framework(name: str) -> None:
    """Have the steps of a framework's program told by the file beside this one."""
    beats: Any = ModuleType("_npu_launch_beats")
    SourceFileLoader(beats.__name__, os.path.join(_FOLDER, "beats.py")).exec_module(beats)
    beats.install(name, sys.modules[__name__])


def main() -> None:
    """Run the program as `python -m` or `python SCRIPT` would."""
    install()
    sys.meta_path.append(_Finder)
    if RANK_DIR and os.environ.get("NPU_LAUNCH_HEARTBEAT"):
        _watch_framework(os.environ["NPU_LAUNCH_HEARTBEAT"])
    try:
        run_program(sys.argv[1:])
    except BaseException as error:
        if not isinstance(error, SystemExit) or error.code not in (None, 0):
            report(error, error.__traceback__, threading.current_thread().name)
        raise


def run_program(words: list[str]) -> None:
    """Run the words after worker.py; sys.path[0] becomes where Python would look first."""
    if words[0] == "-m":
        sys.path[0] = os.environ.get("NPU_LAUNCH_CWD") or os.getcwd()
        sys.argv = words[1:]
        _, spec, code = runpy._get_module_details(words[1])  # type: ignore[attr-defined]
        sys.argv[0] = spec.origin
        _run_as_main(code, spec.origin, spec.loader, spec)
    else:
        sys.path[0] = os.path.dirname(os.path.realpath(words[0]))  # modules stand beside what a link leads to
        sys.argv = words
        path = os.path.abspath(words[0])
        loader = SourceFileLoader("__main__", path)
        code = compile(loader.get_data(path), path, "exec", dont_inherit=True)  # without importlib's frames
        _run_as_main(code, path, loader)


def _run_as_main(code: CodeType, path: str, loader: Any, spec: ModuleSpec | None = None) -> None:
    """Run code as Python does: in the module __main__, which stays; that of a script has no __package__.

    runpy clears the module at the program's end: PyTorch's DistributedDataParallel, destroyed then, may abort
    the process. exec itself would set __builtins__ to a dict, in which no attribute is found.
    """
    sys.modules["_npu_launch_worker"] = sys.modules["__main__"]
    module = sys.modules["__main__"] = ModuleType("__main__")
    vars(module).update(__file__=path, __loader__=loader, __spec__=spec, __package__=spec and spec.parent)
    vars(module).update(__cached__=spec and spec.cached, __builtins__=sys.modules["builtins"])
    exec(code, vars(module))  # noqa: S102


if __name__ == "__main__":
    main()
