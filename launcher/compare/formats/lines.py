"""The lines of a text log, each given to the readers of the formats whose words it has.

Read in chunks; of a chunk only lines with a word that some format needs are looked at. A carriage return ends
a line, too: progress bars stand between them.
"""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Callable, Iterator

from launcher import foreign
from launcher.compare.formats import ascend, dllogger, estimator, huggingface, mindspore, nvidia, ours, scores
from launcher.compare.formats.log import Line, Log
from launcher.compare.formats.stream import Stream
from launcher.lines.prefixes import SAMPLE, PrefixReader
from launcher.logs.encodings import Decoder

CHUNK = 1 << 20
LONGEST = 1 << 20  # bytes of a line that is read
Reader = Callable[[Line, Log], bool]


def read_json_row(line: Line, log: Log) -> bool:
    """Read a line that is a JSON object."""
    text = line.text.strip()
    if text[:1] != "{" or text[-1:] != "}":
        return False
    try:
        row = json.loads(text, parse_int=float)
    except (ValueError, RecursionError):
        return False
    return isinstance(row, dict) and (huggingface.read_row(row, line, log) or ours.read_row(row, line, log))


# What a line must contain, and who may read it, in this order: the first that can has it.
TABLE: tuple[tuple[bytes, tuple[Reader, ...]], ...] = (
    (b"it/s", (huggingface.read_bar,)),
    (b"s/it", (huggingface.read_bar,)),
    (b"train_batch_size", (nvidia.read_command,)),
    (b"distributed training: True", (nvidia.read_distributed,)),
    (b"DLLL {", (dllogger.read_file,)),
    (b"DLL ", (dllogger.read_console,)),
    (b"***** Running", (nvidia.read_section,)),
    (b" Loss = ", (ascend.read_step,)),
    (b" examples/s ", (ours.read_summary, ours.read_step)),
    (b"  loss ", (ours.read_step,)),
    (b"loss = ", (estimator.read_loss,)),
    (b"loss:0 = ", (estimator.read_loss,)),
    (b"_step/sec: ", (estimator.read_rate,)),
    (b"examples/sec: ", (estimator.read_rate,)),
    (b"oss for final step", (estimator.read_final,)),
    (b"{'", (huggingface.read_console,)),
    (b'loss"', (read_json_row,)),
    (b"loss is", (mindspore.read_loss,)),
    (b"outputs are", (mindspore.read_loss,)),
    (b"poch:[", (mindspore.read_loss,)),
    (b"per step time", (mindspore.read_time,)),
    (b"Performance = ", (nvidia.read_performance,)),
    (b"Throughput Average", (nvidia.read_throughput,)),
    (b"hvd.size()", (nvidia.read_ranks,)),
    (b"Total ", (nvidia.read_total, huggingface.read_head)),
    (b"atch size", (huggingface.read_head, nvidia.read_count)),
    (b"Num ", (huggingface.read_head, nvidia.read_count)),
    (b"exact", (scores.read,)),
    (b"f1", (scores.read,)),
    (b"F1", (scores.read,)),
)
# Words of texts of which each line is looked at: it is read by these.
_HEADS: tuple[tuple[bytes, Reader], ...] = (
    (b"Configuaration *****", nvidia.read_flags_begin),
    (b"Configuration *****", nvidia.read_flags_begin),
    (b"ActualFPS", ascend.read_result),
    (b"RankSize", ascend.read_result),
    (b"BatchSize", ascend.read_result),
)
_WHOLE = re.compile(r"[)}\]'\"]\s*$")  # how a line ends that cannot have been cut off
_LAST_STEP = re.compile(r"step = (\d{1,16})\s*$")


def read(path: Path, log: Log) -> None:
    """Read a text log. ReadError."""
    prefixes, learned = PrefixReader(), False
    for text, last in _chunks(path, log):
        if not learned:
            prefixes.learn(text[: 1 << 16].split(b"\n")[:SAMPLE])
            learned = True
        for begin, end, readers in _all(text) if _needs_all(text, log) else _candidates(text):
            _read_line(text[begin:end], readers, prefixes, log, last and end == len(text))
    estimator.end(log)


def _needs_all(text: bytes, log: Log) -> bool:
    """Tell whether lines without any word of the table may matter: flags, a result file."""
    return log.flags_follow > 0 or any(word in text for word, _ in _HEADS)


def _candidates(text: bytes) -> list[tuple[int, int, list[Reader]]]:
    """Find the lines that have a word of the table: where each begins and ends, and who may read it."""
    found: dict[int, tuple[int, int, list[Reader]]] = {}
    for word, readers in TABLE:
        at = text.find(word)
        while at >= 0:
            end = text.find(b"\n", at)
            end = len(text) if end < 0 else end
            begin = text.rfind(b"\n", 0, at) + 1
            if begin in found:
                found[begin][2].extend(readers)
            else:
                found[begin] = (begin, end, list(readers))
            at = text.find(word, end)
    return [found[begin] for begin in sorted(found)]


def _all(text: bytes) -> Iterator[tuple[int, int, list[Reader]]]:
    begin = 0
    for line in text.split(b"\n"):
        readers = [reader for word, reader in _HEADS[:2] if word in line]
        readers += [reader for word, several in TABLE if word in line for reader in several]
        yield begin, begin + len(line), [*readers, ascend.read_result]
        begin += len(line) + 1


def _read_line(data: bytes, readers: list[Reader], prefixes: PrefixReader, log: Log, cut: bool) -> None:
    key, rank, raw = prefixes.split(data)
    line = Line(raw.decode("utf-8", "replace"), key, rank)
    if cut and not _is_whole(line, log):
        log.note("its last line is cut off and left out")
        return
    if log.flags_follow and nvidia.read_flag(line, log):
        return
    for reader in readers:
        if reader(line, log):
            return


def _is_whole(line: Line, log: Log) -> bool:
    """Tell whether a last line without a line end is whole: by its last character, or by its step."""
    if _WHOLE.search(line.text):
        return True
    found = _LAST_STEP.search(line.text)
    return found is not None and any(_comes_next(int(found.group(1)), one) for one in log.streams.values())


def _comes_next(step: int, stream: Stream) -> bool:
    steps = [entry.step for entry in stream.entries[-2:] if entry.step is not None]
    return len(steps) == 2 and step == 2 * steps[1] - steps[0]


def _chunks(path: Path, log: Log) -> Iterator[tuple[bytes, bool]]:
    """Yield whole lines, and whether the last of them has no end."""
    decoder, rest, skipping = Decoder(), b"", False
    with foreign.open_regular(path, follow=True) as stream:
        while True:
            data = stream.read(CHUNK)
            text = decoder.feed(data, final=not data)
            text = rest + (text.replace(b"\r", b"\n") if b"\r" in text else text)
            if not data:
                if text and not skipping:
                    yield text, True
                return
            whole, end, rest = text.rpartition(b"\n")
            if end and skipping:
                whole, skipping = whole.partition(b"\n")[2], False
            if len(rest) > LONGEST:
                rest, skipping = b"", True
                log.note("a line of more than 1 MiB is left out")
            yield whole, False
