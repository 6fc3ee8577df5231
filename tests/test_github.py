"""GitHub's files: workflows that call what the Makefile has, and issue forms."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.markdown import ROOT

FOLDER = ROOT / ".github"
FILES = sorted(FOLDER.rglob("*.yml"))
FORMS = [path for path in (FOLDER / "ISSUE_TEMPLATE").glob("*.yml") if path.name != "config.yml"]


def load(path: Path) -> Any:
    return yaml.safe_load(path.read_text(encoding="utf-8"))


@pytest.mark.parametrize("path", FILES, ids=[path.name for path in FILES])
def test_every_file_is_yaml(path: Path) -> None:
    assert isinstance(load(path), dict)


@pytest.mark.parametrize("name", ["tests.yml", "release.yml"])
def test_every_step_of_a_workflow_does_one_thing(name: str) -> None:
    for job in load(FOLDER / "workflows" / name)["jobs"].values():
        assert job["timeout-minutes"] and job["runs-on"].startswith("ubuntu-")
        assert [step for step in job["steps"] if ("uses" in step) == ("run" in step)] == []


def test_the_tiers_are_targets_of_the_makefile() -> None:
    makefile = (ROOT / "Makefile").read_text()
    tiers = load(FOLDER / "workflows" / "tests.yml")["jobs"]["tier"]["strategy"]["matrix"]["tier"]
    assert [tier for tier in tiers if not re.search(rf"^{tier}:", makefile, re.MULTILINE)] == []


def test_every_tier_that_ci_is_said_to_run_is_run() -> None:
    tiers = load(FOLDER / "workflows" / "tests.yml")["jobs"]["tier"]["strategy"]["matrix"]["tier"]
    text = (ROOT / "CONTRIBUTING.md").read_text()
    said = re.findall(r"^\| `make ([\w-]+)` \|.*CI runs it", text, re.MULTILINE)
    assert len(said) >= 3 and set(said) <= set(tiers)


def test_the_package_is_installed_on_every_python_that_its_metadata_names() -> None:
    versions = load(FOLDER / "workflows" / "tests.yml")["jobs"]["install"]["strategy"]["matrix"]["python"]
    metadata = (ROOT / "pyproject.toml").read_text()
    assert versions == re.findall(r"Programming Language :: Python :: (3\.\d+)", metadata)


@pytest.mark.parametrize("path", FORMS, ids=[path.stem for path in FORMS])
def test_a_form_has_fields_with_labels_and_ids_of_their_own(path: Path) -> None:
    form = load(path)
    fields = [field for field in form["body"] if field["type"] != "markdown"]
    assert form["name"] and form["description"]
    assert all(field["attributes"]["label"] for field in fields)
    assert len({field["id"] for field in fields}) == len(fields)


def test_a_bug_report_asks_for_the_bundle_of_doctor() -> None:
    fields = {field.get("id"): field for field in load(FOLDER / "ISSUE_TEMPLATE" / "bug.yml")["body"]}
    assert "npu-launch doctor --bundle" in fields["bundle"]["attributes"]["description"]


def test_make_bench_starts_what_needs_no_argument() -> None:
    shown = subprocess.run(["make", "-n", "bench"], cwd=str(ROOT), stdout=subprocess.PIPE, check=True).stdout
    scripts = set(re.findall(r"benchmarks/\w+\.py", shown.decode()))
    texts = {path: (ROOT / path).read_text() for path in scripts}
    assert len(texts) > 15 and "benchmarks/hosts.py" in texts
    required = re.compile(r'add_argument\("[a-z_]+"(?!, nargs="\?")')
    assert [path for path, text in texts.items() if required.search(text)] == []
    assert [path for path, text in texts.items() if "__main__" not in text] == []
