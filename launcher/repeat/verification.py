"""Check a certificate: what can be computed again without training is, and each line says what came of it."""

from __future__ import annotations

import os
from collections import Counter
from pathlib import Path
from typing import Any, Callable, Iterator, Mapping, NamedTuple

from launcher import foreign
from launcher.errors import LauncherError, ReadError, UsageError
from launcher.repeat import certificate, figures, record
from launcher.runs import registry
from launcher.runs.figures import exact_of, metrics_of

SAME, DIFFERS, UNKNOWN = "same", "differs", "cannot be checked"
_TOLERANCE = 1e-9  # of numbers, relative: libraries add up in different orders


class Line(NamedTuple):
    """What came of one item."""

    outcome: str
    item: str
    why: str = ""

    def __str__(self) -> str:
        return f"{self.outcome:<17}  {self.item}" + (f": {self.why}" if self.why else "")


def verify(path: Path, show: Callable[[str], None]) -> int:
    """Check a certificate; return 1 if anything differs. UsageError: it is none."""
    document = _read(path)
    lines = list(_lines(document, path.absolute().parent))
    for line in lines:
        show(str(line))
    counts = Counter(line.outcome for line in lines)
    show(", ".join(f"{counts[outcome]} {outcome}" for outcome in (SAME, DIFFERS, UNKNOWN)))
    return 1 if counts[DIFFERS] else 0


def _read(path: Path) -> dict[str, Any]:
    try:
        document = foreign.read_json(path, foreign.DOCUMENT, follow=True).value
    except ReadError as error:
        raise UsageError(f"--verify: {error}") from None
    if not isinstance(document, dict) or document.get("kind") != certificate.KIND:
        raise UsageError(f"--verify: {path}: no certificate of npu-launch repeat")
    return document


def _lines(document: Mapping[str, Any], folder: Path) -> Iterator[Line]:
    try:
        own = certificate.sha256_of(document)
        yield _of(
            own == document.get("sha256"),
            "the certificate's own sha256",
            "it was changed after it was written",
        )
        if document["changed_meanwhile"]:
            names = ", ".join(document["changed_meanwhile"])
            yield Line(UNKNOWN, "one kind of runs", f"changed between the first run and the last: {names}")
        for name, known in document["files"].items():
            for path, sha256 in known.items():
                yield _file(f"{name} {path}", path, sha256, folder)
        request = document["statistics"]["request"]
        for side, known in zip(request["sides"], document["predictions"]):
            for run in side["runs"]:
                if run["predictions"]:
                    place = _place(run["predictions"], folder)
                    item = f"predictions of seed {run['seed']} {run['predictions']}"
                    yield _file(item, place, known.get(run["predictions"], ""), folder)
        yield from _records(document, folder)
        yield from _figures(document, folder)
        yield _code(document["code"])
        for item, why in _NOT_KEPT.items():
            yield Line(UNKNOWN, item, why)
    except (LookupError, TypeError, AttributeError, ValueError, OverflowError) as error:
        yield Line(DIFFERS, "the certificate's layout", f"{type(error).__name__}: {error}")


_NOT_KEPT = {
    "whether these are all runs of the job": "a repeat that was thrown away leaves nothing",
}


def _records(document: Mapping[str, Any], folder: Path) -> Iterator[Line]:
    """Compare the certificate with the repeat's record, its copy of the job file, and its runs' results."""
    runs = [folder / run["folder"] for run in document["runs"]]
    copy = registry.read_json(folder / record.NAME)
    states = [
        {name: run[name] for name in run if name not in ("folder", "figures")} for run in document["runs"]
    ]
    for name, known, found in (
        ("command", document["command"], copy.get("command")),
        ("runs", states, copy.get("runs")),
    ):
        yield from (
            _compare(known, found, name, "") if copy else [Line(UNKNOWN, name, f"no {record.NAME} here")]
        )
    try:
        text = foreign.read_bytes(folder / record.JOB).decode("utf-8", "replace")
        yield _of(text == document["job_file"], "job file", f"{record.JOB} is another")
    except ReadError as error:
        yield Line(UNKNOWN, "job file", str(error))
    there = [run for run in runs if (run / "result.json").is_file()]
    if there:
        yield from _compare(document["made_of"], certificate.made_of(there), "made_of", "")
    else:
        yield Line(UNKNOWN, "made_of", "no result.json of a run is here")
    for run, place in zip(document["runs"], runs):
        item = f"seed {run['seed']} as reported"
        yield from (
            _compare(run["figures"], metrics_of(place), item, "")
            if place in there
            else [Line(UNKNOWN, item, f"{place}: no result.json")]
        )


def _of(same: bool, item: str, why: str) -> Line:
    return Line(SAME, item) if same else Line(DIFFERS, item, why)


