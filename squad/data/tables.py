"""Read questions from plain tables: CSV and TSV, as spreadsheets, pandas and Dataset.to_csv write them.

The first line names the columns; RFC 4180's quotes. Answers are a text, or what json or Python would print
for a list of them. Standard library only, and every fault has its line.
"""

from __future__ import annotations

import ast
import codecs
import csv
import io
import json
import re
import sys
import warnings
from typing import Any, Iterator, Sequence

from squad.data import layouts
from squad.data.rows import ANSWERS, STARTS, Rows
from squad.errors import DataError

# What a column is -> its names, in lower case with _ for spaces; of several in a file the first here counts.
_NAMES = {
    "id": ("id", "qid", "qas_id", "question_id", "编号"),
    "question": ("question", "query", "问题", "問題"),
    "context": ("context", "passage", "paragraph", "text", "document", "article", "段落", "文章", "上下文"),
    "answers": ("answers", "answer", "answer_text", "answers.text", "答案"),
    "answer_start": ("answer_start", "answers.answer_start"),
    "is_impossible": ("is_impossible",),
    "title": ("title", "标题"),
}
_EXTENSIONS = {".csv": ",", ".tsv": "\t", ".tab": "\t"}
_DELIMITERS = ",\t;|"
_STRUCTURE = re.compile(r"\s*\{\s*['\"](text|answer_start)['\"]\s*:")
_NO_END = ("unexpected end of data", "a quote that does not end")  # what csv says of it, and here
_UTF16 = (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)


def is_table(path: str, head: bytes) -> bool:
    """Tell by a file's name and first bytes whether it is a table of questions."""
    text = _text(head)
    if text.lstrip().startswith(("{", "[", "<")) or "\0" in text[:100]:
        return False
    return bool(_extension(path)) or not _lacking(_columns(_header(path, text)[1]))


def problem(path: str, head: bytes) -> str:
    """Say what is wrong with the first line of a table; "" if it names the columns needed."""
    try:
        codecs.getincrementaldecoder(_encoding(head))().decode(head)  # it may end within a character
    except UnicodeDecodeError as error:
        return _otherwise(head, error.start)
    return _wrong(_header(path, _text(head))[1])


def read(path: str, raw: bytes) -> Rows:
    """Read the rows of a table.

    Raises:
        DataError: it is no UTF-8, has no columns for question and context, or quotes that do not end.
    """
    text = _decoded(path, raw)
    delimiter, header = _header(path, text)
    wrong = _wrong(header)
    if wrong:
        raise DataError(f"{path}: {wrong}")
    rows = Rows()
    try:
        try:
            records = list(_records(text, delimiter, quotes=True))
        except csv.Error:
            if delimiter != "\t":
                raise
            records = list(_records(text, delimiter, quotes=False))
            rows.notes.append("quotes are read as they stand, as they enclose no cells")
    except csv.Error as error:
        raise DataError(f"{path}: {str(error).replace(*_NO_END)}; write it again as CSV") from None
    _Filler(rows, header).fill(records)
    return rows


def _text(head: bytes) -> str:
    return head.decode(_encoding(head), "replace")


def _encoding(raw: bytes) -> str:
    return "utf-16" if raw.startswith(_UTF16) else "utf-8-sig"


def _wrong(header: Sequence[str]) -> str:
    lacking = _lacking(_columns(header))
    if not lacking:
        return ""
    found = ", ".join(map(layouts.name, header[:8]))
    return f"a table without column {lacking} (the first line has {found}); name the columns there"


def _extension(path: str) -> str:
    """Return the delimiter that a file's name promises, or ""."""
    name = path.lower()
    name = name[:-3] if name.endswith(".gz") else name
    return next((mark for end, mark in _EXTENSIONS.items() if name.endswith(end)), "")


def _decoded(path: str, raw: bytes) -> str:
    try:
        return raw.decode(_encoding(raw))
    except UnicodeDecodeError as error:
        raise DataError(f"{path}: {_otherwise(raw, error.start)}") from None


