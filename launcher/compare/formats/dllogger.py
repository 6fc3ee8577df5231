"""NVIDIA's DLLogger: the lines of its console, and the JSON lines of its file.

`DLL <date> <time> - STEP name : value unit ...`; a line of the file is `DLLL {"timestamp", "elapsedtime",
"datetime", "type": "LOG", "step", "data"}` (dllogger/logger.py). The step is empty in a summary, "PARAMETER",
a number, or epoch, iteration, iteration of the validation; BERT's programs format it as words.
"""

from __future__ import annotations

import json
import re
from calendar import timegm
from typing import Any, Mapping

from launcher.compare.formats import scores
from launcher.compare.formats.log import Line, Log
from launcher.compare.formats.stream import Entry
from launcher.compare.formats.text import NUMBER, first, integer, number, whole

CONSOLE, FILE = "DLLogger console", "DLLogger file"
_CONSOLE = re.compile(r"DLL (\d{4})-(\d\d)-(\d\d) (\d\d):(\d\d):(\d\d(?:\.\d{1,9})?) - (.*)$")
_VALUE = re.compile(r"([A-Za-z_][\w.-]{0,60}) : (" + NUMBER + r"|\S{1,200})")
_WORDS = re.compile(r"(Epoch|Iteration): (\d{1,16})")
_TUPLE = re.compile(r"\s*[\[(]?\s*(\d{1,16})\s*(?:,\s*(\d{1,16})\s*)?(,\s*\d{1,16}\s*)?,?\s*[\])]?\s*$")
# TF1: total_loss, throughput_train; PyTorch BERT: step_loss, average_loss, training_sequences_per_second.
_LOSS = ("total_loss", "step_loss", "loss", "train_loss", "training_loss", "avg_loss_step", "average_loss")
_RATE = ("throughput_train", "training_sequences_per_second", "train_throughput", "throughput")
_LEARNING_RATE = ("learning_rate", "lr")


def read_console(line: Line, log: Log) -> bool:
    """Read a line of the console; a progress bar may stand before it."""
    found = _CONSOLE.search(line.text)
    if found is None:
        return False
    head, rest = found.groups()[:6], found.group(7)
    value = _VALUE.search(rest)
    values: dict[str, str] = dict(_VALUE.findall(rest))
    _take(CONSOLE, rest[: value.start()] if value else rest, values, _console_time(*head), line, log)
    return True


def _console_time(year: str, month: str, day: str, hour: str, minute: str, second: str) -> float:
    whole_minutes = timegm((int(year), max(1, min(12, int(month))), int(day), int(hour), int(minute), 0))
    return whole_minutes + float(second)


def read_file(line: Line, log: Log) -> bool:
    """Read a line of the file."""
    at = line.text.find("DLLL {")
    if at < 0:
        return False
    try:
        found = json.loads(line.text[at + 5 :], parse_int=integer)
    except (ValueError, RecursionError):
        return False
    if not isinstance(found, dict) or found.get("type") != "LOG" or not isinstance(found.get("data"), dict):
        return True
    values = {str(name): str(value) for name, value in found["data"].items()}
    time = number(str(found.get("timestamp", "")))
    step = found.get("step")
    _take(FILE, _told(step), values, time, line, log)
    return True


def _told(step: Any) -> str:
    """Return the step of the file as the console prints it: its numbers are read as floats."""
    if isinstance(step, list):
        return ", ".join(map(_told, step))
    found = whole(step)
    return str(step) if found is None else str(found)


def _take(kind: str, told: str, values: Mapping[str, str], time: float | None, line: Line, log: Log) -> None:
    if "PARAMETER" in told or "PARAMETER" in values:
        log.settings.update((name, value) for name, value in values.items() if len(log.settings) < 500)
        _parameters(log)
        return
    log.kind = log.kind or kind
    scores.take(((name, number(value)) for name, value in values.items()), log, "share")
    numbers = {name: number(value) for name, value in values.items() if number(value) is not None}
    epoch, step = _step(told)
    validation = told.count("Validation Iteration") > 0 or len(re.findall(r"\d+", told)) > 2
    loss, rate = first(_LOSS, numbers), first(_RATE, numbers)
    if step is None:
        if loss is None and "final_loss" in numbers:
            log.final_loss = numbers["final_loss"]
        if rate is not None:
            log.summary = rate, "global"
        return
    if validation or (loss is None and rate is None):
        return
    rank = whole(numbers.get("Rank"))  # TF1 pre-training under Horovod names it so
    stream = log.stream(kind, line if rank is None else line._replace(rank=rank))
    stream.rate_is = "global"  # all of NVIDIA's BERT programs count the batch of all devices
    stream.add(Entry(step, loss, first(_LEARNING_RATE, numbers), rate, None, time, epoch))


def _step(told: str) -> tuple[int | None, int | None]:
    """Return the epoch and the iteration that the text before the values says."""
    words = dict(_WORDS.findall(told))
    if words:
        return whole(words.get("Epoch", "")), whole(words.get("Iteration", ""))
    found = _TUPLE.match(told)
    if not found:
        return None, None
    if found.group(2) is None:
        return None, whole(found.group(1))
    return whole(found.group(1)), whole(found.group(2))


def _parameters(log: Log) -> None:
    """Take the batch from PyTorch BERT's parameters: train_batch_size, a device's before accumulation.

    Of several devices the first alone writes the file, and says nowhere how many there are.
    """
    batch = whole(log.settings.get("train_batch_size", ""))
    if batch:
        log.device_batch, log.several_ranks = batch, True
