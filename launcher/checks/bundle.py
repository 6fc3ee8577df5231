"""Pack doctor's findings and a run's own files into a tar for a bug report, with secrets masked."""

from __future__ import annotations

import io
import json
import os
import tarfile
from dataclasses import asdict
from pathlib import Path
from typing import Any, Sequence

from launcher import foreign, masking
from launcher.checks.finding import Finding
from launcher.checks.machine import RecordingMachine
from launcher.errors import MissingFileError, ReadError

RUN_FILES = (
    "plan.json",
    "rank_table.json",
    "train.yaml",
    "result.json",
    "report.txt",
    "events.jsonl",
    "logs/launcher.log",
)
TAIL = 1 << 20  # bytes kept of a file of lines; a JSON document is kept whole


def write_bundle(
    path: str, machine: RecordingMachine, findings: Sequence[Finding], run: str = ""
) -> list[str]:
    """Write the tar (mode 0600, never over an existing file) and return the names of its members.

    Raises:
        OSError: the file exists already or cannot be written.
    """
    members = {
        "doctor.json": _dump([asdict(finding) for finding in findings]),
        "environment.json": _dump(dict(sorted(machine.environ.items()))),
        "packages.txt": "".join(
            f"{name} {version}\n" for name, version in sorted(machine.packages().items())
        ),
        "answers.txt": masking.mask_text(
            "".join(f"$ {command}\n{text}\n\n" for command, text in machine.answers.items())
        ),
        **_run_files(run),
    }
    hidden = masking.secret_values(machine.environ)
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "wb") as file, tarfile.open(fileobj=file, mode="w:gz") as tar:
        for name, text in members.items():
            for value in hidden:  # wherever else it is quoted
                text = text.replace(value, masking.MASK)
            data = text.encode("utf-8", "backslashreplace")
            info = tarfile.TarInfo("npu-launch-doctor/" + name)
            info.size, info.mode = len(data), 0o600
            tar.addfile(info, io.BytesIO(data))
    return list(members)


def _run_files(run: str) -> dict[str, str]:
    """Read a run's own files; training logs are left out: they may quote the data."""
    found = {}
    for name in RUN_FILES if run else ():
        path = Path(run, name)
        try:
            found["run/" + name] = _masked(name, _read(path))
        except MissingFileError:
            continue
        except ReadError as error:
            found["run/" + name] = f"not in this bundle: {error}\n"
    return found


def _read(path: Path) -> str:
    if path.suffix == ".json":
        return foreign.read_bytes(path, foreign.DOCUMENT).decode("utf-8", "replace")
    with foreign.open_regular(path) as file:
        file.seek(max(0, os.fstat(file.fileno()).st_size - TAIL))
        return file.read(TAIL).decode("utf-8", "replace")


def _masked(name: str, text: str) -> str:
    """Mask a file by the structure that it has by its name, or as free text where it has none."""
    if name.endswith(".jsonl"):
        return "".join(_masked_json(line, None) + "\n" for line in text.splitlines())
    if name.endswith(".json"):
        return _masked_json(text, 1)
    return _masked_yaml(text) if name.endswith(".yaml") else masking.mask_text(text)


def _masked_json(text: str, indent: int | None) -> str:
    try:
        return _dump(json.loads(text), indent)
    except (ValueError, RecursionError):
        return masking.mask_text(text)


def _masked_yaml(text: str) -> str:
    import yaml

    try:
        if any(isinstance(event, yaml.AliasEvent) for event in yaml.parse(text, yaml.SafeLoader)):
            return masking.mask_text(text)  # what aliases repeat may be without end
        masked: str = yaml.safe_dump(masking.mask(yaml.safe_load(text)), sort_keys=False, allow_unicode=True)
        return masked
    except (yaml.YAMLError, ValueError, RecursionError):
        return masking.mask_text(text)


def _dump(value: Any, indent: int | None = 1) -> str:
    return json.dumps(masking.mask(value), indent=indent)
