"""The fixture of the fault suite."""

from __future__ import annotations

from pathlib import Path
from typing import Iterator

import pytest

from tests.faults.helpers import Job


@pytest.fixture()
def job(tmp_path: Path) -> Iterator[Job]:
    """A job to start; whatever a failed test leaves is killed."""
    made = Job(tmp_path)
    yield made
    made.close()
