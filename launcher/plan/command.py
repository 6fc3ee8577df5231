"""The command line of a rank: its program is found, and one of Python is run by the worker file."""

from __future__ import annotations

import json
import os
import re
import shlex
import shutil
import sys
from typing import Mapping, Sequence

from launcher.config.job import JobConfig, Provenance, arguments
from launcher.errors import NotExecutableError, NotFoundError
from launcher.text import nearest

WORKER = os.path.join(os.path.dirname(os.path.dirname(os.path.abspath(__file__))), "worker.py")
_MODULE = re.compile(r"[^\W\d]\w*(\.[^\W\d]\w*)*")
_PLAIN = re.compile(r"[\w./+-]*[A-Za-z/][\w./=+-]*")  # a text that YAML takes without quotes
_PYTHON = re.compile(r"python(?:3(?:\.(\d+))?)?\Z")
_OLD = re.compile(r"python(?:2|3\.[0-6]\b)")  # cannot run the worker file
# Options of an interpreter after which its script or module is still the program; the last two have a value.
_FLAG = re.compile(r"-[bBdEOqsuv]+\Z|-[WX].+")
_FLAG_WITH_VALUE = ("-W", "-X")


def is_command(config: JobConfig, command: Sequence[str]) -> bool:
    """Say whether the job is a command, run as it is given, and not a Python program."""
    return bool(command) or isinstance(config.program, list)


def argv(config: JobConfig, command: Sequence[str], environ: Mapping[str, str], launch_dir: str) -> list[str]:
    """Return the command line of a rank.

    Raises:
        NotFoundError, NotExecutableError: its program is not there, or cannot be run.
    """
    flags = arguments(config.args)
    if is_command(config, command):
        words = [str(word) for word in (command or config.program)]
        return [*_of_command(words, config, environ, launch_dir), *flags]
    program = str(config.program)
    if not program.endswith(".py"):
        return [*_worker(config, environ, launch_dir), "-m", program, *flags]
    path = os.path.join(launch_dir, program)
    if not os.path.isfile(path):
        raise _no_file(program, launch_dir)
    return [*_worker(config, environ, launch_dir), path, *flags]


def _worker(config: JobConfig, environ: Mapping[str, str], launch_dir: str) -> list[str]:
    return [executable(config.python or sys.executable, environ, launch_dir), "-u", WORKER]


def _of_command(
    words: list[str], config: JobConfig, environ: Mapping[str, str], launch_dir: str
) -> list[str]:
    """Return a command; with the worker file where it is a script or `-m MODULE`, also after `python`."""
    program = _of_python(words, config.framework, launch_dir)
    if program:
        return [*_worker(config, environ, launch_dir), *program]
    first = executable(words[0], environ, launch_dir)
    options = _options(words)
    program = words[1 + len(options) :]
    is_module = program[:1] == ["-m"] and len(program) > 1
    is_script = bool(program) and program[0].endswith(".py")
    if not (is_module or is_script) or not _runs_the_worker(words[0], first):
        return [first, *words[1:]]
    if is_script:
        path = os.path.join(launch_dir, program[0])
        if os.path.realpath(path) == os.path.realpath(WORKER):
            return [first, *words[1:]]
        if not os.path.isfile(path) and config.cwd != "rank":
            raise _no_file(program[0], launch_dir)
        program = [path, *program[1:]] if os.path.isfile(path) else program
    return [first, *(option for option in options if option != "-u"), "-u", WORKER, *program]


def _of_python(words: list[str], framework: str, launch_dir: str) -> list[str]:
    """Return the words after `python` of a command that is a script or `-m MODULE`, as torchrun takes it.

    A script that is executable is a command of its own, but for torch: torchrun does not read its first line.
    """
    if words[0] == "-m" and len(words) > 1:
        return words
    path = os.path.join(launch_dir, words[0])
    if not words[0].endswith(".py") or not os.path.isfile(path):
        return []
    if os.access(path, os.X_OK) and framework != "torch":
        return []
    return [path, *words[1:]]


