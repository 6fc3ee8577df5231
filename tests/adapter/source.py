"""Read what a copy of the adapter's source says: signatures of its Python, definitions of its operations.

Nothing of the source is imported or run: Python is parsed, C++ is searched for REGISTER_OP.
"""

from __future__ import annotations

import ast
import inspect
import re
from pathlib import Path
from typing import Any, Iterator, NamedTuple

_REGISTERED = re.compile(r'REGISTER_OP\("(\w+)"\)')
_PART = re.compile(r'\.(Input|Output|Attr)\(\s*"([^"]*)"')
# Where the packages lie in a checkout of the source, then where an installation has them.
_PYTHON = {
    "npu_bridge": ("tf_adapter/python", "python", "."),
    "npu_device": ("tf_adapter_2.x/python", "python", "."),
}


class Operation(NamedTuple):
    """The definition of an operation, in TensorFlow's own notation, and where it stands."""

    inputs: list[str]
    outputs: list[str]
    attrs: list[str]
    place: str

    def facts(self) -> dict[str, list[str]]:
        return {"inputs": self.inputs, "outputs": self.outputs, "attrs": self.attrs}


class Function(NamedTuple):
    """The signature of a Python function or method, and where it stands."""

    signature: str
    place: str


class Unreadable(Exception):
    """A file of the source cannot be read; the message says which, and why."""


class Source:
    """A folder with the adapter's source, or with an installed package of it."""

    def __init__(self, root: Path) -> None:
        self.root = root

    def package(self, name: str) -> Path | None:
        """Find the folder of npu_bridge or npu_device; None: it is not there."""
        for place in _PYTHON[name]:
            folder = self.root / place / name
            if (folder / "__init__.py").is_file():
                return folder
        return None

    def operations(self) -> dict[str, Operation]:
        """Read every REGISTER_OP below tf_adapter/ops; {} for an installation, which has none."""
        found: dict[str, Operation] = {}
        for path in sorted((self.root / "tf_adapter" / "ops").rglob("*.cc")):
            found.update(_operations(path, path.relative_to(self.root)))
        return found

    def function(self, name: str) -> Function | None:
        """Read the signature of "package.module:function" or "...:Class.method"; None: there is no such."""
        module, _, qualified = name.partition(":")
        path = self._module(module)
        if path is None:
            return None
        node = _find(_parse(path), qualified.split("."))
        if node is None:
            return None
        return Function(_signature(node), f"{self._relative(path)}:{node.lineno}")

    def line(self, name: str) -> str | None:
        """Find where "package.module:name" is assigned or imported; None: it is not."""
        module, _, wanted = name.partition(":")
        path = self._module(module)
        if path is None:
            return None
        for node in ast.walk(_parse(path)):
            if wanted in _bound(node):
                return f"{self._relative(path)}:{getattr(node, 'lineno', 0)}"
        return None

    def file(self, name: str) -> str:
        """Read a file of the source; "" when there is none."""
        path = self.root / name
        return _read(path) if path.is_file() else ""

    def text(self, place: str) -> str:
        """Read the line of "file:line"; "" when there is none."""
        file, _, number = place.rpartition(":")
        lines = self.file(file).splitlines()
        return lines[int(number) - 1] if 0 < int(number) <= len(lines) else ""

    def _module(self, module: str) -> Path | None:
        package, *rest = module.split(".")
        folder = self.package(package)
        if folder is None:
            return None
        for path in (folder.joinpath(*rest).with_suffix(".py"), folder.joinpath(*rest, "__init__.py")):
            if path.is_file():
                return path
        return None

    def _relative(self, path: Path) -> str:
        return path.relative_to(self.root).as_posix()


def _read(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise Unreadable(f"{path}: cannot be read: {error}") from error


def _parse(path: Path) -> Any:
    try:
        return ast.parse(_read(path))
    except (SyntaxError, ValueError) as error:
        raise Unreadable(f"{path}: is no Python: {error}") from error


def _operations(path: Path, relative: Path) -> Iterator[tuple[str, Operation]]:
    text = _read(path)
    starts = list(_REGISTERED.finditer(text))
    ends = [match.start() for match in starts[1:]] + [len(text)]
    for match, end in zip(starts, ends):
        parts: dict[str, list[str]] = {"Input": [], "Output": [], "Attr": []}
        for kind, value in _PART.findall(text[match.start() : end]):
            parts[kind].append(" ".join(value.split()))
        line = text.count("\n", 0, match.start()) + 1
        place = f"{relative.as_posix()}:{line}"
        yield match.group(1), Operation(parts["Input"], parts["Output"], parts["Attr"], place)


def _find(tree: Any, names: list[str]) -> Any:
    """Find a function by its qualified name, the last one of that name, as at run time."""
    for name in names:
        nodes = [
            node
            for node in tree.body
            if isinstance(node, (ast.FunctionDef, ast.ClassDef)) and node.name == name
        ]
        if not nodes:
            return None
        tree = nodes[-1]
    return tree if isinstance(tree, ast.FunctionDef) else None


def _signature(node: ast.FunctionDef) -> str:
    """Write a definition's parameters as inspect.signature would, without self."""
    given, empty = node.args, inspect.Parameter.empty
    defaults: list[Any] = [empty] * (len(given.args) - len(given.defaults)) + list(given.defaults)
    kind = inspect.Parameter
    found = [(arg, kind.POSITIONAL_OR_KEYWORD, default) for arg, default in zip(given.args, defaults)]
    found += [(given.vararg, kind.VAR_POSITIONAL, empty)] if given.vararg else []
    found += [
        (arg, kind.KEYWORD_ONLY, empty if default is None else default)
        for arg, default in zip(given.kwonlyargs, given.kw_defaults)
    ]
    found += [(given.kwarg, kind.VAR_KEYWORD, empty)] if given.kwarg else []
    return str(
        inspect.Signature(
            [
                inspect.Parameter(arg.arg, place, default=default if default is empty else _value(default))
                for arg, place, default in found
                if arg.arg != "self"
            ]
        )
    )


class _Named(str):
    """A default that is no literal: shown by its name, without quotes."""

    __repr__ = str.__str__


def _value(node: Any) -> Any:
    try:
        return ast.literal_eval(node)
    except ValueError:
        return _Named(getattr(node, "id", type(node).__name__))


def _bound(node: ast.AST) -> list[str]:
    if isinstance(node, (ast.Import, ast.ImportFrom)):
        return [alias.asname or alias.name for alias in node.names]
    if isinstance(node, ast.Assign):
        return [target.id for target in node.targets if isinstance(target, ast.Name)]
    return []
