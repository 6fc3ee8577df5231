"""A log that a test writes and reads."""

from __future__ import annotations

from pathlib import Path

import pytest

from launcher.compare.curve import Curve
from launcher.compare.formats import read
from tests.launcher.compare.reading import Reader


@pytest.fixture
def log(tmp_path: Path) -> Reader:
    """Write lines into a file and read it."""

    def write(*lines: str, name: str = "x.log", end: str = "\n", **hints: int) -> Curve:
        (tmp_path / name).write_bytes(("\n".join(lines) + end).encode())
        return read(tmp_path / name, **hints)

    return write
