"""Read the questions of parquet files, and of the Arrow files that Dataset.save_to_disk writes.

Hugging Face's hub has its data sets as parquet: id, title, context, question and answers, a struct of two
lists. pyarrow (`pip install npu-launch[parquet]`) is imported when such a file is read, not before.
"""

from __future__ import annotations

import importlib.util
from typing import Any

from squad.data import file_kinds, layouts
from squad.data.rows import ANSWERS, Rows
from squad.errors import DataError

_READ = ("id", "context", "question", "answers", "is_impossible", "paragraphs", "qas")
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
        table = _table(raw, what)
        names = [str(name) for name in table.column_names]
        _check(path, what, names)
        listed = table.select([name for name in _READ if name in names]).to_pylist()
    except (pyarrow.ArrowException, OSError, ValueError, MemoryError, OverflowError) as error:
        reason = (str(error).strip().splitlines() or [type(error).__name__])[0][:200]
        raise DataError(f"{path}: {what} that cannot be read: {reason}; write or download it again") from None
    rows = Rows("row %d")
    for number, entry in enumerate(listed, 1):
        rows.add(number, entry)
    if "answers" not in names and "context" in names and "question" in names:
        rows.without = ANSWERS
    return rows


def _table(raw: bytes, what: str) -> Any:
    """Open a file's table; in this thread alone, as a rank has few cores."""
    import pyarrow

    source = pyarrow.BufferReader(raw)
    if what == "an Arrow stream":
        return pyarrow.ipc.open_stream(source).read_all()
    if what == "an Arrow file":
        return pyarrow.ipc.open_file(source).read_all()
    from pyarrow import parquet

    file = parquet.ParquetFile(source)
    groups = range(file.metadata.num_row_groups)
    if sum(file.metadata.row_group(group).total_byte_size for group in groups) > _LARGEST:
        raise ValueError(f"more than {_LARGEST >> 30} GiB unpacked")
    wanted = [name for name in file.schema_arrow.names if name in _READ]
    return file.read(columns=wanted, use_threads=False) if wanted else file.schema_arrow.empty_table()


def _check(path: str, what: str, names: list[str]) -> None:
    """Refuse a table of something else than questions, by the names of its columns."""
    if "paragraphs" in names or ("context" in names and ("question" in names or "qas" in names)):
        return
    known = layouts.foreign(dict.fromkeys(names))
    listed = ", ".join(map(layouts.name, names[:8])) or "none"
    advice = known or f"no columns context and question (found: {listed}); rename them"
    raise DataError(f"{path}: {what}: {advice}")
