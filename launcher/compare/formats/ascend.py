"""Lines of the seed's hooks on NPUs, and the result file of Huawei's test scripts.

Seed (Bertsquad_for_TensorFlow): `Step = %6i Throughput = %11.1f Loss = %9.6f LR = %6.4e`; its pre-training
adds `[Rank = %2d :: ]` before and `MLM Loss`, `NSP Loss`, `Average Loss`, `Loss scale` and `isFinite`; the
throughput is that of all devices, averaged since the start. CaseName.log (ModelZoo, test/*_full_8p.sh):
`Network = ...`, RankSize, BatchSize, DeviceType, CaseName, ActualFPS, TrainingTime (ms a step),
TrainAccuracy, ActualLoss, E2ETrainingTime, any of which may be empty.
"""

from __future__ import annotations

import re

from launcher.compare.formats.log import Line, Log
from launcher.compare.formats.stream import Entry
from launcher.compare.formats.text import NUMBER, number, whole

STEPS, RESULT = "Ascend BERT", "Huawei test result"
_STEP = re.compile(r"(?:\[?Rank = {0,8}(\d{1,6}) :: ?\]? ?)?Step = {1,20}(\d{1,16}) (?P<rest>.{0,600})")
_VALUE = re.compile(r"(?:^| )(Throughput|Loss|LR|Average Loss|MLM Loss|NSP Loss) = {1,30}(" + NUMBER + ")")
_RESULT = re.compile(
    r"^\s{0,8}(Network|RankSize|BatchSize|DeviceType|CaseName|ActualFPS|TrainingTime|TrainAccuracy|ActualLoss|"
    r"E2ETrainingTime) ?= ?(.{0,200}?)\s*$"
)


def read_step(line: Line, log: Log) -> bool:
    """Read a line of the seed."""
    found = _STEP.search(line.text)
    if found is None:
        return False
    values = {name: number(value) for name, value in _VALUE.findall(found.group("rest"))}
    step = whole(found.group(2))
    if step is None or values.get("Loss") is None:
        return False
    rank = line.rank if found.group(1) is None else int(found.group(1))
    stream = log.stream(STEPS, line._replace(rank=rank))
    if values.get("Throughput") is not None:
        stream.rate_is = "global"
        log.note("its throughput is the mean since the start, warm-up included")
    stream.add(Entry(step, values["Loss"], values.get("LR"), values.get("Throughput")))
    return True


def read_result(line: Line, log: Log) -> bool:
    """Read a line of CaseName.log."""
    found = _RESULT.match(line.text)
    if found is None:
        return False
    name, text = found.groups()
    log.kind = RESULT
    if not text:
        log.note(f"{name} is empty")
        return True
    log.settings[name] = text
    value = number(text) if re.fullmatch(NUMBER, text) else None
    if name == "RankSize" and whole(value):
        log.ranks = whole(value)
    elif name == "BatchSize" and whole(value):
        log.device_batch = whole(value)
    elif name == "ActualLoss" and value is not None:
        log.final_loss = value
    elif name == "ActualFPS" and value is not None:
        log.summary = value, "global"
        log.summary_note = True
        log.note("ActualFPS is the last rate of the last rank, no mean")
    return True
