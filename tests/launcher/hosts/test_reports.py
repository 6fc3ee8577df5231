"""Every report of docs/several-hosts.md names tests that exist."""

from __future__ import annotations

import re

import pytest

from tests.launching import ROOT

TEXT = (ROOT / "docs" / "several-hosts.md").read_text(encoding="utf-8")
ROWS = {int(number): here for number, here in re.findall(r"^\| (\d+) \| .+? \| (.+) \|$", TEXT, re.MULTILINE)}


def test_the_26_reports_stand_in_their_order() -> None:
    assert list(ROWS) == list(range(1, 27))


@pytest.mark.parametrize("number", range(1, 27))
def test_each_report_names_tests_that_exist(number: int) -> None:
    named = re.findall(r"`(tests/[\w/]+\.py)::(test_\w+)`", ROWS[number])
    assert named
    for file, name in named:
        assert f"def {name}(" in (ROOT / file).read_text(encoding="utf-8"), f"{file}::{name}"
