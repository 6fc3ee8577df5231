"""What the tests with a real framework have in common."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path

import pytest

PROGRAMS = Path(__file__).with_name("programs")
PACKAGES = {"paddle": "paddlepaddle"}  # whose name on PyPI differs


def needs(*modules: str) -> list[pytest.MarkDecorator]:
    """Return the marks of a file's tests: their tier, and that they are skipped where a module is missing."""
    missing = [PACKAGES.get(name, name) for name in modules if find_spec(name) is None]
    how = "run `make test-frameworks`, which installs it into .venv-frameworks"
    reason = f"{', '.join(missing)} not found: {how}"
    return [pytest.mark.frameworks, pytest.mark.skipif(bool(missing), reason=reason)]
