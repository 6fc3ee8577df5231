"""Lines of MindSpore's LossMonitor, of its model zoo and of MindFormers.

`epoch: E step: N, loss is F` and `epoch: E, step: N, loss is F` (LossMonitor; the steps begin anew in each
epoch), `epoch: E, current epoch percent: F, step: N, outputs are (Tensor(..., value= F), ...` (BERT of the
model zoo), `{ Epoch:[ E/ M], step:[ N/ M], loss: F, per_step_time: Fms, lr: F, ...` (MindFormers), and
`epoch time: F ms, per step time: F ms`.
"""

from __future__ import annotations

import re

from launcher.compare.formats.log import Line, Log
from launcher.compare.formats.stream import Entry
from launcher.compare.formats.text import NUMBER, number, whole

MONITOR, FORMERS = "MindSpore", "MindFormers"
_MONITOR = re.compile(
    r"epoch: {0,4}(\d{1,9}),? (?:current epoch percent: \S{1,20}, )?step: {0,8}(\d{1,16}),? "
    r"(?:loss is:? {0,4}|outputs are.{0,80}?value ?= ?)\[?(" + NUMBER + ")"
)
_FORMERS = re.compile(
    r"[Ee]poch:\[ *(\d{1,9})/ *\d{1,9}\],? +step:\[ *(\d{1,16})/ *\d{1,16}\],? +loss: ?\[?(" + NUMBER + ")"
)
_NAMED = re.compile(r"\b(per_step_time|lr): ?\[?(" + NUMBER + ")")
_TIME = re.compile(r"per step time:? (" + NUMBER + r") ?ms")


def read_loss(line: Line, log: Log) -> bool:
    """Read a line with a loss."""
    for kind, form in ((MONITOR, _MONITOR), (FORMERS, _FORMERS)):
        found = form.search(line.text)
        step = whole(found.group(2)) if found else None
        if found is None or step is None:
            continue
        named = {name: number(value) for name, value in _NAMED.findall(line.text)}
        milliseconds = named.get("per_step_time")
        speed = 1000 / milliseconds if milliseconds and milliseconds > 0 else None
        stream = log.stream(kind, line)
        stream.rate_is = "global"  # steps/s, by the examples of a step
        loss, epoch = number(found.group(3)), float(found.group(1))
        stream.add(Entry(step, loss, named.get("lr"), None, speed, None, epoch))
        return True
    return False


def read_time(line: Line, log: Log) -> bool:
    """Read the milliseconds of a step, which TimeMonitor prints after the last one of an epoch."""
    found = _TIME.search(line.text)
    milliseconds = number(found.group(1)) if found else None
    if not milliseconds or not milliseconds > 0:
        return False
    log.stream(MONITOR, line).amend(speed=1000 / milliseconds)
    return True
