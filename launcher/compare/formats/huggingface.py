"""Lines and files of Hugging Face's Trainer, and of LLaMA-Factory.

Console: `{'loss': F, 'grad_norm': F, 'learning_rate': F, 'epoch': F}`, in transformers 5 with the numbers in
quotes; it has no step, which follows from the epoch where the head of the training is in the log. Files:
trainer_state.json (log_history), trainer_log.jsonl (current_steps, loss, lr, epoch, percentage).
"""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any, Mapping

from launcher import foreign
from launcher.compare.formats import scores
from launcher.compare.formats.log import Line, Log
from launcher.compare.formats.stream import Entry
from launcher.compare.formats.text import as_number, pairs, whole

CONSOLE, STATE, FACTORY = "HF Trainer console", "HF trainer_state.json", "LLaMA-Factory trainer_log.jsonl"
LARGEST = 1 << 28  # bytes of trainer_state.json
_FLAT = re.compile(r"\{[^{}]{1,5000}\}")
_TOP = re.compile(r'"(global_step|max_steps|num_train_epochs|train_batch_size)":\s{0,4}(\d{1,16})\b')
_HEAD = re.compile(
    r"(Num examples|Num Epochs|Instantaneous batch size per device|Total optimization steps|"
    r"Total train batch size[^=]{0,80}) = ([\d,]{1,20})"
)


_BAR = re.compile(r"% ?\|.{0,200}\| {0,8}\d{1,12}/(\d{1,12}) \[")


def read_console(line: Line, log: Log) -> bool:
    """Read the dictionary that is printed every logging_steps."""
    for text in _FLAT.findall(line.text):
        values = dict(pairs(text))
        if "train_runtime" in values:
            _take_summary(values, log)
            return True
        scores.take(
            ((name, value) for name, value in values.items() if name.startswith("eval_")), log, "share"
        )
        if "loss" not in values or "epoch" not in values:
            continue
        stream = log.stream(CONSOLE, line)
        stream.rate_is = "global"
        stream.add(Entry(None, values["loss"], values.get("learning_rate"), epoch=values["epoch"]))
        return True
    return False


def read_bar(line: Line, log: Log) -> bool:
    """Read the length of a progress bar, of which there are several: `_take_summary` knows the one to use."""
    found = _BAR.search(line.text)
    if found:
        log.bar = int(found.group(1))
    return False  # something may stand behind it


def _take_summary(values: Mapping[str, float], log: Log) -> None:
    """Take the rate and the steps of the whole training; the bar before it is that of the steps."""
    rate, log.total_epochs = values.get("train_samples_per_second"), values.get("epoch", log.total_epochs)
    if rate:
        log.summary = rate, "global"
    steps = values["train_runtime"] * values.get("train_steps_per_second", 0.0)
    if log.total_steps is None and abs(log.bar - steps) <= max(1.0, 0.02 * steps):
        log.total_steps = log.bar


def read_head(line: Line, log: Log) -> bool:
    """Read what is printed as the training begins."""
    found = _HEAD.search(line.text)
    if found is None:
        return False
    name, text = found.group(1), found.group(2).replace(",", "")
    log.settings[name] = text
    if name == "Total optimization steps":
        log.total_steps = whole(text)
    elif name == "Num Epochs":
        log.total_epochs = float(whole(text) or 0)
    if name.startswith("Total train batch size") and whole(text):
        log.global_batch = whole(text)
    return True


def read_row(row: Mapping[str, Any], line: Line, log: Log) -> bool:
    """Read a row of trainer_log.jsonl; rows of evaluations have no loss."""
    step = whole(row.get("current_steps"))
    if step is None:
        return False
    stream = log.stream(FACTORY, line)
    loss = as_number(row.get("loss"))
    if loss is not None:
        rate = as_number(row.get("lr", row.get("learning_rate")))
        stream.add(Entry(step, loss, rate, None, None, _seconds(row.get("elapsed_time"))))
    return True


def _seconds(text: Any) -> float | None:
    """Return the seconds of `1 day, 2:03:04` or `2:03:04`."""
    found = re.fullmatch(r"(?:(\d{1,6}) days?, )?(\d{1,6}):(\d\d):(\d\d(?:\.\d{1,9})?)", str(text))
    if not found:
        return None
    days, hours, minutes, seconds = found.groups()
    return int(days or 0) * 86400 + int(hours) * 3600 + int(minutes) * 60 + float(seconds)


def is_state(head: str) -> bool:
    """Tell whether a text is the begin of trainer_state.json."""
    return head.lstrip()[:1] == "{" and bool(re.search(r'"(log_history|best_metric|trial_params)"', head))


def read_state(path: Path, log: Log) -> None:
    """Read trainer_state.json, also one that is cut off. ReadError."""
    text = foreign.read_bytes(path, LARGEST, follow=True).decode("utf-8", "replace")
    log.kind = STATE
    log.settings.update(_TOP.findall(text))
    stream = log.stream(STATE, Line(""))
    if not text.rstrip().endswith("}"):
        log.note("is cut off: read as far as it goes")
    for found in _FLAT.finditer(text):
        try:
            row = json.loads(found.group(), parse_int=float)
        except (ValueError, RecursionError):
            continue
        step, loss = whole(row.get("step")), as_number(row.get("loss"))
        found_scores = ((name, as_number(value)) for name, value in row.items() if name.startswith("eval_"))
        scores.take(found_scores, log, "share")
        rate = as_number(row.get("train_samples_per_second"))
        if step is not None and loss is not None:
            stream.add(Entry(step, loss, as_number(row.get("learning_rate"))))
        elif rate:
            log.summary = rate, "global"
    if log.settings.get("train_batch_size"):
        log.note("its train_batch_size is that of one process before accumulation")