def _otherwise(raw: bytes, place: int) -> str:
    """Say what to do with a table in another encoding: these cannot be told apart, so none is guessed."""
    if raw.startswith(_UTF16):
        return "UTF-16 text that is damaged or ends too early; save it again, or copy it again"
    advice = 'save it as "CSV UTF-8"'
    guess = _guess(raw, place)
    if guess:
        advice += f", or, if it should read {guess}: iconv -f GB18030 -t UTF-8 FILE > NEW"
    line = raw.count(b"\n", 0, place) + 1
    return f"line {line} is not UTF-8; {advice}"


def _guess(raw: bytes, place: int) -> str:
    """Show what stands at a place if the file is GB18030, as Excel saves it in China; "" if it is not."""
    start = max(raw.rfind(mark, 0, place) for mark in b"\n,\t;") + 1
    try:
        codecs.getincrementaldecoder("gb18030")().decode(raw)
        return layouts.shown(raw[start : start + 400].decode("gb18030", "ignore").split("\n")[0][:12])
    except UnicodeDecodeError:
        return ""


def _header(path: str, text: str) -> tuple[str, list[str]]:
    """Find the delimiter and the cells of the first line: the delimiter with which it names our columns."""
    first = _extension(path)
    marks = first + _DELIMITERS.replace(first, "")
    told = re.match(r'"?sep=([,;|\t])"?\r?\n', text)  # Excel's own line
    if told:
        text, marks = text[told.end() :], told.group(1)
    found = []
    for mark in marks:
        try:
            cells = next(csv.reader(io.StringIO(text, newline=""), delimiter=mark, strict=True), [])
        except csv.Error:
            continue
        found.append((mark, cells))
        if not _lacking(_columns(cells)):
            return mark, cells
    return max(found, key=lambda one: len(one[1])) if found else (",", [])


def _columns(header: Sequence[str]) -> dict[str, int]:
    """Map what is read to the number of its column."""
    names = [re.sub(r"[\s-]+", "_", cell.strip().lower()) for cell in header]
    found = {}
    for column, known in _NAMES.items():
        place = next((names.index(name) for name in known if name in names), None)
        if place is not None:
            found[column] = place
    return found


def _lacking(columns: dict[str, int]) -> str:
    return " and ".join(name for name in ("question", "context") if name not in columns)


def _records(text: str, delimiter: str, quotes: bool) -> Iterator[tuple[int, list[str]]]:
    """Yield the lines' cells with the number of the line in which each begins, after the header."""
    skipped = 2 if re.match(r'"?sep=.', text) else 1
    limit = csv.field_size_limit(sys.maxsize)
    try:
        lines = io.StringIO(text, newline="")
        options: dict[str, Any] = {} if quotes else {"quoting": csv.QUOTE_NONE}
        reader = csv.reader(lines, delimiter=delimiter, strict=True, **options)
        line = 1
        while True:
            try:
                cells = next(reader, None)
            except csv.Error as error:
                raise csv.Error(f"line {line}: {error}") from None
            if cells is None:
                return
            if skipped:
                skipped -= 1
            elif any(cell.strip() for cell in cells):
                yield line, cells
            line = reader.line_num + 1
    finally:
        csv.field_size_limit(limit)


