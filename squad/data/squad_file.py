"""Open and parse the files that a user gives: questions, predictions, no-answer scores.

Standard library only, and every problem is a `DataError` of one line: file, place, what is there, what to do.
"""

from __future__ import annotations

import json
import os
import re
import stat
from typing import Any, BinaryIO, cast

from squad.data import file_kinds, layouts
from squad.data.rows import Rows
from squad.errors import DataError

_LARGEST = 4 << 30  # bytes of an unpacked file
_NAMES = re.compile(r"\.(jsonl?|csv|tsv|parquet|arrow)(\.gz)?$", re.IGNORECASE)
_HEAD = 1 << 16  # bytes that show what a file is


def load_questions(path: str) -> Any:
    """Parse a file of questions: JSON, JSON lines, CSV or TSV, each also gzipped; parquet or Arrow.

    Raises:
        DataError: it cannot be read, is another kind of file, or is invalid at a place.
    """
    raw = _content(path)
    kind = _kind(path, raw[:_HEAD])
    if kind == "columns":
        from squad.data import columnar

        return columnar.read(path, raw)
    if kind == "table":
        from squad.data import tables

        return tables.read(path, raw)
    return _parsed(path, raw)


def load_json(path: str) -> Any:
    """Parse a JSON file (UTF-8, with or without byte order mark, may be gzipped) or a file of JSON lines.

    Raises:
        DataError: it cannot be read, is another kind of file, or is invalid at a line and column.
    """
    return _parsed(path, _content(path))


def problem(path: str) -> str | None:
    """Describe, from its first bytes alone, why a file cannot be one of questions; None if it may be."""
    try:
        head = _head(path)
    except DataError as error:
        return str(error)[len(path) + 2 :]
    kind = _kind(path, head)
    if kind == "columns":
        from squad.data import columnar

        lacking = columnar.missing()
        return f"{columnar.kind(head)} {lacking}" if lacking else None
    if kind == "table":
        from squad.data import tables

        return tables.problem(path, head) or None
    found = file_kinds.name(head[: file_kinds.HEAD])
    return "; ".join(found) if found else None


def is_table(path: str) -> bool:
    """Tell whether a file is a CSV or TSV. DataError: it cannot be read."""
    return _kind(path, _head(path)) == "table"


def _head(path: str) -> bytes:
    """Read the beginning of a file, unpacked as far as it goes."""
    try:
        with _opened(path) as stream:
            head = stream.read(_HEAD)
    except OSError as error:
        raise DataError(f"{path}: {error.strerror or error}") from None
    if not head.startswith(file_kinds.GZIP):
        return head
    import zlib

    try:
        return zlib.decompressobj(zlib.MAX_WBITS | 16).decompress(head, _HEAD)
    except zlib.error:
        return b"["  # what is wrong is said when it is read


def _kind(path: str, head: bytes) -> str:
    """Tell how a file of questions is read: "columns", "table" or "" (JSON)."""
    if head.lstrip().startswith((b"{", b"[")):
        return ""
    found = file_kinds.name(head[: file_kinds.HEAD])
    if found and found[0] in file_kinds.COLUMNAR:
        return "columns"
    if found and found[0] not in (file_kinds.TABLE, file_kinds.UTF16):
        return ""
    from squad.data import tables

    return "table" if (found or [""])[0] == file_kinds.TABLE or tables.is_table(path, head) else ""


def _opened(path: str) -> BinaryIO:
    """Open a regular file; a FIFO would wait for ever."""
    try:
        handle = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    except (OSError, ValueError) as error:
        raise DataError(f"{path}: {getattr(error, 'strerror', None) or error}") from None
    mode = os.fstat(handle).st_mode
    if stat.S_ISREG(mode):
        return cast(BinaryIO, open(handle, "rb"))
    os.close(handle)
    if stat.S_ISDIR(mode):
        raise DataError(f"{path}: a folder; give the file in it{_within(path)}")
    raise DataError(f"{path}: not a regular file; write its content to a file")


def _within(folder: str) -> str:
    """List the files of a folder that may have questions: ": train.json, validation.json"."""
    try:
        names = sorted(name for name in os.listdir(folder) if _NAMES.search(name))
    except OSError:
        return ""
    listed = ", ".join(map(layouts.name, names[:4])) + (", ..." if len(names) > 4 else "")
    return f": {listed}" if names else ""


def _content(path: str) -> bytes:
    """Read a file, unpacked."""
    try:
        with _opened(path) as stream:
            raw = stream.read()
    except OSError as error:
        raise DataError(f"{path}: {error.strerror or error}") from None
    if raw.startswith(file_kinds.GZIP):
        raw = _unpacked(path, raw)
    return raw


def _parsed(path: str, raw: bytes) -> Any:
    found = file_kinds.name(raw[: file_kinds.HEAD])
    if found:
        what, advice = found
        raise DataError(f"{path}: {what}, not JSON; {advice}")
    try:
        text = raw.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise DataError(f"{path}: not UTF-8 at byte {error.start}; save it as UTF-8") from None
    try:
        return json.loads(text)
    except json.JSONDecodeError as error:
        if error.msg == "Extra data":
            return _lines(path, text)
        raise _invalid(path, text, error) from None
    except RecursionError:
        raise DataError(f"{path}: JSON is nested too deeply; give a SQuAD file") from None
    except ValueError as error:  # a number of thousands of digits
        raise DataError(f"{path}: invalid JSON: {error}; correct it") from None


def _unpacked(path: str, raw: bytes) -> bytes:
    import gzip
    import io
    import zlib

    try:
        content = gzip.GzipFile(fileobj=io.BytesIO(raw)).read(_LARGEST + 1)
    except (OSError, EOFError, zlib.error) as error:
        raise DataError(f"{path}: a gzip file that cannot be unpacked: {error}; download it again") from None
    if len(content) > _LARGEST:
        raise DataError(f"{path}: a gzip file of more than {_LARGEST >> 30} GiB unpacked; give a SQuAD file")
    return content


def _invalid(path: str, text: str, error: json.JSONDecodeError) -> DataError:
    """Say where the JSON is broken, and whether the file ends there."""
    place = f"{path}:{error.lineno}:{error.colno}: invalid JSON: {error.msg}"
    if error.pos >= len(text.rstrip()) or error.msg.startswith("Unterminated string"):
        return DataError(f"{place}: the file ends too early; download it again")
    if error.pos == 0 or text[error.pos : error.pos + 1] == "'":
        return DataError(f"{place}: {text[error.pos : error.pos + 20]!r}; give a SQuAD file")
    return DataError(f"{place}; correct it or download it again")


def _lines(path: str, text: str) -> Rows:
    """Parse JSON lines (jsonlines.org), as Dataset.to_json of Hugging Face's datasets writes them."""
    values = Rows()
    for number, line in enumerate(text.split("\n"), 1):
        if not line.strip():
            continue
        try:
            values.add(number, json.loads(line))
        except json.JSONDecodeError as error:
            place = f"{path}:{number}:{error.colno}: invalid JSON: {error.msg}"
            raise DataError(f"{place}; give one JSON document, or one object a line") from None
        except (RecursionError, ValueError) as error:
            raise DataError(f"{path}:{number}: invalid JSON: {error}; correct it") from None
    return values
