"""events.jsonl: what stands in it is what its schema says."""

from __future__ import annotations

import ast
import json
from pathlib import Path
from typing import Any

import pytest

from launcher.run_dir import RunDir
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
    for path in (ROOT / "launcher" / "supervision").glob("*.py"):
        for call in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(call, ast.Call) and getattr(call.func, "attr", "") == "record":
                named = [node for node in ast.walk(call.args[0]) if isinstance(node, ast.Attribute)]
                for event in (Event[node.attr] for node in named):
                    recorded.add(event)
                    assert {word.arg for word in call.keywords} == set(event.fields), event
                    assert (len(call.args) == 2) == event.of_rank, event
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


def test_the_reference_shows_the_schema() -> None:
    text = (ROOT / "docs" / "reference.md").read_text(encoding="utf-8")
    assert text.partition("<!-- events -->\n")[2].partition("<!-- /events -->")[0].strip() == reference()
