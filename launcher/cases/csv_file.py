"""Test cases: rows of a 13-column CSV, each of which is one job for npu-launch.

The columns are those of the end-to-end tests of Ascend's ModelZoo. Nothing of the machine is changed: a case
is an ordinary run with its own folder.
"""

from __future__ import annotations

import csv
import io
import os
import re
import shlex
import socket
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Mapping, Sequence

from launcher import foreign
from launcher.cases import env_file
from launcher.errors import ConfigError, ReadError, UsageError

COLUMNS = (
    "CASENUM", "CASENAME", "ENV_SET", "JOB_ID", "PROFILING_MODE", "PROFILING_OPTIONS", "FP_POINT",
    "BP_POINT", "AICPU_PROFILING_MODE", "SERVER_ID", "DEVICE_ID", "RUN_ALGORITHM_CMD", "CHECKPOINT_DIR",
)  # fmt: skip
# Columns that the program reads as environment variables of the same name.
_VARIABLES = ("JOB_ID", *COLUMNS[4:9])
_LAUNCHERS = frozenset(
    ["RANK_TABLE_FILE", "RANK_ID", "RANK_SIZE", "DEVICE_ID", "ASCEND_DEVICE_ID", "DEVICE_INDEX", "LOCAL_RANK"]
)
_MODULE = re.compile(r"(?!.*\.sh$)[A-Za-z_]\w*(\.\w+)+$")


@dataclass(frozen=True)
class Case:
    """One row of the file, and its line."""

    file: str
    line: int
    row: Mapping[str, str]

    @property
    def number(self) -> str:
        return self.row["CASENUM"]

    @property
    def name(self) -> str:
        return self.row["CASENAME"]

    @property
    def devices(self) -> tuple[str, ...]:
        """The device ids; separated by spaces in the file."""
        return tuple(self.row["DEVICE_ID"].split())

    @property
    def slug(self) -> str:
        """A name for folders."""
        number, name = (re.sub(r"[^\w.-]+", "_", text) for text in (self.number, self.name))
        return f"case_{number}_{name}"

    def fail(self, column: str, message: str) -> ConfigError:
        """Make the error of one column of this row."""
        return ConfigError(message, file=self.file, line=self.line, key=column)


def read_cases(path: Path) -> list[Case]:
    """Read every case of a file. ConfigError: no such file, a row of other than 13 columns, a bad cell."""
    try:
        text = foreign.read_bytes(path, follow=True).decode("utf-8-sig")
        reader = csv.reader(io.StringIO(text, newline=""))
        rows = [(reader.line_num, [cell.strip() for cell in row]) for row in reader]
    except ReadError as error:
        raise ConfigError(f"{error}; give a CSV file of cases") from None
    except (UnicodeDecodeError, csv.Error) as error:
        raise ConfigError(f"{error}; give a CSV file of cases", file=str(path)) from None
    if not rows or rows[0][1][:1] != [COLUMNS[0]]:
        raise ConfigError(
            f"the first line must name the columns: {','.join(COLUMNS)}", file=str(path), line=1
        )
    cases: list[Case] = []
    for line, cells in rows[1:]:
        if any(cells) and not cells[0].startswith("#"):
            cases.append(_case(str(path), line, cells))
            if cases[-1].number in [case.number for case in cases[:-1]]:
                raise cases[-1].fail(
                    "CASENUM", f"duplicate number {cases[-1].number}; give each case its own"
                )
    return cases


def _case(file: str, line: int, cells: Sequence[str]) -> Case:
    if len(cells) != len(COLUMNS):
        raise ConfigError(
            f"{len(cells)} columns (expected {len(COLUMNS)}: {','.join(COLUMNS)})", file=file, line=line
        )
    case = Case(file, line, dict(zip(COLUMNS, cells)))
    for column in ("CASENUM", "CASENAME", "DEVICE_ID", "RUN_ALGORITHM_CMD"):
        if not case.row[column]:
            raise case.fail(column, "empty; give a value")
    here = ("", "127.0.0.1", "localhost", socket.gethostname())
    if case.row["SERVER_ID"] not in here:
        server = case.row["SERVER_ID"]
        raise case.fail("SERVER_ID", f"{server} is another host; run its cases there, or leave it empty")
    return case


def select(cases: Sequence[Case], number: str, file: str) -> list[Case]:
    """Return all cases, or the one of that number. UsageError: there is none."""
    chosen = [case for case in cases if number in ("all", case.number)]
    if not chosen:
        known = ", ".join(case.number for case in cases) or "none"
        raise UsageError(f"{file} has no case {number}; it has: {known}")
    return chosen


def job(case: Case, runs_dir: Path, environ: Mapping[str, str]) -> dict[str, Any]:
    """Turn a case into the keys of a train.yaml.

    A command of a script or module with nothing but --flags becomes `program` and `args`, which the
    launcher can check; any other becomes a command list. In it, ${RANK_ID} is the case's name, as in the
    original script, ${DEVICE_ID} the first device, ${CASES_DIR} the folder of all the cases' runs; other
    names are looked up in the environment.
    """
    environ = dict(environ, CASES_DIR=os.path.abspath(str(runs_dir.parent)))
    variables = {name: case.row[name] for name in _VARIABLES if case.row[name]}
    if case.row["ENV_SET"]:
        path = Path(case.file).parent / case.row["ENV_SET"]
        found = env_file.read(path, environ)
        for name in found:
            if name in _LAUNCHERS:
                raise ConfigError(
                    "set by npu-launch for each rank; remove the line", file=str(path), key=name
                )
        variables = dict(found, **variables)
    special = {"RANK_ID": case.slug, "DEVICE_ID": case.devices[0]}

    def lookup(name: str) -> str | None:
        return special.get(name, variables.get(name, environ.get(name)))

    literal = {name: value.replace("$", "$$") for name, value in variables.items()}  # expanded already
    document: dict[str, Any] = {"job": case.slug, "runs_dir": str(runs_dir), "env": literal}
    document.update(
        _program(_words(case, "RUN_ALGORITHM_CMD", lookup) + _words(case, "CHECKPOINT_DIR", lookup))
    )
    return document


def _words(case: Case, column: str, lookup: env_file.Lookup) -> list[str]:
    try:
        shlex.split(case.row[column])  # names a quote that is left open
        return env_file.words(case.row[column], lookup)
    except ValueError as error:
        raise case.fail(column, f"{error}; correct the cell") from None


def _program(words: Sequence[str]) -> dict[str, Any]:
    """Split a command into the launcher's program and args."""
    program, flags = words[0], words[1:]
    python = program.endswith(".py") or _MODULE.match(program)
    if not python or any(not re.match(r"--\w+(=|$)", flag) for flag in flags):
        return {"program": list(words)}
    pairs = [flag[2:].partition("=") for flag in flags]
    return {"program": program, "args": {key: value if equals else "True" for key, equals, value in pairs}}
