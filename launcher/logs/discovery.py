"""Find the log files in a folder of other programs: what a name says of rank, process and node.

Folders of train_N.log and the like, of torchrun (attempt_0/3/stderr.log, and the error.json beside it),
MindSpore's msrun (worker_0.log) and GLOG_log_dir (rank_0/logs/mindspore.HOST.USER.log.INFO.DATE.PID), Paddle
(workerlog.0), Slurm, submitit and nohup, Ascend's plog trees, the folders of several nodes.
"""

from __future__ import annotations

import os
import re
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

_DATE = r"(?:19|20)\d\d[-_.]?[01]\d(?:[-_.]?[0-3]\d)?(?!\d)"
_NUMBER = rf"(?!{_DATE})(\d{{1,5}})"
_RANK = (
    re.compile(rf"(?:^|[-_.])(?:train_)?(?:rank|train|worker|workerlog)[-_.]?{_NUMBER}(?=[-_.]|$)"),
    re.compile(rf"^log[-_.]?{_NUMBER}(?=[-_.]|$)"),
    re.compile(rf"^{_NUMBER}(?=\.(?:log|out|err)$)"),
    re.compile(r"^\d+_(\d{1,5})_log(?=\.(?:out|err)$)"),  # submitit: job and task
)
_TORCHRUN = re.compile(r"(?:^|/)(?:[^/]+/)?attempt_\d+/(\d{1,5})/std(?:out|err)(?:\.\w+)?$")
_RANK_FOLDER = re.compile(r"/(?:rank[-_.]?|ranks/)(\d{1,5})/")
_TORCH_RECORD = re.compile(r"(?:^|/)attempt_\d+/(\d{1,5})/error\.json$")
_GLOG = re.compile(r"(.+)\.log\.(INFO|WARNING|ERROR|FATAL)\.\d{8}-\d{6}\.(\d{1,10})$")
_SEVERITIES = ("INFO", "WARNING", "ERROR", "FATAL")
_PLOG = re.compile(r"(plog|device)-(\d{1,10})_\d{1,20}\.log")
_PACKED = r"(?:\.(?:gz|bz2|xz|zst|lz4|zip))?"
_STAMP = rf"(?:[-_.]{_DATE}(?:[-_.T]?\d{{2,6}})*)"
_LOGS = re.compile(
    rf"(?:.*\.(?:log|out|err)(?:\.\d+|{_STAMP})?|.*(?:rank|worker)[-_]?\d+.*\.txt|workerlog\.\d+"
    rf"|(?:stdout|stderr)(?:\.\w+)?|nohup\.out(?:\.\d+)?){_PACKED}$"
)
_ROTATION = re.compile(rf"(?<=\.log|\.out|\.err|\.txt)(?:\.(\d{{1,3}})|{_STAMP})?{_PACKED}$")


@dataclass(frozen=True)
class LogFile:
    """A log file: label, rank where the name tells it, path."""

    label: str
    rank: int | None
    path: Path


def discover(folder: Path, node: str = "", problems: list[str] | None = None) -> list[LogFile]:
    """Find the log files in a folder, or take the one file; `node` goes before their labels.

    Files have one label where they are one log: what was rotated away, the two streams of a process. Folders
    that cannot be looked into are named in `problems`.
    """
    if not folder.is_dir():
        return [_found(folder, node)] if folder.exists() else []

    def unreadable(error: OSError) -> None:
        if problems is not None:
            problems.append(f"{error.filename}: {error.strerror}; what is in it is not shown")

    walk = os.walk(str(folder), onerror=unreadable)
    names = ((top, name) for top, _, names in walk for name in names if name != "a.out")
    paths = [Path(top, name) for top, name in names if _LOGS.match(name) or _GLOG.match(name)]
    paths = _most_of_glog(paths)
    found = [_found(path, node) for path in sorted(paths, key=_order)]
    owners = {(item.label, _log_of(item.path)) for item in found}
    shared = {label for label, count in Counter(label for label, _ in owners).items() if count > 1}
    return [_with_folder(item, folder, node) if item.label in shared else item for item in found]


