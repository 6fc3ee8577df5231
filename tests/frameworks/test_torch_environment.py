"""The environment of a rank under npu-launch beside that under torchrun."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any, Callable

from tests.frameworks.needs import needs

pytestmark = needs("torch")
# No import of torch: the framework is given. A file for each rank, as two ranks' outputs may mix.
SHOW = """
import json, os, sys
with open(f"{sys.argv[1]}-{os.environ['RANK']}.json", "w") as stream:
    json.dump(dict(os.environ), stream)
"""
# name: why its value is another one than torchrun's. All other names have torchrun's value.
OTHER_VALUE = {
    "MASTER_ADDR": "127.0.0.1 instead of localhost, which may be ::1 to one rank and 127.0.0.1 to another",
    "MASTER_PORT": "a port that is free now",
    "TORCHELASTIC_RUN_ID": "the run's name; torchrun's is random with --standalone",
    "TORCHELASTIC_ERROR_FILE": "in the run folder",
    "OMP_NUM_THREADS": "the rank's share of the cores instead of 1",
}
# name: why there is none.
LACKING = {
    "TORCHELASTIC_USE_AGENT_STORE": "True would let rank 0 wait for an agent's store; it opens its own",
    "TORCHELASTIC_SIGNALS_TO_HANDLE": "read by torchrun itself, as which signals end the job",
    "LINES": "set by readline, which torchrun imports",
    "COLUMNS": "set by readline, which torchrun imports",
}


def of_torchrun(folder: Path, ranks: int = 2) -> list[dict[str, str]]:
    torchrun = [sys.executable, "-m", "torch.distributed.run", "--standalone", f"--nproc-per-node={ranks}"]
    command = [*torchrun, "show.py", "theirs"]
    subprocess.run(command, cwd=str(folder), check=True, capture_output=True, timeout=60)
    return read(folder, "theirs")


def read(folder: Path, name: str) -> list[dict[str, str]]:
    return [json.loads(path.read_text()) for path in sorted(folder.glob(name + "-*.json"))]


def test_what_torchrun_sets_is_set(tmp_path: Path, run_job: Callable[..., Any]) -> None:
    (tmp_path / "show.py").write_text(SHOW)
    run_job("--devices", "0-1", "framework=torch", "--", "show.py", "ours")
    ours, theirs = read(tmp_path, "ours"), of_torchrun(tmp_path)
    assert len(ours) == len(theirs) == 2
    for mine, other in zip(ours, theirs):
        new = {name: value for name, value in other.items() if value != os.environ.get(name)}
        assert {"RANK", "MASTER_PORT", "TORCHELASTIC_RUN_ID", "GROUP_WORLD_SIZE"} <= set(new)
        assert {name for name in new if name not in mine} <= set(LACKING)
        assert {name for name in new if name in mine and mine[name] != new[name]} <= set(OTHER_VALUE)
        assert "TORCHELASTIC_USE_AGENT_STORE" not in mine
    assert ours[0]["MASTER_PORT"] == ours[1]["MASTER_PORT"] != "0"
