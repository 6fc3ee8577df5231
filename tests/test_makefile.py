"""Targets of the Makefile that install: what could not be installed is tried again."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path
from shutil import which

import pytest

from tests.markdown import ROOT

# Stands for the environment's Python: pip fails for the packages that the variable names.
PYTHON = """#!/bin/sh
echo "$*" >>calls
for word in $BROKEN; do case "$*" in *"$word"*) echo "no route" >&2; exit 1;; esac; done
"""

pytestmark = pytest.mark.skipif(not which("make"), reason="needs make")


def make(folder: Path, broken: str) -> str:
    """Make the environment of the frameworks; give what is printed."""
    python = folder / ".venv-frameworks" / "bin" / "python"
    python.parent.mkdir(parents=True, exist_ok=True)
    python.write_text(PYTHON)
    python.chmod(0o755)
    (folder / "pyproject.toml").touch()
    words = ["make", "--silent", "-f", str(ROOT / "Makefile"), ".venv-frameworks/dev.stamp", "PYTHON=x"]
    names = {"PYTHON37": "x", "PYTHON39": "x", "PYTHON311": "x"}
    done = subprocess.run(
        [*words, *(f"{name}={value}" for name, value in names.items())], cwd=str(folder),
        env={**os.environ, "BROKEN": broken}, stdout=subprocess.PIPE, text=True, timeout=60, check=True,
    )  # fmt: skip
    return done.stdout


def test_a_framework_that_could_not_be_installed_is_tried_again(tmp_path: Path) -> None:
    assert "SKIPPED: pip install mindspore" in make(tmp_path, "mindspore")
    assert not (tmp_path / ".venv-frameworks" / "dev.stamp").exists()
    assert make(tmp_path, "") == ""
    tries = [line for line in (tmp_path / "calls").read_text().splitlines() if line.endswith(" mindspore")]
    assert len(tries) == 2 and (tmp_path / ".venv-frameworks" / "dev.stamp").exists()
