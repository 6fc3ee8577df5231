"""Lines of TensorFlow's Estimator and TPUEstimator, and of Huawei's hook in their words.

Estimator (LoggingTensorHook and StepCounterHook, TF 1.4 to 2.x): `loss = F, step = N (S sec)` and, before it,
`global_step/sec: F` of the interval that ends there. TPUEstimator (TF 1.15): `global_step/sec: F` and
`examples/sec: F`, neither loss nor step; its examples are those of its own process, so under Horovod of one
device (NVIDIA/DeepLearningExamples issue 51). Huawei's successor of the seed (BertNV_Series, src/utils) logs
three lines a loop: `loss = F`, `global_step/sec: F`, `examples/sec: F`, without a step; its rates are global.
"""

from __future__ import annotations

import re
from calendar import timegm

from launcher.compare.formats.log import Line, Log
from launcher.compare.formats.stream import NOTHING, Entry, Stream
from launcher.compare.formats.text import NUMBER, first, number, pairs

ESTIMATOR, TPU, HOOK = "TF Estimator", "TPUEstimator", "Huawei BERT hook"
_ABSL = re.compile(r"([IWEF])(\d\d)(\d\d) (\d\d):(\d\d):(\d\d\.\d{1,9}) +\d+ [^\]]{1,80}:\d+\] ")
_STEP = re.compile(r"(?<![\w/])(?:global_)?step = (\d{1,16})\b")
_USUAL = re.compile(r"(?<![\w/])loss = (" + NUMBER + r"), step = (\d{1,16})(?: \((\d[\d.]{0,20}) sec\))?\s*$")
_SECONDS = re.compile(r"\((\d[\d.]{0,20}) sec\)")
_BARE = re.compile(r"(?:^|tensorflow:|\] )loss = (" + NUMBER + r")\s*$")
_RATE = re.compile(r"(global_step|examples)/sec: (" + NUMBER + r")")
_FINAL = re.compile(r"Loss for final step: (" + NUMBER + r")")
_LOSS = ("loss", "total_loss", "total_loss:0", "loss:0")
_RATES = ("learning_rate", "lr", "learning_rate:0")


def read_loss(line: Line, log: Log) -> bool:
    """Read `loss = F, step = N`, in any order and with other tensors between, or `loss = F` alone."""
    if "Saving dict" in line.text or "Model diverged" in line.text:  # of an evaluation; NaN
        return _read_other(line, log)
    usual = _USUAL.search(line.text)
    if usual:
        _add(line, log, usual.group(2), number(usual.group(1)), None, usual.group(3))
        return True
    step = _STEP.search(line.text)
    if step is None:
        return _read_bare(line, log)
    values = dict(pairs(line.text.replace(":0 =", " =")))
    loss, rate = first(_LOSS, values), first(_RATES, values)
    if loss is None:
        return False
    seconds = _SECONDS.search(line.text)
    _add(line, log, step.group(1), loss, rate, seconds.group(1) if seconds else None)
    return True


def _add(
    line: Line, log: Log, step: str, loss: float | None, learning_rate: float | None, seconds: str | None
) -> None:
    """Add a line. seconds: since the line before; none where a program has just started."""
    stream, time = _stream(ESTIMATOR, line, log)
    if time is None:
        time = (stream.entries[-1].time or 0.0 if stream.entries else 0.0) + (number(seconds) or 0.0)
    _, _, _, rate, speed, _, _ = stream.pending
    if rate is not None or speed is not None:
        _compare(stream.pending, log)
        stream.pending = NOTHING
    stream.add(Entry(int(step), loss, learning_rate, rate, speed, time))
    stream.rate_is = "global" if rate is None else "device or global"


def _read_bare(line: Line, log: Log) -> bool:
    found = _BARE.search(line.text)
    if found is None:
        return False
    log.bare = True
    stream, time = _stream(HOOK, line, log)
    last = stream.entries[-1] if stream.entries else None
    loss = number(found.group(1))
    if last is not None and last.loss == loss and last.speed is None and last.rate is None:
        stream.doubled += 1
        return True
    stream.rate_is = "global"
    stream.add(Entry(loss=loss, time=time))
    return True


def _read_other(line: Line, log: Log) -> bool:
    if "diverged" in line.text:
        log.note("says that the loss became NaN")
    return True


def read_rate(line: Line, log: Log) -> bool:
    """Read `global_step/sec: F` or `examples/sec: F`."""
    found = _RATE.search(line.text)
    value = number(found.group(2)) if found else None
    if found is None or value is None:
        return False
    speed, rate = (value, None) if found.group(1) == "global_step" else (None, value)
    if log.bare:
        hook, _ = _stream(HOOK, line, log)
        if hook.entries and not _has(hook.entries[-1], rate):
            hook.amend(speed, rate)
            _compare(hook.entries[-1], log)
            return True
    stream, time = _stream(ESTIMATOR, line, log)
    if _has(stream.pending, rate):  # no loss came between
        _flush(stream, line, log)
    before = stream.pending
    stream.pending = Entry(
        speed=before.speed if speed is None else speed, rate=before.rate if rate is None else rate, time=time
    )
    return True


def _has(entry: Entry, rate: float | None) -> bool:
    """Tell whether an entry has a rate of this kind already: examples/s, or steps/s where `rate` is None."""
    return (entry.speed if rate is None else entry.rate) is not None


def _flush(stream: Stream, line: Line, log: Log) -> None:
    """Take rates that no loss follows as those of TPUEstimator."""
    _compare(stream.pending, log)
    tpu, _ = _stream(TPU, line, log)
    tpu.rate_is = "device or global"
    tpu.add(stream.pending)
    stream.pending = NOTHING


def end(log: Log) -> None:
    """Take the last rates, which no loss has followed."""
    for (kind, source, part), stream in list(log.streams.items()):
        tpu = log.streams.get((TPU, source, part))
        if kind == ESTIMATOR and stream.pending is not NOTHING and (tpu is not None or not stream.entries):
            tpu = tpu or log.streams.setdefault((TPU, source, part), Stream(TPU, stream.rank))
            tpu.rate_is = "device or global"
            tpu.add(stream.pending)


def _compare(entry: Entry, log: Log) -> None:
    if entry.rate and entry.speed and len(log.batch_of_rate) < 10000:
        log.batch_of_rate.append(entry.rate / entry.speed)


def read_final(line: Line, log: Log) -> bool:
    """Read `Loss for final step: F.`"""
    found = _FINAL.search(line.text)
    if found:
        log.final_loss = number(found.group(1))
    return bool(found)


def _stream(kind: str, line: Line, log: Log) -> tuple[Stream, float | None]:
    """Return the stream of a line and its time. absl and TensorFlow may both print a message."""
    absl = line.text[1:2].isdigit() and line.text[:1] in "IWEF"
    head = _ABSL.search(line.text, 0, 200) if absl else None
    stream = log.stream(kind, line, "absl" if head else "")
    return stream, _time(*head.groups()[1:]) if head else None


def _time(month: str, day: str, hour: str, minute: str, second: str) -> float | None:
    """Return absl's time, which has no year, as seconds since the year began."""
    if not (1 <= int(month) <= 12 and 1 <= int(day) <= 31):
        return None
    return timegm((1972, int(month), int(day), int(hour), int(minute), 0)) - 63072000 + float(second)
