"""certificate.json: what a repeat was made of and what came out, for others to check (verification.py)."""

from __future__ import annotations

import hashlib
import json
import os
import time
from dataclasses import asdict
from pathlib import Path
from typing import Any, Iterable, Iterator, Mapping, Sequence

import launcher
from launcher.checks import provenance
from launcher.config.job import JobConfig, text_of
from launcher.masking import mask, mask_text
from launcher.repeat import record
from launcher.repeat.figures import CERTIFICATE
from launcher.repeat.record import Repeat
from launcher.run_dir import RunDir
from launcher.runs import registry, shelf
from launcher.runs.figures import metrics_of

KIND = "npu-launch repeat"
VERSION = 3  # 2: no test of pairs of seeds. 1: McNemar's test took a tie between seeds for a wrong answer
SOURCES = ("launcher", "rank_table", "bert", "squad")
_ROOT = Path(launcher.__file__).resolve().parents[1]
_BESIDE = ("vocab.txt", "bert_config.json", "config.json", "tokenizer_config.json")  # of a prefix's files


def write(
    repeat: Repeat, changed: Sequence[str], request: Mapping[str, Any], report: Mapping[str, Any]
) -> Path:
    """Write the certificate of a repeat; return its path. changed: what `changes` has found."""
    command = repeat.command
    document: dict[str, Any] = {
        "kind": KIND,
        "version": VERSION,
        "written": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
        "job": repeat.name,
        "command": command.masked(),
        "job_file": mask_text(text_of(command.job)),
        "made_of": made_of([repeat.run_folder(run.seed) for run in repeat.runs]),
        "code": {**_code(repeat.begun), "sha256": repeat.inputs["code"]},
        "files": repeat.inputs["files"],
        "changed_meanwhile": list(changed),
        "runs": [
            {
                **asdict(run),
                "folder": repeat.run_id(run.seed),
                "figures": metrics_of(repeat.run_folder(run.seed)),
            }
            for run in repeat.runs
        ],
        "predictions": [_predictions(side) for side in request["sides"]],
        "statistics": {"request": request, "report": report},
    }
    document["sha256"] = sha256_of(document)
    path = repeat.folder / CERTIFICATE
    record.write(path, document, indent=1, ensure_ascii=False)
    return path


def inputs(config: JobConfig, cwd: str) -> dict[str, Any]:
    """Hash what a repeat is made of: the files that its job names, and the installed sources."""
    files = {name: dict(hashes(value, cwd)) for name, value in _paths(config, cwd)}
    return {"files": files, "code": code_sha256()}


def changes(repeat: Repeat, config: JobConfig) -> list[str]:
    """Name what is not as it was before the first run: arguments whose files differ, and `code`."""
    now = inputs(config, repeat.command.cwd)
    names = [name for name, known in repeat.inputs["files"].items() if now["files"].get(name) != known]
    return names + ["code"] * (now["code"] != repeat.inputs["code"])


def sha256_of(document: Mapping[str, Any]) -> str:
    """Hash a certificate without its own hash: as JSON with sorted keys, without spaces, in ASCII."""
    rest = {name: value for name, value in document.items() if name != "sha256"}
    return hashlib.sha256(json.dumps(rest, sort_keys=True, separators=(",", ":")).encode()).hexdigest()


def file_sha256(path: str) -> str:
    """Hash a file. OSError: it cannot be read."""
    with open(path, "rb") as stream:
        return shelf.sha256_of(stream)


def code_sha256() -> str:
    """Hash the installed sources: the names and contents of the packages' files, in order."""
    found = hashlib.sha256()
    for package in SOURCES:
        for path in sorted((_ROOT / package).rglob("*.py")):
            found.update(f"{path.relative_to(_ROOT).as_posix()} {file_sha256(str(path))}\n".encode())
    return found.hexdigest()


def _code(begun: float) -> dict[str, Any]:
    """Describe the sources: release, and the commit of their work tree, if they are in one."""
    commit = provenance.commit_of(str(_ROOT), begun)
    return {"launcher": launcher.__version__, **commit}


def _paths(config: JobConfig, cwd: str) -> Iterator[tuple[str, str]]:
    """Yield the arguments that name files which are there: data, weights, vocabulary, the program itself."""
    program = config.program if isinstance(config.program, str) else " ".join(config.program)
    for name, value in {"program": program, **config.args}.items():
        if isinstance(value, str) and value and name != "output_dir" and any(hashes(value, cwd)):
            yield name, value


def hashes(value: str, cwd: str) -> Iterator[tuple[str, str]]:
    """Yield (path, sha256) of a file, of a folder's files, or of the files of a TensorFlow prefix."""
    path = os.path.join(cwd, os.path.expanduser(value))
    for one in _members(path):
        try:
            yield one, file_sha256(one)
        except OSError:
            continue


def _members(path: str) -> list[str]:
    if os.path.isfile(path):
        return [path]
    if os.path.isdir(path):
        return [
            entry.path for entry in sorted(os.scandir(path), key=lambda entry: entry.name) if entry.is_file()
        ]
    folder, name = os.path.split(path)
    if not os.path.isfile(path + ".index"):
        return []
    beside = [item for item in sorted(os.listdir(folder)) if item.startswith(name + ".") or item in _BESIDE]
    return [os.path.join(folder, item) for item in beside]


def made_of(folders: Iterable[Path]) -> Any:
    """Return what the first run that tells it says of versions and the commit."""
    for folder in folders:
        found = registry.provenance_of(RunDir(folder))
        if found:
            return mask({name: value for name, value in found.items() if name != "files"})
    return {}


def _predictions(side: Mapping[str, Any]) -> dict[str, str]:
    """Hash the predictions of a side."""
    paths = [run["predictions"] for run in side["runs"] if run["predictions"]]
    return {path: file_sha256(path) for path in paths}