def _runs_the_worker(name: str, path: str) -> bool:
    """Tell whether a command is a Python interpreter that is new enough for the worker file."""
    found = _PYTHON.match(os.path.basename(name))
    names = (os.path.basename(name), os.path.basename(os.path.realpath(path)))
    return found is not None and not any(map(_OLD.match, names))


def _options(words: Sequence[str]) -> list[str]:
    """Return an interpreter's options, as far as none says that it does something else than run a program."""
    place = 1
    while place < len(words) and (words[place] in _FLAG_WITH_VALUE or _FLAG.match(words[place])):
        place += 2 if words[place] in _FLAG_WITH_VALUE else 1
    return list(words[1:place])


def executable(name: str, environ: Mapping[str, str], launch_dir: str) -> str:
    """Find a program as a shell would.

    Raises:
        NotFoundError: there is none (127). NotExecutableError: it cannot be run (126).
    """
    if os.sep in name:
        path: str | None = os.path.join(launch_dir, name)
        if not os.path.exists(str(path)):
            raise (
                _no_file(name, launch_dir)
                if name.endswith(".py")
                else NotFoundError(f"{name}: no such program")
            )
        if os.path.isdir(str(path)) or not os.access(str(path), os.X_OK):
            raise NotExecutableError(f"{name}: not executable; chmod +x it, or name its interpreter")
        return str(path)
    path = shutil.which(name, path=environ.get("PATH"))
    if path is None and name.endswith(".py"):
        raise _no_file(name, launch_dir)
    if path is None:
        raise NotFoundError(f"{name}: no such program on PATH")
    return path


def _no_file(name: str, launch_dir: str) -> NotFoundError:
    """Name the folder that was looked into, and the script there whose name is nearest."""
    folder, base = os.path.split(os.path.normpath(os.path.join(launch_dir, name)))
    if os.path.isdir(os.path.join(folder, base)):
        return NotFoundError(f"{name}: a folder (expected a script); correct its path")
    try:
        scripts = [item for item in os.listdir(folder) if item.endswith(".py")]
    except OSError:
        scripts = []
    near = nearest(base[: -len(".py")], [item[: -len(".py")] for item in scripts])  # all are alike in .py
    advice = f"did you mean {near}.py?" if near else "correct its path"
    return NotFoundError(f"{name}: no such file in {folder}; {advice}")


def missing_program(config: JobConfig, command: Sequence[str], provenance: Provenance) -> None:
    """Refuse a job that names nothing to run, or a command as one text."""
    if command:
        return
    if not "".join(config.program).strip():
        raise provenance.error("program", "missing; give a module, a script, or `-- COMMAND ...`")
    if isinstance(config.program, str) and not _is_python(config.program):
        advice = f"write it as a list: {_flow(_words(config.program))}"
        problem = "a command in one text (expected a module or a .py file)"
        raise provenance.error("program", f"{config.program!r:.200}: {problem}; {advice}")


def _is_python(program: str) -> bool:
    """Tell whether a text names a module or a script, and no command or shell script."""
    if program.endswith(".py"):
        return os.path.isfile(program) or not re.search(r"\s", program)
    return not program.endswith(".sh") and not os.path.isfile(program) and bool(_MODULE.fullmatch(program))


def _words(text: str) -> list[str]:
    try:
        words = shlex.split(text)
    except ValueError:  # a quote left open
        words = text.split()
    if words[0].endswith(".py"):
        return ["python", *words]
    if "." in words[0] and _MODULE.fullmatch(words[0]) and not words[0].endswith(".sh"):
        return ["python", "-m", *words]
    return words


def _flow(words: Sequence[str]) -> str:
    plain = (word if _PLAIN.fullmatch(word) else json.dumps(word, ensure_ascii=False) for word in words)
    return f"[{', '.join(plain)}]"
