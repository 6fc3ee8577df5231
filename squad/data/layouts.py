"""Find the questions in a parsed file, whichever way it arranges them, or name the arrangement.

Read: SQuAD's articles and paragraphs, as CMRC's SQuAD-style files, DRCD, KorQuAD 1, GermanQuAD, FQuAD, MLQA
and XQuAD have them too; a list of them without the object around it; rows of one question each, as Hugging
Face's datasets and its run_qa.py write them, in `data`, in a list or one a line; pandas' orientations of
them but "values". Standard library only.
"""

from __future__ import annotations

import reprlib
from typing import Any, Iterable, NamedTuple, Sequence

from squad.data.rows import Rows

_BRIEF = reprlib.Repr()
_BRIEF.maxstring = _BRIEF.maxother = _BRIEF.maxlong = 40
_BRIEF.maxlevel, _BRIEF.maxdict, _BRIEF.maxlist = 2, 3, 3

# A key that gives a data set's own arrangement away -> its name.
_OTHERS = {
    "context_text": "CMRC 2018's own layout, which does not say where answers begin",
    "query_text": "CMRC 2018's own layout, which does not say where answers begin",
    "storyId": "NewsQA's own layout",
    "story": "CoQA's layout",
    "detected_answers": "MRQA's layout",
    "header": "MRQA's layout",
    "raw_html": "KorQuAD 2's layout",
    "Data": "TriviaQA's own layout",
    "document_text": "Natural Questions' layout",
    "document_html": "Natural Questions' layout",
    "supporting_facts": "HotpotQA's layout",
    "fact_docs": "DuReader's own layout",
    "prediction_text": "a list of predictions",
    "input_ids": "rows that are tokenised already",
    "rows": "an answer of Hugging Face's dataset viewer",
    "hidden_size": "a model's configuration",
    "model_type": "a model's configuration",
    "tokenizer_class": "a tokenizer's configuration",
    "added_tokens": "a tokenizer (tokenizer.json)",
}
_NOUNS = {dict: "an object", list: "a list", str: "a string", type(None): "null"}


class Layout(NamedTuple):
    """The entries of a file with their numbers, and what a place in it is called."""

    entries: Iterable[tuple[int, Any]]
    root: str  # "data[%d]"


def shown(value: Any) -> str:
    """Format a value for a message: short, without characters that a terminal would act on."""
    return "null" if value is None else _BRIEF.repr(value)


def name(text: str) -> str:
    """Format an id for a message: as it is if it can be printed."""
    return text if text.isprintable() and len(text) <= 80 else shown(text)


def find(document: Any) -> Layout | str:
    """Find the entries (articles, paragraphs or rows) of a document, or say why it has none."""
    if isinstance(document, Rows):
        return Layout(zip(document.numbers, document), document.root)
    if isinstance(document, list):
        if document and all(isinstance(entry, list) for entry in document):
            return 'a table without names of columns (pandas, orient="values"); write orient="records"'
        return Layout(enumerate(document), "[%d]")
    if not isinstance(document, dict):
        return f"{shown(document)} is not a JSON object with a key `data`; give a SQuAD file"
    data = document.get("data")
    if isinstance(data, list):
        if isinstance(document.get("columns"), list) and "index" in document:
            return _split(document["columns"], data)
        return Layout(enumerate(data), "data[%d]")
    if is_row(document):
        return _by_column(document)
    if isinstance(document.get("paragraphs" if "paragraphs" in document else "qas"), list):
        return Layout([(1, document)], "line %d")  # a single article or paragraph
    if document and all(isinstance(value, dict) and is_row(value) for value in document.values()):
        return Layout(enumerate(document.values(), 1), "row %d")  # pandas, orient="index"
    return _why_not(document)


def _split(columns: list[Any], data: list[Any]) -> Layout | str:
    """Read a table as pandas writes it with orient="split"."""
    names = [str(column) for column in columns]
    if not is_row(dict.fromkeys(names)):
        return f"a table by columns without context and question (found: {', '.join(map(name, names[:8]))})"
    if any(not isinstance(cells, list) or len(cells) != len(names) for cells in data):
        return 'a table (pandas, orient="split") whose rows have other columns; write orient="records"'
    return Layout(enumerate((dict(zip(names, cells)) for cells in data), 1), "row %d")


def _by_column(document: dict[str, Any]) -> Layout | str:
    """Read a single row, or columns as pandas' to_json and Dataset.to_dict have them."""
    held = [document["context"], document["question"]]
    if not all(isinstance(value, (list, dict)) for value in held):
        return Layout([(1, document)], "line %d")
    keys = range(len(held[0])) if isinstance(held[0], list) else list(held[0])
    columns: dict[str, list[Any]] = {}
    for column, cells in document.items():
        if isinstance(cells, dict) and list(cells) == keys:
            columns[column] = list(cells.values())
        elif isinstance(cells, list) and len(cells) == len(keys):
            columns[column] = cells
        else:
            return f'a table by columns, of which {name(column)} is no full one; write orient="records"'
    rows = (dict(zip(columns, cells)) for cells in zip(*columns.values()))
    return Layout(enumerate(rows, 1), "row %d")


def is_row(entry: dict[str, Any]) -> bool:
    """Tell whether an entry is one question with its context."""
    return "context" in entry and "question" in entry


def foreign(entry: Any) -> str:
    """Name the layout of an entry that is none of ours, with advice; "" if it is not known."""
    keys = list(entry) if isinstance(entry, dict) else []
    found = next((_OTHERS[key] for key in keys if key in _OTHERS), "")
    return f"{found}; convert it to SQuAD's" if found else ""


def describe(entry: Any) -> str:
    """Describe a value that should have been an object of ours: its layout, its keys or its type."""
    known = foreign(entry)
    if known:
        return known
    if not isinstance(entry, dict):
        return f"{_NOUNS.get(type(entry), shown(entry))}, not in a JSON object"
    return f"missing{held(entry)}"


def held(entry: dict[str, Any]) -> str:
    """List the keys of an object: " (the object has id, text)"."""
    keys = ", ".join(name(str(key)) for key in list(entry)[:8])
    return f" (the object has {keys})" if keys else ""


def _why_not(document: dict[str, Any]) -> str:
    """Say what an object without questions is."""
    known = foreign(document)
    if known:
        return known
    values = list(document.values())
    plain = all(isinstance(value, (str, int, float)) for value in values)
    if plain and len(values) > 1 and "version" not in document:
        return "data: missing; ids and values, as in predictions.json or null_odds.json; give a SQuAD file"
    sets = [key for key in document if key in ("train", "validation", "dev", "test")]
    if sets:
        return f"several sets in one file ({', '.join(sets)}); write one file for each"
    if "data" in document:
        return f"data: {shown(document['data'])} is not a list; give a SQuAD file"
    return f"data: missing{held(document)}; give a SQuAD file"


Place = Sequence[int]


def where(root: str, place: Place, *fields: str) -> str:
    """Format (0, 3, 2) as data[0].paragraphs[3].qas[2], and -1 as nothing."""
    parts = [root % place[0]] if len(place) else []
    parts += [f"{key}[{n}]" for key, n in zip(("paragraphs", "qas", "answers"), place[1:]) if n >= 0]
    return ".".join([*parts, *filter(None, fields)])
