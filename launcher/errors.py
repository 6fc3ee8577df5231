"""Errors that a user can cause; each class owns its exit code.

LauncherError                 125   a bug in npu-launch, or nothing more precise fits
├── ReadError                 125   a file of a run is damaged, or no file at all
│   └── MissingFileError      125   ... or does not exist
├── UsageError                  2   what the user typed or wrote is wrong
│   └── ConfigError             2   ... in a YAML file or an override: knows file, line and key
├── PreflightError             78   the machine is not ready for the plan
├── NotExecutableError        126   the program exists but cannot be run
└── NotFoundError             127   the program does not exist
"""

from __future__ import annotations

import os


class LauncherError(Exception):
    """An error that ends the launcher with `exit_code` and its lines on stderr: one for each finding."""

    exit_code = 125

    def __init__(self, *lines: str) -> None:
        super().__init__("\n".join(lines))
        self.lines = lines


class ReadError(LauncherError):
    """A file of a run that cannot be read as what it should be; the message reads `path: what is wrong`."""


class MissingFileError(ReadError):
    """A file of a run that does not exist."""


class UsageError(LauncherError):
    """An invalid command line."""

    exit_code = 2


class ConfigError(UsageError):
    """An invalid configuration value; the message reads `file:line: key: what is wrong; what to do`."""

    def __init__(
        self,
        message: str,
        *,
        file: str | None = None,
        line: int | None = None,
        key: str | None = None,
    ) -> None:
        place = ":".join(str(part) for part in (file, line) if part is not None)
        super().__init__(": ".join(part for part in (place, key, message) if part))
        self.file, self.line, self.key = file, line, key


class PreflightError(LauncherError):
    """A machine that is not ready for the plan."""

    exit_code = 78


class NotExecutableError(LauncherError):
    """A program that exists but cannot be executed."""

    exit_code = 126


class NotFoundError(LauncherError):
    """A program that does not exist."""

    exit_code = 127


def describe(error: BaseException) -> str:
    """Describe an exception in one line; one that nobody foresaw, with the place in the source."""
    if isinstance(error, LauncherError):
        return str(error)
    if isinstance(error, OSError) and error.strerror:
        return f"{error.filename}: {error.strerror}" if error.filename else error.strerror
    trace, place = error.__traceback__, ""
    while trace is not None:
        place = f"{os.path.basename(trace.tb_frame.f_code.co_filename)}:{trace.tb_lineno}"
        trace = trace.tb_next
    message = " ".join(str(error).split())
    return f"{type(error).__name__}: {message:.200} ({place}; this is a bug in npu-launch)"
