"""The errors in what a rank wrote, the last one first, without the noise of a program that shuts down.

Loaded at the first failure, as compiling the patterns takes longer than the rest of the package.
"""

from __future__ import annotations

import functools
import re
from typing import NamedTuple, Sequence

from launcher.lines.blocks import ErrorBlock, error_blocks

LINES_BEHIND = 400  # of other output: a program that wrote so much more has survived the error
NEAR = 1 << 15  # bytes at the end of the output, where most errors are
FIRST_LINES = 100  # of these
LONGEST = 2000  # bytes of a line that are looked at
REACH = 200  # lines before the last error in which an earlier one may explain it

_CAUSE = re.compile(r"\s*(?:\| )?The above exception was the direct cause of")
_CONTEXT = re.compile(r"\s*(?:\| )?During handling of the above exception")
# What follows the error that ended a program: Python's warnings and its resource tracker, warnings of torch
# and torch_npu, Paddle's report of a SIGTERM, the summaries of torchrun, msrun, DeepSpeed, make, conda, wandb
# and Slurm.
_NOISE = re.compile(
    r"\[W[ \d]|W\d{4} |\[?WARN(?:ING)?\b|.*(?:\b\w*Warning:|warnings?\.warn|resource_tracker|"
    r"leaked (?:semaphore|shared_memory)|\(core dumped\)|destroy_process_group|torch\.distributed\.elastic|"
    r"ChildFailedError|closing signal SIG|Rectify the fault|conda\.cli)|\[Error\]|Aborted\b|wandb: |"
    r"make(?:\[\d+\])?: \*\*\*|(?:srun|slurmstepd): (?!.*oom)|\s*(?:time|host|rank|exitcode|error_file) *: |"
    r"Fatal Python error: _enter_buffered|Process group has NOT been destroyed|"
    r"C\+\+ Traceback|FatalError: `Termination signal`|"
    r".*(?:Distributed job exited with exception|\bexits with return code)"
)


class Failure(NamedTuple):
    """An error. `text`: what was raised last, and its direct causes; `before`: what was raised before it."""

    text: str
    before: str


@functools.lru_cache(maxsize=128)
def errors(output: bytes) -> tuple[Failure, ...]:
    """Find the last errors in an output, the last one first; those that it has survived are left out."""
    rows, blocks = _read(output[-NEAR:])
    if not blocks or blocks[-1].number < FIRST_LINES:  # there is none, or it may begin before
        rows, blocks = _read(output)
    if not blocks or _spoken(rows[_end(blocks[-1]) :]) > LINES_BEHIND:
        return ()
    near = [block for block in blocks if _end(blocks[-1]) - _end(block) <= REACH]
    return tuple(_failure(block.text.split("\n"), block.raised_at) for block in reversed(near))


def _read(output: bytes) -> tuple[list[bytes], list[ErrorBlock]]:
    rows = [row[:LONGEST] for row in output.split(b"\n")]
    return rows, [block for block in error_blocks(rows) if not _NOISE.match(block.raised)]


def _spoken(rows: Sequence[bytes]) -> int:
    """Count the lines that are no noise, nor continue one."""
    plain = [row.decode("utf-8", "replace") for row in rows if row[:1].strip()]
    return len([row for row in plain if not _NOISE.match(row)])


def _end(block: ErrorBlock) -> int:
    return block.number + len(block.lines)


def _failure(lines: Sequence[str], raised_at: int) -> Failure:
    """Divide a block at the lines that chain exceptions; causes explain, up to the first other link."""
    causes: list[str] = []
    before: list[str] = []
    kind, segment = causes, raised_at
    for number in range(raised_at - 1, -2, -1):
        line = lines[number] if number >= 0 else ""
        if number >= 0 and not (_CAUSE.match(line) or _CONTEXT.match(line)):
            continue
        if segment != raised_at:  # what is nearest to it are the frames of what was raised last
            kind.append(_exception(lines[number + 1 : segment]))
        kind = kind if _CAUSE.match(line) else before
        segment = number
    return Failure("\n".join([_said(lines[raised_at:]), *causes]), "\n".join(before))


def _exception(lines: Sequence[str]) -> str:
    """Return the exception of a traceback and its message, without the frames."""
    return _said([line for line in lines if line[:1].strip() and not line.startswith("Traceback ")])


def _said(lines: Sequence[str]) -> str:
    return "\n".join(line for line in lines if not _NOISE.match(line))


def rest(output: bytes, lines: int = 10) -> str:
    """Return the last lines that are no noise, for an output in which no error is found."""
    rows = [row[:LONGEST].decode("utf-8", "replace") for row in output[-NEAR:].split(b"\n")]
    return "\n".join([row for row in rows if row.strip() and not _NOISE.match(row)][-lines:])
