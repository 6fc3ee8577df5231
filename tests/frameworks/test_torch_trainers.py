"""Lightning and Accelerate take npu-launch for torchrun: its ranks are theirs, and they start none."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, Callable

from tests.frameworks.needs import PROGRAMS, needs

pytestmark = needs("torch", "lightning", "accelerate")


def test_they_train_in_the_ranks_that_are_there(tmp_path: Path, run_job: Callable[..., Any]) -> None:
    done = run_job("--devices", "0-1", "--", str(PROGRAMS / "trainers.py"))
    found = [json.loads(path.read_text()) for path in sorted(tmp_path.glob("found-*.json"))]
    pids = [end["pid"] for end in json.loads((done.run_dir / "result.json").read_text())["ends"]]
    for rank, mine in enumerate(found):
        assert (mine["pid"], mine["environment"]) == (pids[rank], "TorchElasticEnvironment")
        assert mine["lightning"] == [rank, rank, 2, 2]
        assert (mine["accelerate"], mine["backend"]) == ([rank, rank, 2], "gloo")
        assert len(mine["weights"]) == 2 and mine["weights"][0] == mine["weights"][1]
    assert len(found) == 2
