"""Logs of every format as curves; the format is found by what is in the file."""

from __future__ import annotations

import os
import re
from pathlib import Path

from launcher import foreign
from launcher.compare.curve import Curve
from launcher.compare.formats import huggingface, lines, ours, tensorboard
from launcher.compare.formats.log import Log
from launcher.errors import ReadError
from launcher.runs import registry

_FILES = ("trainer_state.json", "trainer_log.jsonl", "metrics.jsonl", "dllogger.json", "bert_dllog.json")


def read(path: Path, **hints: int) -> Curve:
    """Read a run folder of npu-launch, a folder or a file of another program.

    hints: ranks, global_batch, iterations_per_loop, which go before what the log says.

    Raises:
        ReadError: it cannot be read at all. A log that holds nothing known is a curve without points.
    """
    path = Path(path)
    if path.is_dir():
        if registry.is_run(path):
            return ours.read_run(path, hints)
        return _read_folder(path, hints)
    log = Log(str(path), hints)
    _read_file(path, log)
    return log.curve()


def _read_file(path: Path, log: Log) -> None:
    with foreign.open_regular(path, follow=True) as stream:
        head = stream.read(1 << 14)
    if head[:2] == b"\x1f\x8b":
        raise ReadError(f"{path}: packed by gzip (expected a log); unpack it first: gunzip -k {path}")
    if tensorboard.is_events(head):
        tensorboard.read(path, log)
    elif huggingface.is_state(head.decode("utf-8", "replace")):
        huggingface.read_state(path, log)
    else:
        lines.read(path, log)


def _read_folder(path: Path, hints: dict[str, int]) -> Curve:
    """Read the files of another program in a folder: events, one after the other, or one of other kinds."""
    try:
        names = sorted(os.listdir(str(path)))
    except OSError as error:
        raise ReadError(f"{path}: {error.strerror}") from None
    log = Log(str(path), hints)
    for name in _FILES:
        if name in names:
            _read_file(path / name, log)
            return log.curve()
    saved = [name for name in names if re.fullmatch(r"checkpoint-\d{1,15}", name)]
    for name in sorted(saved, key=lambda name: int(name[11:]), reverse=True):
        if (path / name / "trainer_state.json").is_file():
            _read_file(path / name / "trainer_state.json", log)
            return log.curve()
    events = [name for name in names if "tfevents" in name]
    if not events:
        raise ReadError(
            f"{path}: neither a run of npu-launch nor a known file in it (expected a log, or a folder with "
            "trainer_state.json, trainer_log.jsonl, metrics.jsonl, dllogger.json or events.out.tfevents.*)"
        )
    for name in events:
        _read_file(path / name, log)
    return log.curve()