def _place(path: str, folder: Path) -> str:
    """Return where a file of the repeat is now: the folder may have been moved with its certificate."""
    if os.path.exists(path):
        return path
    parts = Path(path).parts
    for start in range(1, len(parts)):
        moved = folder.joinpath(*parts[start:])
        if moved.exists():
            return str(moved)
    return path


def _file(item: str, path: str, sha256: str, folder: Path) -> Line:
    try:
        found = certificate.file_sha256(_place(path, folder))
    except OSError as error:
        return Line(UNKNOWN, item, error.strerror or str(error))
    return _of(found == sha256, item, f"its sha256 is {found:.12}..., in the certificate {sha256:.12}...")


def _code(known: Mapping[str, str]) -> Line:
    """Compare the sources; those of another release or commit are no contradiction."""
    if certificate.code_sha256() == known["sha256"]:
        return Line(SAME, "code")
    return Line(UNKNOWN, "code", f"another version is installed here; the runs had {known['sha256']:.12}...")


def _figures(document: Mapping[str, Any], folder: Path) -> Iterator[Line]:
    """Compute the report again, from predictions and data where they are, else from figures."""
    statistics = document["statistics"]
    request, report = statistics["request"], statistics["report"]
    again, lacking = _again(request, report, folder)
    if again["sides"][-1]["runs"]:
        try:
            found = figures.report(again)
        except LauncherError as error:
            lacks = "not installed" in str(error)  # numpy, which a host may do without
            yield Line(UNKNOWN if lacks else DIFFERS, "statistics", str(error))
            return
        version = document["version"]
        if version != certificate.VERSION and "tests" in report:
            other = "an earlier" if version < certificate.VERSION else "a later"
            yield Line(UNKNOWN, "statistics.tests", f"of version {version}, by {other} release")
            report, found = ({**both, "tests": {}} for both in (report, found))
        yield from _compare(report, found, "statistics", lacking)
        yield from _reported(document["runs"], found)


def _again(request: Mapping[str, Any], report: Mapping[str, Any], folder: Path) -> tuple[dict[str, Any], str]:
    """Return the request with its files as they lie now, and which of them is missing ("": none)."""
    data = _place(request["data"], folder) if request["data"] else ""
    places = {
        run["predictions"]: _place(run["predictions"], folder)
        for side in request["sides"]
        for run in side["runs"]
        if run["predictions"]
    }
    missing = [path for path in (data, *places.values()) if path and not os.path.exists(path)]
    lacking = f"{missing[0]} is not there" if missing else ""
    sides = []
    for side, known in zip(request["sides"], report["sides"]):
        runs = []
        for run, figure in zip(side["runs"], known["runs"]):
            predictions = None if lacking or not run["predictions"] else places[run["predictions"]]
            given = {**run["figures"], **{name: figure[name] for name in figure if name != "seed"}}
            runs.append({"seed": run["seed"], "predictions": predictions, "figures": given})
        sides.append({"name": side["name"], "runs": runs})
    return dict(request, data="" if lacking else data, sides=sides), lacking


def _compare(known: Any, found: Any, place: str, lacking: str) -> Iterator[Line]:
    """Compare two reports, a line for each value."""
    if isinstance(known, dict) and isinstance(found, dict):
        for name in [*known, *(name for name in found if name not in known)]:
            below = f"{place}.{name}" if place else name
            if name not in found:
                yield Line(UNKNOWN, below, lacking) if lacking else Line(DIFFERS, below, "nothing gives it")
            elif name not in known:
                yield Line(DIFFERS, below, "it is not in the certificate")
            else:
                yield from _compare(known[name], found[name], below, lacking)
    elif isinstance(known, list) and isinstance(found, list) and len(known) == len(found):
        for number, (one, other) in enumerate(zip(known, found)):
            yield from _compare(one, other, f"{place}[{number}]", lacking)
    else:
        yield _of(_equal(known, found), f"{place} = {known}", f"computed again: {found}")


def _equal(known: Any, found: Any) -> bool:
    if isinstance(known, float) and isinstance(found, (int, float)):
        return abs(known - found) <= _TOLERANCE * max(1.0, abs(known), abs(found))
    return bool(type(known) is type(found) and known == found)


def _reported(runs: Any, found: Mapping[str, Any]) -> Iterator[Line]:
    """Compare the figures that the runs reported themselves."""
    computed = {run["seed"]: run for run in found["sides"][-1]["runs"]}
    for run in runs:
        for name in ("exact", "f1"):
            known = exact_of(run["figures"]) if name == "exact" else run["figures"].get(name)
            value = computed.get(run["seed"], {}).get(name)
            if known is not None and value is not None and found.get("same_questions"):
                item = f"seed {run['seed']}: {name} as reported = {known}"
                yield _of(abs(known - value) < 1e-6, item, f"computed again: {value}")
