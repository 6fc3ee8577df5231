"""events.jsonl: what stands in it is what its schema says."""

from __future__ import annotations

import ast
import io
import json
import os
from pathlib import Path
from typing import Any, Callable

import pytest

from launcher.run_dir import AppendedFile, RunDir
from launcher.supervision.events import Event, EventLog, reference, violations
from launcher.ui.console import Console
from tests.launching import ROOT, latest, launch

FAILS_ONCE = (
    'import os, sys; sys.exit(7 if os.environ["RANK_ID"] + os.environ["NPU_LAUNCH_ATTEMPT"] == "10" else 0)'
)
BEGUN = {"time": 1.5, "event": "started", "rank": 0, "data": {"pid": 1, "start": 2}}


def test_every_line_of_a_run_with_a_failure_and_a_restart_follows_the_schema(tmp_path: Path) -> None:
    words = ["--devices", "0-1", "--backend", "cpu", "--max-restarts", 1, "--", "python3", "-c", FAILS_ONCE]
    assert launch(tmp_path, *words).returncode == 0
    lines = [json.loads(line) for line in RunDir(latest(tmp_path)).events.read_text().splitlines()]
    assert {json.dumps(line): violations(line) for line in lines if violations(line)} == {}
    names = [line["event"] for line in lines]
    assert names[0] == Event.RUN and names[-1] == Event.END and names.count(Event.STARTED) == 4
    assert {Event.ENDED, Event.TEARDOWN, Event.RESTART} <= set(names)
    assert [line["data"]["code"] for line in lines if line["event"] == Event.ENDED and line["rank"] == 1] == [
        7,
        0,
    ]


def test_the_supervisor_records_every_event_and_each_with_its_fields() -> None:
    recorded = set()
    rooms = (ROOT / "launcher" / name for name in ("supervision", "hosts", "engines"))
    for path in (path for room in rooms for path in room.glob("*.py")):
        for call in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(call, ast.Call) and getattr(call.func, "attr", "") == "record" and call.args:
                named = [node for node in ast.walk(call.args[0]) if isinstance(node, ast.Attribute)]
                for event in (Event[node.attr] for node in named):
                    recorded.add(event)
                    assert {word.arg for word in call.keywords} == set(event.fields), event
                    assert (len(call.args) == 2) == (event.of_rank is not False), event
    assert recorded == set(Event)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({}, ""),
        ({"event": "begun"}, "unknown event 'begun'"),
        ({"time": None}, "time"),
        ({"rank": None}, "rank must be a number"),
        ({"event": "signal", "data": {"signal": "SIGINT"}}, "rank must be null"),
        ({"data": {"pid": 1}}, "fields pid, start"),
        ({"data": {"pid": "1", "start": 2}}, "pid must be int, not '1'"),
    ],
)
def test_a_line_that_breaks_the_schema_is_explained(change: dict[str, Any], said: str) -> None:
    found = violations({**BEGUN, **change})
    assert said in found[0] if said else found == []


def test_a_disk_that_takes_nothing_costs_the_files_alone(tmp_path: Path) -> None:
    log = EventLog(RunDir(tmp_path / "gone"), Console(None))
    log.record(Event.RESTART, attempt=1)
    log.announce("text")
    log.close()
    assert list(tmp_path.iterdir()) == []


class Spoken:
    """A log of events, and what it has said on the console."""

    def __init__(self, folder: Path) -> None:
        self.run = RunDir.create(folder / "run", [0])
        self._out = io.StringIO()
        self.log = EventLog(self.run, Console(self._out))

    @property
    def lines(self) -> list[str]:
        return self._out.getvalue().splitlines()


@pytest.fixture
def spoken(tmp_path: Path) -> Spoken:
    return Spoken(tmp_path)


def test_a_file_that_cannot_be_read_is_named_once(spoken: Spoken) -> None:
    path = spoken.run.error(0)
    for _ in range(3):
        spoken.log.unreadable(0, path, f"{path}: a FIFO (expected a regular file)")
    spoken.log.close()
    assert spoken.lines == [f"npu-launch: warning: {path}: a FIFO (expected a regular file); it is ignored"]
    (line,) = [json.loads(line) for line in spoken.run.events.read_text().splitlines()]
    assert violations(line) == [] and line["data"]["file"] == str(path)


def test_a_bug_in_a_part_of_the_work_is_named_once_and_costs_that_part(spoken: Spoken) -> None:
    for _ in range(3):
        with spoken.log.surviving("the report"):
            raise KeyError("step")
    (line,) = spoken.lines
    assert line.startswith("npu-launch: warning: the report failed: KeyError: 'step' (test_events.py:")
    assert "Traceback" in spoken.run.launcher_log.read_text()


def test_a_full_disk_is_named_once(spoken: Spoken, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(RunDir, "launcher_log", Path("/dev/full"))
    log = EventLog(spoken.run, spoken.log._console)
    for _ in range(3):
        log.debug("text")
    assert spoken.lines == [
        "npu-launch: warning: /dev/full: No space left on device; lines of it are lost, the run goes on"
    ]


def test_a_line_that_was_cut_off_spoils_no_other(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = AppendedFile(tmp_path / "events.jsonl")
    write = os.write
    with monkeypatch.context() as full:
        full.setattr(os, "write", lambda descriptor, data: write(descriptor, data[:3]))
        file.append("first\n")
    file.append("second\n")
    file.close()
    assert (tmp_path / "events.jsonl").read_text() == "fir\nsecond\n"


@pytest.mark.parametrize("harm", [Path.unlink, lambda path: path.rename(path.with_name("moved"))])
def test_a_file_that_was_taken_away_is_named(spoken: Spoken, harm: Callable[[Path], object]) -> None:
    harm(spoken.run.events)
    spoken.log.close()
    (line,) = spoken.lines
    assert line.endswith("events.jsonl: moved or removed while the run went on")


def test_the_reference_shows_the_schema() -> None:
    text = (ROOT / "docs" / "reference.md").read_text(encoding="utf-8")
    assert text.partition("<!-- events -->\n")[2].partition("<!-- /events -->")[0].strip() == reference()
