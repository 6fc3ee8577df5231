"""What a program imports, by its own text and that of the files beside it: nothing is run, nothing is loaded.

A program that does not import its framework itself often starts one of its own modules that does, so these
are read too: as many as a start can wait for.
"""

from __future__ import annotations

import ast
import os
import re
import shutil
import sys
import warnings
from collections import deque
from contextlib import suppress
from dataclasses import dataclass
from importlib.machinery import PathFinder
from typing import Iterator, NamedTuple, Sequence

from launcher.config.job import JobConfig

_MOST = 1 << 18  # characters of a program that are read
_MOST_BESIDE, _MOST_FILES = 1 << 17, 32  # of the files beside it together, and how many files
_IMPORT = re.compile(
    r"^[ \t]*(?:from[ \t]+(\.*)([\w.]*)[ \t]+import\b[ \t]*(\([^)]*\)|[^\n#;]*)"
    r"|import[ \t]+([\w.]+[\w., \t]*))",
    re.MULTILINE,
)
_NAME = re.compile(r"(\w+)(?:[ \t]+as[ \t]+\w+)?")
_SCRIPT = re.compile(r"#!.*python")
# The frameworks themselves, and packages that need just one of them: the first that is imported decides.
DECIDE = {
    "torch": "torch", "torch_npu": "torch", "lightning": "torch", "pytorch_lightning": "torch",
    "accelerate": "torch", "deepspeed": "torch",
    "mindspore": "mindspore", "mindformers": "mindspore", "mindnlp": "mindspore", "mindone": "mindspore",
    "paddle": "paddle", "paddlenlp": "paddle", "paddleformers": "paddle",
    "tensorflow": "tensorflow", "npu_bridge": "tensorflow", "npu_device": "tensorflow",
}  # fmt: skip
# Where nothing decides: packages that need torch, some by way of others or for training alone (transformers,
# diffusers), and some of which MindNLP and PaddleFormers run on their own framework; npu-launch's own.
SUGGEST = {
    "transformers": "torch", "trl": "torch", "peft": "torch", "llamafactory": "torch", "swift": "torch",
    "megatron": "torch", "mindspeed": "torch", "mindspeed_llm": "torch", "mindspeed_mm": "torch",
    "mindspeed_rl": "torch", "verl": "torch", "diffusers": "torch", "sentence_transformers": "torch",
    "torchvision": "torch", "torchaudio": "torch", "torchtune": "torch", "timm": "torch",
    "squad": "tensorflow", "bert": "tensorflow",
}  # fmt: skip
_NOT_READ = "(not read)"  # stands for what files that are not read any more may import
_OWN = "launcher"  # whose worker file any program may import


@dataclass(frozen=True)
class Found:
    """What a program's imports say of its framework.

    framework: "" where none is known. package: by which it is known. file: where that is imported. unknown:
    there may be one all the same, as the program cannot be read, or imports packages that are not known.
    """

    framework: str = ""
    package: str = ""
    file: str = ""
    unknown: bool = False


class Import(NamedTuple):
    """An import statement's module. level: of a relative one. names: what is taken from it."""

    module: str
    level: int = 0
    names: tuple[str, ...] = ()

    @property
    def package(self) -> str:
        """The top name; "" of a relative import."""
        return "" if self.level else self.module.split(".")[0]


@dataclass(frozen=True)
class Program:
    """A Python program: its file, "" where none is found, and its name where it is run as a module.

    root: the folder in which its imports are sought first.
    """

    file: str = ""
    module: str = ""
    root: str = ""

    @classmethod
    def of(cls, config: JobConfig, command: Sequence[str], launch_dir: str, path: str = "") -> Program:
        """Find the first word that names a Python program. path: of the shell, for commands."""
        program = config.program
        words = list(command) or (list(program) if isinstance(program, list) else [str(program)])
        if words and not command and isinstance(program, str) and not program.endswith(".py"):
            words = ["-m", program]
        for place, word in enumerate(map(str, words)):
            if place and words[place - 1] == "-m":
                return cls(module_file(word, launch_dir), word, launch_dir)
            if word.endswith(".py"):
                file = os.path.join(launch_dir, word)
                folder = os.path.dirname(os.path.realpath(file))
                return cls(file, "", folder) if os.path.isfile(file) else cls()
        return cls(_script(str(words[0]), path) if words else "")


def module_file(module: str, folder: str) -> str:
    """Return the file of a folder that runs as a module; "" where it holds none."""
    base = os.path.join(folder, *module.split("."))
    return next(filter(os.path.isfile, (base + ".py", os.path.join(base, "__main__.py"))), "")


def _script(name: str, path: str) -> str:
    """Return the file of a command that is written in Python, as pip makes them; "" for others."""
    found = shutil.which(name, path=path) if path and os.sep not in name else None
    return found if found and _SCRIPT.match(text_of(found, 128)) else ""