def torch_records(folder: Path, node: str = "") -> list[LogFile]:
    """Find what torch's @record wrote in a folder of torchrun: the error of a rank, which no log may have."""
    found = []
    for path in sorted(folder.rglob("error.json")) if folder.is_dir() else ():
        match = _TORCH_RECORD.search(path.as_posix())
        if match:
            found.append(LogFile("/".join(filter(None, (node, match.group(1)))), int(match.group(1)), path))
    return found


def _most_of_glog(paths: list[Path]) -> list[Path]:
    """Leave out files of glog whose lines the file of a lower severity has too."""
    least: dict[tuple[Path, str, str], int] = {}
    severities = {}
    for path in paths:
        match = _GLOG.match(path.name)
        if match:
            process = (path.parent, match.group(1), match.group(3))
            severities[path] = process, _SEVERITIES.index(match.group(2))
            least[process] = min(severities[path][1], least.get(process, len(_SEVERITIES)))
    return [
        path for path in paths if path not in severities or severities[path][1] == least[severities[path][0]]
    ]


def _order(path: Path) -> tuple[str, int, str]:
    """Sort what was rotated away before what came after it."""
    base, number = _unrotated(path.name)
    return str(path.parent / base), -number, path.name


def _unrotated(name: str) -> tuple[str, int]:
    """Return a name without the end that rotation gave it, and a number that is larger the older it is."""
    match = _ROTATION.search(name)
    if match is None or not match.group():
        return name, 0
    return name[: match.start()], int(match.group(1) or 1)


def is_rotated(path: Path) -> bool:
    """Tell whether a log was rotated away, by its name."""
    return _unrotated(path.name)[1] > 0


def _log_of(path: Path) -> str:
    """Return what is equal for the files of one log."""
    text = path.as_posix()
    torchrun = _TORCHRUN.search(text)
    if torchrun:
        return text[: torchrun.start()]
    base = _unrotated(path.name)[0]
    glog = _GLOG.match(path.name)
    if glog or re.search(r"\.log\.\d{4,10}$", base):  # of one program: its C++ part's, and its Python part's
        return str(path.parent / base.partition(".")[0])
    return str(path.parent / re.sub(r"^std(?:out|err)|\.(?:out|err)$", "", base))


def _found(path: Path, node: str) -> LogFile:
    rank = rank_of(path)
    base = _unrotated(path.name)[0]
    plog = _PLOG.match(path.name)
    if plog and plog.group(1) == "plog":
        name = f"plog-{plog.group(2)}" if rank is None else f"{rank}/plog"
    elif plog:
        name = path.parent.name  # device-N
    else:
        name = str(rank) if rank is not None else os.path.splitext(base)[0]
    return LogFile("/".join(filter(None, (node, name))), rank, path)


def rank_of(path: Path) -> int | None:
    """Return the rank that a path tells; dates and the numbers of rotation are none."""
    base = _unrotated(path.name)[0]
    for pattern in () if _PLOG.match(path.name) else _RANK:
        match = pattern.search(base)
        if match:
            return int(match.group(1))
    text = path.as_posix()
    match = _TORCHRUN.search(text) or _RANK_FOLDER.search(text)
    return int(match.group(1)) if match else None


def _with_folder(item: LogFile, folder: Path, node: str) -> LogFile:
    inner = item.path.relative_to(folder).parent.as_posix()
    own = item.label[len(node) + 1 :] if node else item.label
    torchrun = _TORCHRUN.search("/" + item.path.relative_to(folder).as_posix())
    if torchrun:
        inner = item.path.relative_to(folder).as_posix()[: max(0, torchrun.start() - 1)]
    stem = own if own != item.path.parent.name or torchrun else ""
    if _PLOG.match(item.path.name) and not own.startswith("plog"):
        stem = os.path.splitext(item.path.name)[0]
    return LogFile("/".join(filter(None, (node, inner if inner != "." else "", stem))), item.rank, item.path)
