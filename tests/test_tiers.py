"""The tiers: failures that do not come back are counted, and so is what found no reference data."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.launching import ROOT
from tests.tiers import HEAVY, TESTS

# A test that fails the first time it is run.
FLAKY = """
def test_flaky_{0}():
    from pathlib import Path
    mark = Path(__file__).with_name("mark{0}")
    first = not mark.exists()
    mark.touch()
    assert not first
"""


def run_tests(folder: Path, text: str, *calls: str, **env: str) -> Any:
    """Run scripts/run-tests over a folder of one test file."""
    (folder / "test_made.py").write_text(text)
    (folder / "pytest.ini").write_text("[pytest]\naddopts = -q -p tests.tiers\n")
    environ = dict(
        os.environ, PYTHONPATH=str(ROOT), PYTEST_ARGS="", PYTEST_DISABLE_PLUGIN_AUTOLOAD="1", **env
    )
    words = [sys.executable, str(ROOT / "scripts" / "run-tests"), *calls]
    return subprocess.run(words, cwd=str(folder), env=environ, capture_output=True, text=True, timeout=60)


@pytest.mark.parametrize(("flaky", "code"), [(2, 0), (3, 1)])
def test_flakes_are_counted_and_three_are_a_failure(tmp_path: Path, flaky: int, code: int) -> None:
    text = "".join(FLAKY.format(number) for number in range(flaky)) + "def test_good(): pass\n"
    done = run_tests(tmp_path, text, "", "-k good test_made.py")
    assert done.returncode == code, done.stdout + done.stderr
    [line] = [line for line in done.stdout.splitlines() if line.startswith("FLAKES: ")]
    assert line.startswith(f"FLAKES: {flaky}: test_made.py::test_flaky_0 ")


def test_the_repeat_has_the_options_of_its_call(tmp_path: Path) -> None:
    text = "def test_one(request): assert not request.config.getoption('--fast')\ndef test_two(): assert 0\n"
    done = run_tests(tmp_path, text, "--fast test_made.py -k one")
    assert done.returncode == 1 and "FLAKES" not in done.stdout and "test_two" not in done.stdout


def test_what_fails_twice_fails_whatever_ran_afterwards(tmp_path: Path) -> None:
    done = run_tests(tmp_path, "def test_bad(): assert 0\ndef test_good(): pass\n", "-k bad", "-k good")
    assert done.returncode == 1 and "FLAKES" not in done.stdout
    assert run_tests(tmp_path, "def test_good(): pass\n", "-k good", "-k bad").returncode == 0
    assert run_tests(tmp_path, "def test_good(): pass\n", "--no-such-option").returncode == 4


def test_a_file_that_cannot_be_read_fails(tmp_path: Path) -> None:
    assert run_tests(tmp_path, "import no_such_module\n", "").returncode != 0


@pytest.mark.parametrize("words", ["", "-p xdist -n 2"])
def test_what_was_left_out_is_said_in_one_line(tmp_path: Path, words: str) -> None:
    text = "def test_one(shared): pass\ndef test_two(shared): pass\ndef test_three(): pass\n"
    done = run_tests(tmp_path, text, words, NPU_LAUNCH_SHARED=str(tmp_path))
    assert done.returncode == 0
    lines = [line for line in done.stdout.splitlines() if line.startswith("LEFT OUT: ")]
    assert len(lines) == 1 and lines[0].startswith("LEFT OUT: 2 tests need ../shared")


def test_the_fast_tier_has_no_tensorflow(tmp_path: Path) -> None:
    text = """
import pytest
def test_import():
    with pytest.raises(ImportError, match="fast tier"):
        import tensorflow
@pytest.mark.tensorflow
def test_out(): assert 0
"""
    done = run_tests(tmp_path, text, "--fast")
    assert done.returncode == 0 and "1 passed, 1 deselected" in done.stdout


def test_what_the_fast_tier_leaves_out_is_there() -> None:
    assert not [name for name in HEAVY if not (TESTS / name).exists()]
