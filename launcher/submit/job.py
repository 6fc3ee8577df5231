"""A job for a queue, as it was typed."""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import Sequence

from launcher.config import job as configs
from launcher.config.job import JobConfig, Provenance
from launcher.errors import UsageError


@dataclass(frozen=True)
class QueuedJob:
    """A job file, what follows it on the command line, and what they mean together."""

    config: JobConfig
    source: Provenance
    file: str = ""  # path of the job file; "" for none
    text: str = ""  # and what is in it
    overrides: tuple[str, ...] = ()
    command: tuple[str, ...] = ()


def read_job(file: str, overrides: Sequence[str], command: Sequence[str]) -> QueuedJob:
    """Read a job file and overrides. ConfigError: as when the job is run here."""
    if file and os.path.exists(file) and not os.path.isfile(file):
        raise UsageError(f"{file}: no regular file (expected a job file, as the job is read once more there)")
    config, source = configs.load(file or None, overrides, {})
    text = configs.text_of(file) if file else ""
    return QueuedJob(config, source, file, text, tuple(overrides), tuple(command))
