"""The page of a run: each part of it with its data, or with one sentence that says what is missing."""

from __future__ import annotations

import json
import os
import shlex
import time
from pathlib import Path
from typing import Any, Callable, Mapping, Sequence

from launcher import foreign
from launcher.errors import ReadError, describe
from launcher.masking import mask
from launcher.metrics import series
from launcher.page import answers, curves, html, ranks, timeline, verdicts
from launcher.page.source import Missing, Source, as_number, as_text, read, records
from launcher.reproduce import job as jobs
from launcher.run_dir import RunDir, write_atomic
from launcher.runs.figures import unified
from launcher.runs.registry import provenance_of
from launcher.text import named, some
from rank_table.ranges import spell

NAME = "report.html"
_TEXT, _LINE = 12_000, 300  # characters of a file that are shown, and of a line of a log


def write(run: RunDir, path: Path | None = None, state: str = "", secrets: Sequence[str] = ()) -> Path:
    """Write the page of a run, into its folder unless a place is named. OSError: it cannot be written.

    secrets: values to mask wherever they turn up, beside those of this process's environment.
    """
    path = path or run.path / NAME
    write_atomic(path, page(run, state, secrets).encode("utf-8", "backslashreplace"))
    return path


def page(run: RunDir, state: str = "", secrets: Sequence[str] = ()) -> str:
    """Make the page of a run, as far as what its folder holds goes."""
    source = read(run, state, secrets)
    parts: dict[str, Callable[[Source], Any]] = {
        "head": _head, "ran": _ran, "origin": _origin, "happened": _happened, "errors": _errors,
        "curves": curves.charts, "slowness": lambda one: curves.slowness(one.ranks),
        "verdicts": verdicts.said, "ranks": ranks.table, "memory": ranks.memory,
        "answers": answers.answers, "files": _files,
    }  # fmt: skip
    made = {name: _part(make, source) for name, make in parts.items()}
    return html.render("run.html.j2", source.secrets, run=str(run.path), source=source, **made)


def _part(make: Callable[[Source], Any], source: Source) -> Any:
    """Make a part of the page; a fault costs that part alone."""
    try:
        return make(source)
    except ReadError as error:
        return Missing(f"{error}.")
    except Exception as error:
        return Missing(f"This part could not be made: {describe(error)}.")


def _head(source: Source) -> Mapping[str, Any]:
    plan, result = source.plan, source.result
    name = plan.job if plan else as_text(result.get("job")) or as_text(source.outline.get("job"))
    started = as_number(result.get("started")) or (source.events[0].time if source.events else None)
    seconds = as_number(result.get("seconds"))
    if seconds is None and source.events:
        seconds = _last_seen(source) - source.events[0].time
    hosts = sorted({spec.server_id for spec in plan.ranks}) if plan else []
    return {
        "job": name or source.run.path.name,
        "state": source.state,
        "exit_code": result.get("exit_code"),
        "failure": _failure(source),
        "facts": [
            (name, value)
            for name, value in (
                ("Started", timeline.day(started) if started and 0 < started < 1 << 36 else ""),
                ("Took", duration(seconds) if seconds is not None else ""),
                ("Ranks", str(plan.world_size if plan else result.get("ranks", len(source.ranks) or ""))),
                ("Hosts", _some(hosts)),
                ("Backend", plan.backend if plan else as_text(result.get("backend"))),
            )
            if value
        ],
        "figures": _figures(source),
    }


def _last_seen(source: Source) -> float:
    """Return when a run without a result was last seen: now while it runs, else at its last event or row."""
    now = time.time()
    if source.state == "running":
        return now
    written = source.rows[-1].get("time", 0.0) if source.rows else 0.0
    return max([one.time for one in source.events] + [written if written <= now else 0.0])


def _some(names: Sequence[str]) -> str:
    return names[0] if len(names) == 1 else f"{len(names)}" if names else ""


