"""Read the questions of parquet files, and of the Arrow files that Dataset.save_to_disk writes.

Hugging Face's hub has its data sets as parquet: id, title, context, question and answers, a struct of two
lists. pyarrow (`pip install npu-launch[parquet]`) is imported when such a file is read, not before.
"""

from __future__ import annotations

import importlib.util
import re
from typing import Any

from squad.data import file_kinds, layouts
from squad.data.rows import ANSWERS, Rows
from squad.errors import DataError

_READ = (
    "id", "title", "context", "question", "answers", "answers.text", "answers.answer_start", "is_impossible",
    "paragraphs", "qas",
)  # fmt: skip
_LARGEST = 4 << 30  # bytes of a file unpacked


def kind(head: bytes) -> str:
    """Name the kind of file by its first bytes, one of file_kinds.COLUMNAR."""
    return (file_kinds.name(head) or ("a file",))[0]


def missing() -> str:
    """Say what to install; "" if it is there."""
    if importlib.util.find_spec("pyarrow") is not None:
        return ""
    return "needs pyarrow; pip install npu-launch[parquet], or write it as JSON lines: Dataset.to_json"


def read(path: str, raw: bytes) -> Rows:
    """Read the rows of a parquet or Arrow file.

    Raises:
        DataError: pyarrow is missing, the file is damaged, or it has no columns of questions.
    """
    what = kind(raw[: file_kinds.HEAD])
    lacking = missing()
    if lacking:
        raise DataError(f"{path}: {what} {lacking}")
    import pyarrow

    try:
        source = _open(raw, what)
        names = [str(name) for name in source.schema.names]
        listed = _rows(source, names) if not _lacking(names) else []
    except (pyarrow.ArrowException, OSError, ValueError, MemoryError, OverflowError) as error:
        first = (str(error).strip().splitlines() or [type(error).__name__])[0][:200]
        reason = "".join(mark if mark.isprintable() else "?" for mark in first)
        raise DataError(f"{path}: {what} that cannot be read: {reason}; write or download it again") from None
    if _lacking(names):
        raise DataError(f"{path}: {what}: {_lacking(names)}")
    rows = Rows("row %d")
    part = re.search(r"-(\d{5})-of-(\d{5})\.\w+$", path)
    if part and int(part.group(2)) > 1:
        rows.notes.append(f"one of {int(part.group(2))} parts of a data set; the others are not read")
    for number, entry in enumerate(listed, 1):
        rows.add(number, entry)
    if not {"answers", "answers.text"} & set(names) and "context" in names and "question" in names:
        rows.without = ANSWERS
    return rows


class _Parquet:
    """A parquet file, with the members of pyarrow's readers of Arrow files."""

    def __init__(self, source: Any) -> None:
        from pyarrow import parquet

        self._file = parquet.ParquetFile(source)
        self.schema = self._file.schema_arrow

    def read_all(self) -> Any:
        """Read what is needed, in this thread alone, as a rank has few cores. ValueError: too large."""
        groups = self._file.metadata
        sizes = (groups.row_group(group).total_byte_size for group in range(groups.num_row_groups))
        if sum(sizes) > _LARGEST:
            raise ValueError(f"more than {_LARGEST >> 30} GiB unpacked")
        columns = [name for name in self.schema.names if name in _READ]
        return self._file.read(columns=columns, use_threads=False)


def _open(raw: bytes, what: str) -> Any:
    import pyarrow

    source = pyarrow.BufferReader(raw)
    if what == "a parquet file":
        return _Parquet(source)
    return pyarrow.ipc.open_stream(source) if what == "an Arrow stream" else pyarrow.ipc.open_file(source)


def _rows(source: Any, names: list[str]) -> list[dict[str, Any]]:
    table = source.read_all().select([name for name in _READ if name in names])
    table.validate(full=True)  # in a damaged Arrow file offsets lead anywhere
    return list(table.to_pylist())


def _lacking(names: list[str]) -> str:
    """Say what a table of something else is, by the names of its columns; "" for one of questions."""
    twice = [name for name in _READ if names.count(name) > 1]
    if twice:
        return f"several columns are named {twice[0]}; rename all but one"
    if "paragraphs" in names or ("context" in names and ("question" in names or "qas" in names)):
        return ""
    listed = ", ".join(map(layouts.name, names[:8])) or "none"
    known = layouts.foreign(dict.fromkeys(names))
    return known or f"no columns context and question (found: {listed}); rename them"
