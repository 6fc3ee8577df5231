"""The documents say what is there."""

from __future__ import annotations

import json
import os
import re
from importlib.util import find_spec
from pathlib import Path

import pytest

from launcher import __version__
from launcher.cli import COMMANDS
from launcher.config.reference import yaml_reference
from launcher.profiles import imports
from launcher.supervision import events
from rank_table.rules.catalogue import RULES
from tests import markdown
from tests.launcher.test_imports import FLOORS
from tests.launching import launch
from tests.markdown import ROOT

DOCUMENTS = markdown.documents()
REFERENCE = (ROOT / "docs" / "reference.md").read_text(encoding="utf-8")
ARCHITECTURE = (ROOT / "docs" / "architecture.md").read_text(encoding="utf-8")
FOLDERS = r"(?:launcher|rank_table|bert|squad|templates|tests|benchmarks|examples|scripts|docs)"
NAMES = [str(path.relative_to(ROOT)) for path in DOCUMENTS]


def test_the_table_of_keys_is_the_dataclass() -> None:
    assert yaml_reference() in REFERENCE, (
        "run `python -m launcher.config.reference`, paste it into docs/reference.md"
    )


def test_the_table_of_events_is_the_schema() -> None:
    assert events.reference() in REFERENCE, "run `python -m launcher.supervision.events`, paste it there"


def test_every_command_is_named() -> None:
    assert [name for name in COMMANDS if not re.search(rf"npu-launch \[?{name}\b", REFERENCE)] == []


def test_every_variable_of_a_rank_is_named(tmp_path: Path) -> None:
    done = launch(tmp_path, "--backend=cpu", "--dry-run", "--json", "--", "true")
    env = json.loads(done.stdout)["ranks"][0]["env"]
    own = {name for name in env if env[name] != os.environ.get(name) and not name.startswith("PYTHON")}
    assert [name for name in sorted(own - {"TF_CPP_MIN_LOG_LEVEL"}) if name not in REFERENCE] == []


@pytest.mark.parametrize("path", DOCUMENTS, ids=NAMES)
def test_every_link_leads_somewhere(path: Path) -> None:
    text = path.read_text(encoding="utf-8")
    for link in markdown.links(text):
        if not re.match(r"https?:", link):
            name, _, anchor = link.partition("#")
            target = path.parent / name if name else path
            assert target.exists(), link
            assert not anchor or anchor in markdown.anchors(target.read_text(encoding="utf-8")), link


@pytest.mark.parametrize("path", DOCUMENTS, ids=NAMES)
def test_every_file_and_module_that_is_named_exists(path: Path) -> None:
    text = path.read_text(encoding="utf-8")
    files = re.findall(rf"(?<![\w/.-]){FOLDERS}/[\w/-]+\.(?:py|md|yaml|csv|env|sh|svg)\b", text)
    inside = ROOT / "tests" if path.name == "faults.md" else ROOT
    assert [name for name in files if not ((ROOT / name).exists() or (inside / name).exists())] == []
    modules = re.findall(r"python -m ((?:launcher|rank_table|bert|squad|benchmarks)[\w.]*)", text)
    assert [name for name in modules if find_spec(name) is None] == []


def test_every_package_of_the_launcher_has_its_line_in_the_architecture() -> None:
    assert [name for name in FLOORS if f"`{name}" not in ARCHITECTURE] == []


def test_the_changelog_has_a_dated_section_of_this_version() -> None:
    changelog = (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")
    assert re.search(rf"^## {re.escape(__version__)} - \d{{4}}-\d\d-\d\d$", changelog, re.MULTILINE)


def test_every_rule_of_rank_tables_has_its_line() -> None:
    text = (ROOT / "docs" / "rank-table.md").read_text(encoding="utf-8")
    lines = [f"| `{name}` | {rule.code or '-'} | {rule.requires} |" for name, rule in RULES.items()]
    assert [line for line in lines if line not in text] == []


def test_the_programs_of_the_frameworks_are_recognised(tmp_path: Path) -> None:
    programs = markdown.blocks((ROOT / "docs" / "frameworks.md").read_text(encoding="utf-8"), "python")
    for name, program in zip(("torch", "mindspore", "paddle"), programs):
        compile(program, name, "exec")
        (tmp_path / name).write_text(program)
        assert imports.look(imports.Program(str(tmp_path / name))).framework == name