def look(program: Program) -> Found:
    """Return the framework that a program imports first, itself or by the files beside it."""
    suggestion, unknown = Found(), False
    for file, item in _all(program):
        name = item.package
        if name in DECIDE:
            return Found(DECIDE[name], name, file)
        if name in SUGGEST and not suggestion.framework:
            suggestion = Found(SUGGEST[name], name, file)
        unknown = unknown or not (item.level or name == _OWN or _is_known(name, program.root))
    return suggestion if suggestion.framework else Found(unknown=unknown or not program.file)


def _all(program: Program) -> Iterator[tuple[str, Import]]:
    """Yield imports with their files: the program's, then those of the files beside it, the nearest first."""
    left, start = _MOST, Import(program.module)
    seen: set[str] = set()
    waiting = deque(filter(None, [program.file]))
    if program.module:
        waiting.extend(_beside(start, program.root, ""))
        yield program.file, start
    while waiting and left > 0 and len(seen) < _MOST_FILES:
        file = waiting.popleft()
        if os.path.realpath(file) in seen:
            continue
        seen.add(os.path.realpath(file))
        text = text_of(file, left)
        left = min(left - len(text), _MOST_BESIDE)
        for item in imports(text) if file == program.file else _of_beside(text):
            yield file, item
            waiting.extend(_beside(item, program.root, file))
    if waiting:
        yield program.file, Import(_NOT_READ)


def _of_beside(text: str) -> Iterator[Import]:
    """Return the imports of a file beside the program, parsed (which takes long) only if one decides."""
    found = [*_by_line(text)]
    return imports(text) if any(item.package in DECIDE for item in found) else iter(found)


def _beside(item: Import, root: str, file: str) -> Iterator[str]:
    """Yield the files below `root` that Python runs for an import in a file."""
    folder = root
    for step in range(item.level):
        folder = os.path.dirname(file if step == 0 else folder)
    if not folder:
        return
    for part in filter(None, item.module.split(".")):
        folder = os.path.join(folder, part)
        if not os.path.isdir(folder):
            yield from filter(os.path.isfile, [folder + ".py"])
            return
        yield from filter(os.path.isfile, [os.path.join(folder, "__init__.py")])
    for name in item.names:
        inner = os.path.join(folder, name)
        yield from filter(os.path.isfile, (inner + ".py", os.path.join(inner, "__init__.py")))


def _is_known(name: str, root: str) -> bool:
    """Tell whether a package brings no framework that is not seen: Python's own, or beside the program."""
    if name in sys.builtin_module_names:
        return True
    beside = os.path.join(root, name) if root else ""
    if beside and (os.path.isdir(beside) or os.path.isfile(beside + ".py")):
        return True
    standard = os.path.dirname(os.__file__)
    return PathFinder.find_spec(name, [standard, os.path.join(standard, "lib-dynload")]) is not None


def text_of(path: str, most: int = _MOST) -> str:
    """Return the beginning of a program's text; "" when it cannot be read."""
    with suppress(OSError), open(path, encoding="utf-8-sig", errors="replace") as stream:
        return stream.read(most)
    return ""


def imports(text: str) -> Iterator[Import]:
    """Return the import statements of a program, in the order of its lines."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # what Python says of the program's own strings
        try:
            tree = ast.parse(text)
        except (SyntaxError, ValueError, RecursionError, MemoryError):  # of a newer Python, or cut off
            return _by_line(text)
    found = [node for node in _statements(tree) if isinstance(node, (ast.Import, ast.ImportFrom))]
    found.sort(key=lambda node: (node.lineno, node.col_offset))
    return (item for node in found for item in _named(node))


def _statements(tree: ast.AST) -> Iterator[ast.AST]:
    """Yield the statements of a module, also those in others; not expressions, which are most of it."""
    waiting = [tree]
    while waiting:
        node = waiting.pop()
        yield node
        for field in ("body", "orelse", "finalbody", "handlers", "cases"):
            waiting.extend(getattr(node, field, ()))


def _named(node: ast.Import | ast.ImportFrom) -> Iterator[Import]:
    if isinstance(node, ast.Import):
        yield from (Import(alias.name) for alias in node.names)
    else:
        yield Import(node.module or "", node.level, tuple(alias.name for alias in node.names))


def _by_line(text: str) -> Iterator[Import]:
    """Find what reads like an import at the beginning of a line; in a string, too."""
    for dots, module, names, modules in _IMPORT.findall(text):
        if modules:
            yield from (Import(name.strip().split(" ")[0]) for name in modules.split(","))
        else:
            yield Import(module, len(dots), tuple(_NAME.findall(names)))
