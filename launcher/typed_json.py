"""JSON read as the types that are expected, each value refused by its place in the document.

A refusal names the type that was found, never the value: values of `env` may be secrets.
"""

from __future__ import annotations

import dataclasses
import json
import math
from typing import Any, NoReturn, Sequence

from launcher.errors import ReadError

NAMES = {
    dict: "an object",
    list: "a list",
    str: "a text",
    bool: "true or false",
    int: "a whole number",
    float: "a number",
    type(None): "null",
}


class Value:
    """A JSON value and its place in the document, such as `plan.json: ranks[3].env`."""

    def __init__(self, value: Any, file: str, path: str = "") -> None:
        self.value, self._file, self._path = value, file, path

    def refuse(self, found: str, expected: str) -> NoReturn:
        """Raise the error of this place."""
        place = ": ".join(filter(None, (self._file, f"{self._path:.200}")))
        raise ReadError(f"{place}: {found} (expected {expected})")

    def _of(self, kind: type) -> Any:
        if type(self.value) is not kind:
            self.refuse(NAMES[type(self.value)], NAMES[kind])
        return self.value

    def members(self) -> dict[str, Value]:
        """Return the members of an object by name."""
        dots = self._path + "." if self._path else ""
        return {name: Value(item, self._file, dots + name) for name, item in self._of(dict).items()}

    def fields(self, cls: type) -> dict[str, Value]:
        """Return the members of an object that has the fields of a dataclass: each of them, and no other."""
        return self.exactly([item.name for item in dataclasses.fields(cls)], cls.__name__)

    def exactly(self, wanted: Sequence[str], kind: str) -> dict[str, Value]:
        """Return the members of an object that has these: each of them, and no other."""
        members = self.members()
        for name in wanted:
            if name not in members:
                self.refuse(f"no {name!r}", f"the fields of {kind}")
        for name in members:
            if name not in wanted:
                self.refuse(f"unknown field {name!r:.60}", f"the fields of {kind}")
        return members

    def items(self) -> list[Value]:
        """Return the items of a list."""
        found = enumerate(self._of(list))
        return [Value(item, self._file, f"{self._path}[{place}]") for place, item in found]

    def text(self) -> str:
        """Return a text."""
        return str(self._of(str))

    def get(self, name: str, default: Any = None) -> Value:
        """Return a member of an object, or a default in its place when there is none."""
        found = self._of(dict).get(name, default)
        return Value(found, self._file, f"{self._path}.{name}" if self._path else name)

    def flag(self) -> bool:
        """Return true or false."""
        return bool(self._of(bool))

    def whole(self) -> int:
        """Return a whole number."""
        return int(self._of(int))

    def number(self) -> float:
        """Return a finite number; one without a fraction may be written without its point."""
        if type(self.value) is not int:
            self._of(float)
        try:
            number = float(self.value)
        except OverflowError:
            number = math.inf
        if not math.isfinite(number):
            self.refuse("a number out of range", "a finite number")
        return number

    def texts(self) -> tuple[str, ...]:
        """Return a list of texts."""
        return tuple(item.text() for item in self.items())

    def wholes(self) -> tuple[int, ...]:
        """Return a list of whole numbers."""
        return tuple(item.whole() for item in self.items())


def parse(text: str, file: str) -> Value:
    """Parse a JSON document. ReadError: it is none, or nested too deeply to read."""
    try:
        return Value(json.loads(text, parse_constant=_no_constant, parse_int=_short_whole), file)
    except RecursionError:
        problem = "nested too deeply"
    except json.JSONDecodeError as error:
        problem = f"line {error.lineno}: {error.msg}" if text.strip() else "empty"
    except ValueError:  # NaN, Infinity, and whole numbers longer than Python takes
        problem = "a number out of range"
    return Value(None, file).refuse(problem, "a JSON document")


def _short_whole(digits: str) -> int:
    if len(digits) > 1000:  # int() takes the square of their number: minutes for a megabyte
        raise ValueError(digits)
    return int(digits)


def _no_constant(name: str) -> NoReturn:
    raise ValueError(name)
