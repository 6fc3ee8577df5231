"""The figures of a repeat and of what it is compared with; squad.repeat_report computes them in a process."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from contextlib import suppress
from pathlib import Path
from typing import Any, Mapping, NamedTuple

from launcher import foreign
from launcher.compare import answers
from launcher.errors import LauncherError, ReadError, UsageError
from launcher.repeat import record
from launcher.repeat.record import Repeat
from launcher.runs import registry
from launcher.runs.figures import metrics_of

CERTIFICATE = "certificate.json"
_PREDICTIONS = "predictions.json"


class Parameters(NamedTuple):
    """What the statistics are asked for."""

    resample: str = "passage"
    resamples: int = 10000
    random_seed: int = 0


def side(repeat: Repeat) -> dict[str, Any]:
    """Return the finished runs of a repeat, as a side of a request."""
    seeds = [run.seed for run in repeat.runs if run.state == record.FINISHED]
    return {"name": str(repeat.folder), "runs": [_run(repeat.run_folder(seed), seed) for seed in seeds]}


def against(path: str, runs_dir: str = "runs") -> dict[str, Any]:
    """Return the side of a repeat, a run, or a file of predictions: a path, or a name in `runs_dir`.

    UsageError: it is none of these.
    """
    place = (Path(path) if os.path.lexists(path) else _named(path, Path(runs_dir))).absolute()
    if place.name in (CERTIFICATE, record.NAME):
        place = place.parent
    if os.path.lexists(str(place / record.NAME)):
        try:
            other = side(record.read(place))
        except ReadError as error:
            raise UsageError(f"--against: {error}") from None
        if other["runs"]:
            return other
        raise UsageError(f"--against: {path}: none of its seeds has finished")
    if registry.is_run(place):
        return {"name": str(place), "runs": [_run(place, None)]}
    if place.is_file():
        _check_predictions(place, path)
        return {"name": str(place), "runs": [{"seed": None, "predictions": str(place), "figures": {}}]}
    raise UsageError(f"--against: {path}: no such repeat, run or predictions.json")


def _named(word: str, runs_dir: Path) -> Path:
    """Find a repeat or a run by its name, or the beginning of it. UsageError: there is none, or several."""
    names = {path.parent.name for path in runs_dir.glob(f"*/{record.NAME}")}
    fits = {word} & names or {name for name in names if name.startswith(word)}
    fits |= {run.path.name for run in registry.all_runs(str(runs_dir)) if run.path.name.startswith(word)}
    if len(fits) > 1 and word not in fits:
        raise UsageError(f"--against: {word} fits {', '.join(sorted(fits))}; give more of the name")
    if fits & names:
        return runs_dir / (fits & names).pop()
    try:
        return registry.resolve(word, str(runs_dir)).path
    except UsageError:
        raise UsageError(f"--against: {word}: no such repeat, run or predictions.json") from None


def _check_predictions(place: Path, path: str) -> None:
    """Read a file before hours of runs are compared with it. UsageError: it is no {id: answer}."""
    try:
        found = foreign.read_json(place, foreign.DOCUMENT, follow=True).value
    except ReadError as error:
        raise UsageError(f"--against: {error}") from None
    if not isinstance(found, dict) or not found or not all(isinstance(text, str) for text in found.values()):
        raise UsageError(f"--against: {path}: no predictions.json (expected an object of answers by id)")


def _run(folder: Path, seed: int | None) -> dict[str, Any]:
    found = answers.find(folder)
    predictions = str(found) if found and found.name == _PREDICTIONS else None
    return {"seed": seed, "predictions": predictions, "figures": metrics_of(folder)}


def request(
    sides: list[dict[str, Any]], args: Mapping[str, Any], cwd: str, asked: Parameters
) -> dict[str, Any]:
    """Make a request of squad.repeat_report; a job without predict_file has the figures of its runs alone."""
    file, other = args.get("predict_file"), _other_questions(args)
    data = os.path.join(cwd, os.path.expanduser(file)) if isinstance(file, str) and file and not other else ""
    return {
        "data": data,
        "other_questions": other,
        "evaluation": str(args.get("evaluation") or "squad"),
        **asked._asdict(),
        "sides": sides,
    }


def _other_questions(args: Mapping[str, Any]) -> bool:
    """Tell whether each seed is scored on questions of its own, a share of train_file that it chooses."""
    share, predicts = (str(args.get(name) or "").lower() for name in ("eval_share", "do_predict"))
    with suppress(ValueError):
        return float(share or 0) > 0 and predicts not in ("true", "1", "yes", "t", "y")
    return False


def report(asked: Mapping[str, Any]) -> dict[str, Any]:
    """Compute the report of a request. UsageError: what is wrong with its files, or not installed."""
    done = subprocess.run(
        [sys.executable, "-m", "squad.repeat_report"],
        input=json.dumps(asked).encode(), capture_output=True, check=False,
    )  # fmt: skip
    if done.returncode:
        lines = done.stderr.decode("utf-8", "replace").strip().splitlines() or ["no reason given"]
        raise UsageError(f"figures: {lines[-1]}")
    try:
        found: dict[str, Any] = foreign.parse_json(done.stdout, "squad.repeat_report").value
    except ReadError as error:
        raise LauncherError(f"figures: {error}") from None
    return found