class _Filler:
    """A filler of rows with the questions of a table's records."""

    def __init__(self, rows: Rows, header: Sequence[str]) -> None:
        self._rows, self._width = rows, len(header)
        self._columns = _columns(header)
        used = set(self._columns.values())
        rest = [
            cell for place, cell in enumerate(header)
            if place not in used and cell.strip()
        ]  # fmt: skip
        if rest:
            rows.notes.append(f"columns that are not read: {', '.join(map(layouts.name, rest[:8]))}")

    def fill(self, records: Sequence[tuple[int, list[str]]]) -> None:
        """Add a question for each record, or what is wrong with it."""
        rows = self._rows
        answered = any(self._cell(cells, "answers") for _, cells in records)
        without = 0
        for number, (line, cells) in enumerate(records, 1):
            before = len(rows.faults)
            entry = self._entry(number, line, cells)
            if answered:
                entry["answers"] = self._answers(line, cells)
                without += entry["answers"] == [] and not entry.get("is_impossible")
            if len(rows.faults) == before:
                rows.add(line, entry)
        if without:
            noun = "question has" if without == 1 else "questions have"
            rows.notes.append(f"{without} {noun} no answer, as the cell of answers is empty")
        if not answered:
            rows.without = ANSWERS if records else ""  # without a line, the lack of questions is told
        elif not any(_has_start(entry["answers"]) for entry in rows):
            rows.without = STARTS
        rows.named = rows.without in self._columns

    def _entry(self, number: int, line: int, cells: Sequence[str]) -> dict[str, Any]:
        """Make a question without its answers."""
        self._check_width(line, cells)
        entry: dict[str, Any] = {"id": str(number)}
        for column in ("id", "context", "question"):
            if column in self._columns:
                entry[column] = self._cell(cells, column)
                if not entry[column].strip() and len(cells) >= self._width:
                    self._rows.faults.append((line, column, "empty; fill the cell or remove the line"))
        for column in ("is_impossible", "title"):
            if self._cell(cells, column).strip():
                entry[column] = self._cell(cells, column).strip()
        return entry

    def _check_width(self, line: int, cells: Sequence[str]) -> None:
        if len(cells) < self._width or any(cell.strip() for cell in cells[self._width :]):
            message = f"{len(cells)} cells, the first line has {self._width}"
            message += '; put a cell with a delimiter or a line break into "quotes"'
            self._rows.faults.append((line, "", message))

    def _cell(self, cells: Sequence[str], column: str) -> str:
        place = self._columns.get(column, self._width)
        return cells[place] if place < min(len(cells), self._width) else ""

    def _answers(self, line: int, cells: Sequence[str]) -> Any:
        """Read the answers of a record: none, a text, or a list that json or Python printed."""
        text = self._cell(cells, "answers")
        starts = self._cell(cells, "answer_start").strip()
        if not text.strip():
            return []
        value = _structure(text)
        if isinstance(value, list) and not all(isinstance(item, (str, dict)) for item in value):
            value = None  # a text such as [1990]
        if value is None and _STRUCTURE.match(text):
            self._rows.faults.append((line, "answers", f"{layouts.shown(text)} cannot be read; write JSON"))
        texts = value if isinstance(value, list) else [text]
        if isinstance(value, dict) or any(isinstance(item, dict) for item in texts):
            return value
        if not starts:
            return [{"text": item} for item in texts]
        places = _structure(starts)
        return {"text": texts, "answer_start": places if isinstance(places, list) else [starts]}


def _has_start(answers: Any) -> bool:
    if isinstance(answers, dict):
        return "answer_start" in answers
    return any(isinstance(answer, dict) and "answer_start" in answer for answer in answers)


def _structure(text: str) -> Any:
    """Read a list or an object that json, or Python or numpy, has printed; None if it is neither."""
    if not text.lstrip().startswith(("[", "{")):
        return None
    try:
        value = json.loads(text)
    except (ValueError, RecursionError):
        value = _printed(text.strip())
    if isinstance(value, dict):
        return value if "text" in value else None
    return value if isinstance(value, list) else None


class _Arrays(ast.NodeTransformer):
    """Take the list out of numpy's array([...], dtype=object), as pandas prints answers."""

    def visit_Call(self, node: ast.Call) -> ast.AST:
        """Return the first argument of a call of array."""
        array = isinstance(node.func, ast.Name) and node.func.id == "array" and node.args
        return self.visit(node.args[0]) if array else node


def _printed(text: str) -> Any:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # Python's, of a backslash in a text
            return ast.literal_eval(_Arrays().visit(ast.parse(text, mode="eval").body))
    except (ValueError, SyntaxError, TypeError, RecursionError, MemoryError):
        return None
