"""Questions and answers as JSON lines, for programs. One line comes out for each that goes in, in order.

In: {"question", "context", "id"}, of which `id` may be missing, and `context` if a passage is given.
Out: {"id", "answer", "start", "end", "probability", "no_answer_score", "alternatives"}, or {"id", "error"}.
`answer` is context[start:end], in characters; without an answer it is "", and both places are -1.
"""

from __future__ import annotations

import json
import os
import select
import sys
from typing import TYPE_CHECKING, Any, BinaryIO, Iterator, NamedTuple

from bert import environment
from squad.data import layouts
from squad.data.examples import Examples, read_squad
from squad.errors import DataError
from squad.progress import progress_bar

if TYPE_CHECKING:
    from squad.answerer import Answer, Answerer, Candidate, Pair, Result
    from squad.flags import SquadFlags

LONGEST = 16 << 20  # bytes of a line
TOGETHER = 8  # lines that are answered in one batch, if they are there already
_BLOCK = 1 << 16
_PLACES = 6  # digits of a probability or score


class Line(NamedTuple):
    """A line of the input; content None: it is too long."""

    number: int  # from 1
    content: bytes | None


def groups(descriptor: int, most: int = TOGETHER) -> Iterator[list[Line]]:
    """Yield the lines that can be read without waiting, up to `most`; wait only if there is none."""
    waiting: list[Line] = []
    for line in _lines(descriptor):
        if line is not None:
            waiting.append(line)
        if waiting and (line is None or len(waiting) == most):
            yield waiting
            waiting = []
    if waiting:
        yield waiting


def _lines(descriptor: int) -> Iterator[Line | None]:
    """Yield each line, and None where the next one has to be waited for; blank lines are only counted."""
    number, rest, dropped = 0, b"", False
    while True:
        if not select.select([descriptor], [], [], 0)[0]:
            yield None
        block = os.read(descriptor, _BLOCK)
        *whole, rest = (rest + (block or b"\n" * bool(rest or dropped))).split(b"\n")
        for content in whole:
            number += 1
            if dropped or content.strip():
                yield Line(number, None if dropped or len(content) > LONGEST else content)
            dropped = False
        if len(rest) > LONGEST:
            rest, dropped = b"", True
        if not block:
            return


class Asked(NamedTuple):
    """What a line asks, or why it cannot be answered."""

    id: Any  # the line's own, else its number
    pair: Pair | None
    problem: str = ""


def answer_lines(model: Answerer, descriptor: int, out: BinaryIO, passage: str | None = None) -> int:
    """Answer a stream of lines; return how many had an error."""
    errors = 0
    for lines in groups(descriptor):
        asked = [_read(line, passage) for line in lines]
        results = model.results(model.examples([item.pair for item in asked if item.pair is not None]))
        for line, item in zip(lines, asked):
            result = DataError(item.problem) if item.pair is None else next(results)
            if isinstance(result, DataError):
                errors, result = errors + 1, DataError(f"line {line.number}: {result}")
            write(out, item.id, result)
    return errors


def _read(line: Line, passage: str | None) -> Asked:
    if line.content is None:
        return Asked(line.number, None, f"longer than {LONGEST >> 20} MiB; give a shorter passage")
    try:
        values = json.loads(line.content.decode("utf-8-sig"))
    except UnicodeDecodeError as error:
        return Asked(line.number, None, f"not UTF-8 at byte {error.start}")
    except json.JSONDecodeError as error:
        return Asked(line.number, None, f"invalid JSON at column {error.colno}: {error.msg}")
    except (RecursionError, ValueError) as error:  # nested too deeply; a number of thousands of digits
        return Asked(line.number, None, f"invalid JSON: {error}")
    if not isinstance(values, dict):
        return Asked(line.number, None, 'not an object; expected {"question": ..., "context": ...}')
    question, context = values.get("question"), values.get("context")
    context = passage if context is None else context
    name = line.number if values.get("id") is None else values["id"]
    for key, value in (("question", question), ("context", context)):
        if not isinstance(value, str):
            found = "missing" if value is None else f"{layouts.shown(value)} is not a string"
            return Asked(name, None, f"{key}: {found}")
    return Asked(name, (str(question), str(context)))


def read_file(flags: SquadFlags, path: str) -> Examples:
    """Read the questions of a file, without a model. DataError: it cannot be used; a line for each fault."""
    examples = read_squad(
        path, False, flags.version_2_with_negative, word_split=flags.word_split, divide=flags.text_rules[2]
    )
    for note in examples.notes:
        print(f"ask: {note}", file=sys.stderr)
    return examples


def answer_examples(model: Answerer, examples: Examples, out: BinaryIO) -> int:
    """Answer all questions, in their order; return how many could not be answered."""
    errors = 0
    with progress_bar("answers") as bar:
        for number, (example, result) in enumerate(zip(examples, model.results(examples)), 1):
            if isinstance(result, DataError):
                errors, result = errors + 1, DataError(f"question {layouts.name(example.qas_id)}: {result}")
            write(out, example.qas_id, result)
            bar(number, len(examples))
    return errors


def write(out: BinaryIO, name: Any, result: Result) -> None:
    """Write one line, and flush it. DataError: it cannot be written, as on a full disk."""
    # Half of a surrogate pair, which UTF-8 has not, becomes its JSON escape.
    text = json.dumps(_values(name, result), ensure_ascii=False)
    try:
        out.write(text.encode("utf-8", "backslashreplace") + b"\n")
        out.flush()
    except BrokenPipeError:
        raise
    except OSError as error:
        environment.discard(out.fileno())
        raise DataError(f"standard output: {error.strerror}") from error


def _values(name: Any, result: Result) -> dict[str, Any]:
    if isinstance(result, DataError):
        return {"id": name, "error": str(result)}
    values: dict[str, Any] = {"id": name, **_span(result)}
    values["no_answer_score"] = None if result.null_odds is None else round(result.null_odds, _PLACES)
    values["alternatives"] = [_span(candidate) for candidate in result.alternatives]
    return dict(values, notes=list(result.notes)) if result.notes else values


def _span(found: Answer | Candidate) -> dict[str, Any]:
    probability = round(found.probability, _PLACES)
    return {"answer": found.text, "start": found.start, "end": found.end, "probability": probability}
