"""Which framework a job's ranks run: as the job says, else as the program's own imports say."""

from __future__ import annotations

import ast
import os
import re
import warnings
from contextlib import suppress
from dataclasses import replace
from importlib import import_module
from typing import Iterator, Sequence

from launcher.config.job import JobConfig, Provenance
from launcher.profiles.base import Profile

FRAMEWORKS = ("tensorflow", "torch", "mindspore", "paddle", "none")
DEFAULT = "tensorflow"
_MOST = 1 << 18  # bytes of a program that are looked at
_IMPORT = re.compile(r"[ \t]*(?:from[ \t]+([\w.]+)[ \t]+import\b|import[ \t]+([\w.]+[\w., \t]*))")
_OF = {
    "torch": "torch", "torch_npu": "torch", "lightning": "torch", "pytorch_lightning": "torch",
    "accelerate": "torch", "deepspeed": "torch",
    "mindspore": "mindspore", "mindformers": "mindspore",
    "paddle": "paddle", "paddlenlp": "paddle",
    "tensorflow": "tensorflow", "npu_bridge": "tensorflow", "npu_device": "tensorflow",
}  # fmt: skip


def profile(framework: str) -> Profile:
    """Return the profile of a framework; that of no framework for another name."""
    name = framework or DEFAULT
    if name not in FRAMEWORKS or name == Profile.name:
        return Profile()
    found: Profile = getattr(import_module(f"launcher.profiles.{name}"), name.upper())
    return found


def reads_table(config: JobConfig) -> bool:
    """Tell whether HCCL or the framework reads the rank table of a job on NPUs."""
    return profile(config.framework).reads_table and not config.rank_table_free


def settle(
    config: JobConfig, source: Provenance, command: Sequence[str], launch_dir: str
) -> tuple[JobConfig, tuple[str, ...]]:
    """Fill in the framework of a job; a note says where one other than TensorFlow was recognised.

    Raises:
        ConfigError: it names none, or another key does not go with it.
    """
    settled, notes = _settled(config, source, command, launch_dir)
    if config.rank_table_free and not profile(settled.framework).reads_table:
        problem = f"{settled.framework} ranks read no rank table (expected with another framework)"
        raise source.error("rank_table_free", problem + "; leave it out")
    return settled, notes


def _settled(
    config: JobConfig, source: Provenance, command: Sequence[str], launch_dir: str
) -> tuple[JobConfig, tuple[str, ...]]:
    if config.framework:
        if config.framework not in FRAMEWORKS:
            expected = f"(expected {', '.join(FRAMEWORKS)}); leave it out to have it recognised"
            raise source.error("framework", f"unknown framework {config.framework!r:.40} {expected}")
        return config, ()
    path = program_file(config, command, launch_dir)
    found = imported(path) if path else ""
    if found in ("", DEFAULT):
        return replace(config, framework=DEFAULT), ()
    note = f"framework {found}: {os.path.relpath(path, launch_dir)} imports it (framework: says otherwise)"
    return replace(config, framework=found), (note,)


def is_supposed(config: JobConfig, source: Provenance, command: Sequence[str], launch_dir: str) -> bool:
    """Tell whether the framework is the default, as nothing says one: the ranks may well have another."""
    if config.framework != DEFAULT or "framework" in {*source.written, *source.lines}:
        return False
    path = program_file(config, command, launch_dir)
    return not path or imported(path) != DEFAULT


def program_file(config: JobConfig, command: Sequence[str], launch_dir: str) -> str:
    """Find the Python file that a job runs: the first word that names one; "" if there is none."""
    program = config.program
    words = list(command) or (list(program) if isinstance(program, list) else [str(program)])
    if words and not command and isinstance(program, str) and not program.endswith(".py"):
        words = ["-m", program]
    for place, word in enumerate(words):
        if place and words[place - 1] == "-m":
            base = os.path.join(launch_dir, *str(word).split("."))
            return next(filter(os.path.isfile, (base + ".py", os.path.join(base, "__main__.py"))), "")
        if str(word).endswith(".py"):
            path = os.path.join(launch_dir, str(word))
            return path if os.path.isfile(path) else ""
    return ""


def imported(path: str) -> str:
    """Return the framework whose packages a program imports first; "" for none of those known."""
    return next((_OF[name] for name in _imports(path) if name in _OF), "")


def text_of(path: str) -> str:
    """Return the beginning of a program's text; "" when it cannot be read."""
    with suppress(OSError), open(path, encoding="utf-8-sig", errors="replace") as stream:
        return stream.read(_MOST)
    return ""


def _imports(path: str) -> Iterator[str]:
    """Return the top names of the packages that a file's import statements name, in their order."""
    text = text_of(path)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # what Python says of the program's own strings
        try:
            nodes = list(ast.walk(ast.parse(text)))
        except (SyntaxError, ValueError, RecursionError, MemoryError):  # of a newer Python, or too long
            return _imports_by_line(text)
    found = [
        (node.lineno, node.col_offset, name)
        for node in nodes
        if isinstance(node, (ast.Import, ast.ImportFrom))
        for name in _named(node)
    ]
    return (name.split(".")[0] for _, _, name in sorted(found, key=lambda item: item[:2]))


def _named(node: ast.Import | ast.ImportFrom) -> list[str]:
    if isinstance(node, ast.Import):
        return [alias.name for alias in node.names]
    return [node.module] if node.module and not node.level else []


def _imports_by_line(text: str) -> Iterator[str]:
    for line in text.splitlines():
        found = _IMPORT.match(line)
        for name in (found.group(1) or found.group(2)).split(",") if found else ():
            yield name.strip().split(".")[0].split(" ")[0]
