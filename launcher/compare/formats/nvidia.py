"""Lines of NVIDIA's TF1 BERT (DeepLearningExamples) and of what was made of it: flags, batch, summaries.

2019-03 to -07: `R Total Training Time = F ... Sentences processed = N` and `R Training Performance = F
sentences/sec`, printed by rank R. Since 2019-07: `Total Training Time = F for Sentences = N`, `Throughput
Average (sentences/sec) = F` (of all devices; training and inference end with the same words), the flags after
`***** Configuaration *****`. The seed and Google's run_squad.py have some of them.
"""

from __future__ import annotations

import re

from launcher.compare.formats.log import Line, Log
from launcher.compare.formats.text import NUMBER, number, whole

KIND = "NVIDIA TF1 BERT"
MOST_FLAGS = 300  # lines in which the end of the flags is looked for
_SECTION = re.compile(r"\*{5} Running (\w+)")
_FLAG = re.compile(r"(?:^|tensorflow:|\] )\s*([A-Za-z]\w{0,60}): (.{0,400})$")
_STARS = re.compile(r"\*{10,}\s*$")
_COUNT = re.compile(r"(Batch size|Num steps|Num orig examples|Num split examples) = (\d{1,12})\b")
_RANKS = re.compile(r"hvd\.size\(\) = (\d{1,6}) ")
_COMMAND = re.compile(r"\b(train_batch_size|num_accumulation_steps|iterations_per_loop)[= ]'?(\d{1,9})\b")
_THROUGHPUT = re.compile(r"Throughput Average \(sentences/sec\) (with overhead )?= (" + NUMBER + ")")
_TOTAL = re.compile(r"Total (Training|Inference) Time")
_PERFORMANCE = re.compile(
    r"(?:(\d{1,6}) )?(Training|Inference) Performance = (" + NUMBER + r") sentences/sec"
)


def read_section(line: Line, log: Log) -> bool:
    """Read what the program says it does: `***** Running training *****`."""
    found = _SECTION.search(line.text)
    if found:
        log.section = found.group(1)
    return bool(found)


def read_flags_begin(line: Line, log: Log) -> bool:
    """Read the head of the flags."""
    log.flags_follow = MOST_FLAGS
    return True


def read_flag(line: Line, log: Log) -> bool:
    """Read one flag of those that follow the head."""
    log.flags_follow -= 1
    if _STARS.search(line.text) or not log.flags_follow:
        log.flags_follow = 0
        _batch_of_flags(log)
        return True
    found = _FLAG.search(line.text)
    if found and len(log.settings) < 500:
        log.settings.setdefault(found.group(1), found.group(2).strip())
    return bool(found)


def _batch_of_flags(log: Log) -> None:
    """Compute the batch of a device, accumulated, from train_batch_size."""
    flags = log.settings
    batch = whole(flags.get("train_batch_size", ""))
    if batch:
        log.device_batch = batch * (whole(flags.get("num_accumulation_steps", "")) or 1)
    told = [flags[name] for name in ("horovod", "distributed") if name in flags]
    if "True" in told:
        log.several_ranks = True
    elif "False" in told and log.ranks is None:
        log.ranks = 1


def read_ranks(line: Line, log: Log) -> bool:
    """Read `hvd.size() = N hvd.rank() = R`."""
    found = _RANKS.search(line.text)
    if found and int(found.group(1)):
        log.ranks = int(found.group(1))
    return bool(found)


def read_count(line: Line, log: Log) -> bool:
    """Read `Batch size = N`, that of a device, and other counts of the training."""
    found = _COUNT.search(line.text)
    if found and log.section == "training" and int(found.group(2)):
        log.settings.setdefault(found.group(1), found.group(2))
        if found.group(1) == "Batch size":
            log.device_batch = log.device_batch or int(found.group(2))
    return bool(found)


def read_command(line: Line, log: Log) -> bool:
    """Read the batch of a device and the steps of a loop in a command line, or in argparse's Namespace."""
    for name, value in _COMMAND.findall(line.text):
        log.settings.setdefault(name, value)
    if _COMMAND.search(line.text):
        _batch_of_flags(log)
    return False  # something else may read it, too


def read_distributed(line: Line, log: Log) -> bool:
    """Read what PyTorch's BERT says of its processes."""
    log.several_ranks = True
    return False


def read_total(line: Line, log: Log) -> bool:
    """Read which of the two the summary that begins here is of."""
    found = _TOTAL.search(line.text)
    if found:
        log.section = found.group(1)
        log.kind = log.kind or KIND
    return bool(found)


def read_throughput(line: Line, log: Log) -> bool:
    """Read `Throughput Average (sentences/sec) = F` at the end of the training, not of the inference."""
    found = _THROUGHPUT.search(line.text)
    value = number(found.group(2)) if found else None
    if found is None or value is None:
        return False
    if log.section in ("training", "Training") and not found.group(1):
        log.summary = value, "global"
        log.kind = log.kind or KIND
    return True


def read_performance(line: Line, log: Log) -> bool:
    """Read `R Training Performance = F sentences/sec`.

    Each rank R prints it, but of the sentences of all: NVIDIA's example for 8 GPUs has 175,176 of them, the
    two epochs of SQuAD 1.1 (its README of 2019-03).
    """
    found = _PERFORMANCE.search(line.text)
    value = number(found.group(3)) if found else None
    if found is None or value is None:
        return False
    log.kind = "NVIDIA TF1 BERT of 2019-03 to -07"
    if found.group(2) == "Training":
        log.summary = value, "global"
        log.several_ranks = log.several_ranks or int(found.group(1) or 0) > 0
    return True