def _figures(source: Source) -> list[tuple[str, str]]:
    """Choose the few figures that a reader wants first."""
    metrics, rows = source.result.get("metrics"), source.rows
    metrics = unified(metrics) if isinstance(metrics, dict) else {}
    found = [(label, as_number(metrics.get(name))) for name, label in (("exact", "EM"), ("f1", "F1"))]
    texts = [(label, f"{value:.2f}") for label, value in found if value is not None]
    last = rows[-1] if rows else {}
    if "loss" in last:
        texts.append(("last loss", f"{last['loss']:.4g}"))
    if rows:
        texts.append(("steps", f"{last['step']:,.0f}"))
    rates = sorted(series.rates(rows))
    if rates:
        value, unit = rates[len(rates) // 2]
        texts.append((f"{unit}, median", f"{value:.4g}"))
    return texts


def _failure(source: Source) -> str:
    """Return the first line of the report of a run that failed, and what the rank wrote."""
    if source.state == "lost":
        return "The launcher was killed, or its host went down: it left no result."
    if source.result.get("exit_code") in (0, None):
        return ""
    first, _, rest = _read(source.run.report).partition("\n")
    wrote = rest.partition("\n")[0].strip()
    return f"{first}\n{wrote}" if wrote.startswith("it wrote: ") else first


def _read(path: Path) -> str:
    try:
        return foreign.read_bytes(path).decode("utf-8", "replace")
    except ReadError:
        return ""


def _ran(source: Source) -> Any:
    plan = source.plan
    if plan is None:
        raise ReadError(source.missing["plan.json"])
    spec = (plan.local_ranks or plan.ranks)[0] if plan.ranks else None
    job = _read(source.run.job_yaml)
    again = jobs.read(source.run)
    common: dict[str, str] = dict(spec.env) if spec else {}
    return {
        "facts": [
            ("Run", plan.run_id),
            ("Folder", plan.run_dir),
            ("Devices", spell(sorted({one.device_id for one in plan.ranks}))),
        ],
        "again": again.line(),
        "command": _command(spec.argv) if spec else "",
        "masked": bool(again.secrets),
        "notes": plan.notes,
        "files": [
            (title, text)
            for title, text in (
                ("Job (train.yaml)", _short(job)),
                ("Rank table", _short(_compact(plan.rank_table_json))),
                ("Policy", _short(json.dumps(mask(vars(plan.policy)), indent=1))),
                (f"Environment of rank {spec.rank if spec else 0}", _short(_environment(common))),
            )
            if text
        ],
    }


def _command(argv: Sequence[str]) -> str:
    """Write a command as a shell takes it, each option on a line of its own."""
    words = [shlex.quote(str(word)) for word in mask(list(argv))]
    return "".join((" \\\n  " if word.startswith("--") else " ") + word for word in words)[1:]


def _compact(table: str) -> str:
    return table if table.strip() not in ("", "{}") else ""


def _environment(environ: Mapping[str, str]) -> str:
    return "\n".join(f"{name}={value}" for name, value in sorted(mask(dict(environ)).items()))


def _short(text: str) -> str:
    left_out = len(text) - _TEXT
    return text if left_out <= 0 else f"{text[:_TEXT]}\n… {left_out:,} more characters"


_ORIGIN = (
    ("launcher", "npu-launch"), ("commit", "Commit at the start"), ("repository", "Repository"),
    ("changed", "Tracked files"),
    ("changed_sha256", "sha256 of their changes"), ("python", "Python"), ("program", "Program of the ranks"),
    ("framework", "Framework"), ("tensorflow", "TensorFlow"), ("numpy", "NumPy"),
    ("adapter", "NPU adapter"), ("cann", "CANN"), ("driver", "Driver"), ("kernel", "Linux"),
)  # fmt: skip


def _origin(source: Source) -> Any:
    found, hosts = provenance_of(source.run), _hosts(source)
    if not found and not hosts:
        return Missing(
            "Neither result.json nor provenance.json tells it: the run has just begun, was killed within "
            "seconds, or an older launcher ran it."
        )
    if not found:
        return {"facts": hosts, "absent": "", "files": ()}
    needless = {
        "repository",
        "changed",
        "changed_sha256",
        "numpy",
        "framework" if "tensorflow" in found else "tensorflow",
    }
    absent = [label for name, label in _ORIGIN if name not in found and name not in needless]
    return {
        "facts": [(label, str(found[name])) for name, label in _ORIGIN if name in found] + hosts,
        "absent": ", ".join(absent),
        "files": records(found.get("files")),
    }


def _hosts(source: Source) -> list[tuple[str, str]]:
    """Say the versions of each host of a run on several, told before its start; once where they are equal."""
    try:
        listed = records(foreign.read_json(source.run.path / "hosts.json", foreign.DOCUMENT).value)
    except ReadError:
        return []
    by_host: dict[str, str] = {}
    for host in listed:
        told = host.get("versions")
        known = told.items() if isinstance(told, dict) else ()
        by_host[as_text(host.get("name"))] = ", ".join(f"{name} {value}" for name, value in known)
    groups: dict[str, list[str]] = {}
    for name, text in by_host.items():
        groups.setdefault(text, []).append(name)
    return [(f"On {some(names)}", text) for text, names in groups.items() if text]


def _files(source: Source) -> Any:
    """List what came out: checkpoints with their sums, predictions, files by pattern."""
    try:
        manifest = foreign.read_json(source.run.checkpoints / "manifest.json", foreign.DOCUMENT).value
    except ReadError:
        manifest = {}
    listed = records(manifest.get("files") if isinstance(manifest, dict) else None)
    rows = [
        (as_text(one.get("name")), as_number(one.get("size")), as_text(one.get("sha256"))) for one in listed
    ]
    for name in ("predictions", "files"):
        paths = source.result.get(name)
        for path in paths if isinstance(paths, list) else ():
            rows.append((os.path.basename(str(path)), _bytes(str(path)), ""))
    return rows[:60] if rows else Missing("No file was gathered.")


def _bytes(path: str) -> float | None:
    try:
        return float(os.stat(path).st_size)
    except (OSError, ValueError):
        return None


def _happened(source: Source) -> Any:
    if not source.events:
        return Missing(source.missing.get("events.jsonl", "events.jsonl holds no event") + ".")
    rows = timeline.rows(source.events)
    first, left_out, last = timeline.listed(rows)
    jumps = timeline.backwards(source.events)
    attempts = 1 + sum(one.event == "restart" for one in source.events)
    return {
        "drawing": timeline.line_of_time(source.events),
        "first": first, "left_out": left_out, "last": last, "attempts": attempts,
        "jumps": f"The clock went back {jumps} time(s): the order is that of the file." if jumps else "",
    }  # fmt: skip


def _errors(source: Source) -> Any:
    """Find what each rank reported first; a run that ended well is not searched."""
    if source.result.get("exit_code") == 0:
        return None
    from launcher.logs import first_errors
    from launcher.logs.view import LogSource, Query

    found = first_errors.collect([LogSource(source.run.path)], Query())
    report = _read(source.run.report)
    return {
        "report": _short(report),
        "found": [
            {
                "who": named(one.rank) if one.rank is not None else one.label,
                "lines": "\n".join(line[:_LINE] for line in one.lines[-40:]),
                "codes": [str(code) for code in one.explanations],
            }
            for one in found[:8]
        ],
        "more": len(found) - 8,
    }


def duration(seconds: float) -> str:
    """Write a length of time.

    >>> duration(3.25), duration(178.9), duration(7300)
    ('3.2 s', '2 min 59 s', '2 h 02 min')
    """
    if seconds < 60:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes} min {rest:02d} s" if minutes < 60 else f"{minutes // 60:,} h {minutes % 60:02d} min"
