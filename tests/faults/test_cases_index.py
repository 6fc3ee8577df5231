"""Every one of the 87 fault cases of docs/faults.md is proved by a test that exists, or gives a reason."""

from __future__ import annotations

import re

import pytest

from tests.launching import ROOT

ROW = re.compile(r"^\| (\d+) \| (.+?) \| (.+) \|$", re.MULTILINE)
DOCUMENT = (ROOT / "docs" / "faults.md").read_text(encoding="utf-8")
CASES = {int(number): proof for number, _, proof in ROW.findall(DOCUMENT)}


def names_by_file() -> dict[str, set[str]]:
    """Map each file below tests/ to the names of its test functions."""
    return {
        str(path.relative_to(ROOT / "tests")): set(
            re.findall(r"^def (test_\w+)", path.read_text(), re.MULTILINE)
        )
        for path in (ROOT / "tests").glob("**/test_*.py")
    }


NAMES = names_by_file()


def test_the_document_lists_all_87_cases_once() -> None:
    assert [int(number) for number, _, _ in ROW.findall(DOCUMENT)] == list(range(1, 88))


@pytest.mark.parametrize("case", range(1, 88))
def test_each_case_names_tests_that_exist_or_a_reason(case: int) -> None:
    named = re.findall(r"`([\w/]+\.py)::(test_\w+)`", CASES[case])
    assert named or "reason:" in CASES[case]
    for file, name in named:
        assert name in NAMES.get(file, set()), f"{file}::{name}"


def test_each_test_that_carries_a_number_stands_in_its_row() -> None:
    for file, names in NAMES.items():
        for name in names:
            numbers = re.match(r"test_case_((?:\d\d(?:_and)?_)+)", name)
            for number in re.findall(r"\d\d", numbers.group(1)) if numbers else ():
                assert f"`{file}::{name}`" in CASES[int(number)]
