"""Pack doctor's findings into a tar for a bug report, with secrets masked."""

from __future__ import annotations

import io
import json
import os
import re
import tarfile
from dataclasses import asdict
from pathlib import Path
from typing import Mapping, Sequence

from launcher.checks.finding import Finding
from launcher.checks.machine import RecordingMachine

MASK = "***"
SECRET_NAME = re.compile(
    r"(?i)token|secret|passw|pwd$|credential|cookie|api_?key|access_?key|private|signature|auth|_ak$|_sk$"
)
SECRET_TEXT = (
    (re.compile(r"(\w+://[^/\s:@]*:)[^@/\s]+@"), r"\1***@"),
    (
        re.compile(r"(?i)((?:token|secret|passw\w*|credential|key)[\"']?\s*[=:]\s*[\"']?)[^\s\"',;&]+"),
        r"\1***",
    ),
    (re.compile(r"(?i)(bearer\s+)[\w.~+/=-]+"), r"\1***"),
    (re.compile(r"-----BEGIN [A-Z ]*PRIVATE KEY-----.*?(?:-----END [A-Z ]*-----|\Z)", re.S), MASK),
)
RUN_FILES = (
    "plan.json",
    "rank_table.json",
    "train.yaml",
    "result.json",
    "report.txt",
    "events.jsonl",
    "logs/launcher.log",
)
TAIL = 1 << 20  # bytes kept of a run's file


def mask_text(text: str) -> str:
    """Mask what looks like a secret inside a text."""
    for pattern, replacement in SECRET_TEXT:
        text = pattern.sub(replacement, text)
    return text


def mask_environ(environ: Mapping[str, str]) -> dict[str, str]:
    """Mask the values of variables whose name or value looks like a secret."""
    items = sorted(environ.items())
    return {name: MASK if SECRET_NAME.search(name) else mask_text(value) for name, value in items}


def write_bundle(
    path: str, machine: RecordingMachine, findings: Sequence[Finding], run: str = ""
) -> list[str]:
    """Write the tar (mode 0600, never over an existing file) and return the names of its members.

    Raises:
        OSError: the file exists already or cannot be written.
    """
    members = {
        "doctor.json": json.dumps([asdict(finding) for finding in findings], indent=1),
        "environment.json": json.dumps(mask_environ(machine.environ), indent=1),
        "packages.txt": "".join(
            f"{name} {version}\n" for name, version in sorted(machine.packages().items())
        ),
        "answers.txt": "".join(f"$ {command}\n{text}\n\n" for command, text in machine.answers.items()),
        **_run_files(run),
    }
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "wb") as file, tarfile.open(fileobj=file, mode="w:gz") as tar:
        for name, text in members.items():
            data = mask_text(text).encode("utf-8", "replace")
            info = tarfile.TarInfo("npu-launch-doctor/" + name)
            info.size, info.mode = len(data), 0o600
            tar.addfile(info, io.BytesIO(data))
    return list(members)


def _run_files(run: str) -> dict[str, str]:
    """Read the end of a run's own files; training logs are left out: they may quote the data."""
    found = {}
    for name in RUN_FILES if run else ():
        path = Path(run, name)
        if path.is_file():
            with path.open("rb") as file:
                file.seek(max(0, path.stat().st_size - TAIL))
                found["run/" + name] = file.read().decode("utf-8", "replace")
    return found
