"""YAML as it is written: each scalar is read as what its key expects, not as what YAML 1.1 makes of it.

YAML 1.1 turns 12:30:45 into 45045, 1.10 into 1.1, 0755 into 493, 1_000 into 1000, `on` into true and
2026-03-01 into a date. Here the nodes of PyYAML's composer are read, and no deeper than a job file is: what
refers to itself, or repeats itself by aliases without end, costs nothing.
"""

from __future__ import annotations

import re
from typing import Any, Callable, List, NamedTuple, TypeVar, Union

_TAG = "tag:yaml.org,2002:"
_KNOWN = {_TAG + kind for kind in "str int float bool null timestamp value merge seq map".split()}
_WHOLE = re.compile(r"[-+]?[0-9][0-9_]{0,17}")
_NUMBER = re.compile(r"[-+]?([0-9][0-9_]{0,17}(\.[0-9_]*)?|\.[0-9]+)([eE][-+]?[0-9]{1,3})?")
_INFINITE = re.compile(r"[-+]?\.(inf|Inf|INF)|\.(nan|NaN|NAN)")

Argument = Union[str, bool, None, List[Union[str, bool]]]
Item = TypeVar("Item")


class YamlError(Exception):
    """A document that is no YAML, or a key of it that stands twice."""

    def __init__(self, message: str, line: int | None = None, key: str | None = None) -> None:
        super().__init__(message)
        self.line, self.key = line, key


class WrongType(Exception):
    """A value of another type than its key expects."""


class Entry(NamedTuple):
    """A value of a mapping, and the line of its key."""

    line: int
    node: Any


def compose(text: str) -> Any:
    """Parse a document into PyYAML's nodes; None for an empty one. YamlError: it is no YAML."""
    import yaml

    try:
        return yaml.compose(text, Loader=yaml.SafeLoader)
    except RecursionError:
        raise YamlError("nested too deeply (expected keys with texts, numbers and lists)") from None
    except yaml.reader.ReaderError as error:
        line = text.count("\n", 0, error.position) + 1
        raise YamlError(f"invalid YAML: the character {chr(int(error.character))!r}", line) from None
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        problem = getattr(error, "problem", None) or "cannot be read"
        if "another document" in problem:
            problem = "a second document (expected one)"
        scanned = f"{getattr(error, 'context', '')} {problem}"
        advice = "; quote a value that begins with *" if "alias" in scanned else ""
        raise YamlError(f"invalid YAML: {problem}{advice}", mark.line + 1 if mark else None) from None


def scalar(text: str) -> Any:
    """Make the node of a text that is to be taken as it is."""
    import yaml

    return yaml.ScalarNode(_TAG + "str", text, style='"')


def is_mapping(node: Any) -> bool:
    """Tell whether a node is a mapping."""
    return bool(node is not None and node.id == "mapping")


def entries(node: Any) -> dict[str, Entry]:
    """Return the values of a mapping by key; `<<` merges mappings. YamlError: a key twice, or no text."""
    try:
        return _entries(node, {})
    except RecursionError:
        raise YamlError("nested too deeply (expected keys with texts, numbers and lists)") from None


def _entries(node: Any, done: dict[int, dict[str, Entry]]) -> dict[str, Entry]:
    if id(node) in done:
        return done[id(node)]
    done[id(node)] = {}  # what merges itself adds nothing
    own: dict[str, Entry] = {}
    merged: dict[str, Entry] = {}
    for key, value in node.value:
        line = key.start_mark.line + 1
        if key.tag == _TAG + "merge":
            for part in value.value if value.id == "sequence" else [value]:
                if not is_mapping(part):
                    raise YamlError("invalid YAML: << merges what is no mapping", line)
                merged.update(
                    {name: item for name, item in _entries(part, done).items() if name not in merged}
                )
            continue
        if key.id != "scalar" or not key.value:
            raise YamlError("invalid YAML: a key that is no text", line)
        if key.value in own:
            first = own[key.value].line
            raise YamlError(f"duplicate key, first defined on line {first}; keep one", line, key.value)
        own[key.value] = Entry(line, value)
    done[id(node)] = {**merged, **own}
    return done[id(node)]


def text(node: Any) -> str:
    """Return a scalar as it is written. WrongType: it is null, or no scalar."""
    if node.id != "scalar" or _is_null(node):
        raise _wrong(node, "text")
    _check_tag(node)
    return str(node.value)


def texts(node: Any) -> list[str]:
    """Return a list of scalars as they are written."""
    return _items(node, _word)


def _items(node: Any, reader: Callable[[Any], Item]) -> list[Item]:
    if node.id != "sequence":
        raise _wrong(node, "a list")
    return [reader(item) for item in node.value]


def _word(node: Any) -> str:
    return "~" if node.id == "scalar" and node.value == "~" else text(node)


def text_or_texts(node: Any) -> str | list[str]:
    """Return a scalar, or a list of them, as written."""
    return texts(node) if node.id == "sequence" else text(node)


def whole(node: Any) -> int:
    """Return a whole number in decimal digits."""
    if not _is_plain(node, _WHOLE):
        raise _wrong(node, "a whole number")
    return int(node.value)


def wholes(node: Any) -> list[int]:
    """Return a list of whole numbers."""
    return _items(node, whole)


def number(node: Any) -> float:
    """Return a number in decimal digits."""
    if _is_plain(node, _INFINITE):
        return float(node.value.replace(".", ""))
    if not _is_plain(node, _NUMBER):
        raise _wrong(node, "a number")
    return float(node.value)


def flag(node: Any) -> bool:
    """Return true or false, in any of YAML 1.1's words for them."""
    if node.id != "scalar" or node.tag != _TAG + "bool":
        raise _wrong(node, "true or false")
    return node.value.lower() in ("true", "yes", "on")


def argument(node: Any) -> Argument:
    """Return what a program is given: text as written, true or false, a list of these; None for null."""
    if node.id == "sequence":
        return _items(node, _item)
    return None if _is_null(node) and node.value != "~" else _item(node)


def _item(node: Any) -> str | bool:
    if node.id == "scalar" and node.style is None and node.value.lower() in ("true", "false"):
        return bool(node.value.lower() == "true")
    if node.id != "scalar":
        raise _wrong(node, "text, or a list of texts; put it in quotes to pass it as it is written")
    return _word(node)


def _is_null(node: Any) -> bool:
    return bool(node.id == "scalar" and node.tag == _TAG + "null")


def _is_plain(node: Any, pattern: Any) -> bool:
    return bool(node.id == "scalar" and node.style is None and pattern.fullmatch(node.value))


def _check_tag(node: Any) -> None:
    if node.tag not in _KNOWN:
        raise YamlError(f"invalid YAML: unknown tag {node.tag}; leave it out", node.start_mark.line + 1)


def _wrong(node: Any, expected: str) -> WrongType:
    _check_tag(node)
    found = {"sequence": "a list", "mapping": "a mapping"}.get(node.id) or repr(node.value)[:60]
    return WrongType(f"{'null' if _is_null(node) else found}: wrong type (expected {expected})")
