"""Fixtures for programs that run against the simulated adapter."""

from __future__ import annotations

import importlib.util
from typing import Any, Callable

import pytest

from bert.onednn import tensorflow_version
from tests.adapter import ranks
from tests.adapter.ranks import ROOT, SIMULATOR, Ended
from tests.forked import Forked

__all__ = ["BRANCHES", "ROOT", "SIMULATOR", "VERSION_1"]
VERSION_1 = importlib.util.find_spec("tensorflow_core") is not None  # where 1.15 keeps its code
# Branches of the adapter that differ in what the backend uses, on the two TensorFlows that it is made for.
BRANCHES = ("master", "r1.15.0", "r1.9.0", "r1.8.0")[: None if tensorflow_version() < (2, 7) else 1]


@pytest.fixture(scope="session")
def run_ranks(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Ended]:
    """Return a function that runs a program on some ranks, forked unless its end is what matters."""

    def run(program: str, size: int = 1, env: Any = (), args: Any = (), forked: Any = Forked) -> Ended:
        return ranks.run(tmp_path_factory.mktemp("ranks"), program, size, dict(env), args, forked=forked)

    return run
