"""The environment of a rank under npu-launch beside that under torchrun."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any, Callable

import pytest

from tests.frameworks.differences import OF_A_TERMINAL, beyond, documented, of_every_rank
from tests.frameworks.needs import PROGRAMS, needs

pytestmark = needs("torch")
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
}


def read(folder: Path, name: str) -> list[dict[str, Any]]:
    return [json.loads(path.read_text()) for path in sorted(folder.glob(name + "-*.json"))]


@pytest.mark.parametrize("program", [["show.py"], ["-m", "package.show"]], ids=["script", "module"])
def test_a_rank_is_given_what_torchrun_gives_it(
    tmp_path: Path, run_job: Callable[..., Any], program: list[str]
) -> None:
    for folder in (tmp_path, tmp_path / "package"):
        folder.mkdir(exist_ok=True)
        shutil.copy(str(PROGRAMS / "show.py"), str(folder))
    words = ["--devices", "7", "--backend=npu", "--max-restarts=3", "lr=1", "--", "-x"]
    run_job("--devices", "0-1", "framework=torch", "--", *program, "ours", *words)
    torchrun = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2"]
    subprocess.run([*torchrun, *program, "theirs", *words], cwd=str(tmp_path), check=True, timeout=60)
    ours, theirs = read(tmp_path, "ours"), read(tmp_path, "theirs")
    assert len(ours) == len(theirs) == 2
    for mine, other in zip(ours, theirs):
        compare(mine.pop("environ"), other.pop("environ"))
        programs = [rank["argv"].pop(0) for rank in (mine, other)]  # a whole path here, as it was given there
        assert len({os.path.join(str(tmp_path), path) for path in programs}) == 1
        assert mine["argv"].pop(0) == "ours" and other["argv"].pop(0) == "theirs"
        assert mine == other and mine["argv"] == words
    ports = {rank["environ"]["MASTER_PORT"] for rank in read(tmp_path, "ours")}
    assert len(ports) == 1 and "0" not in ports


def compare(mine: dict[str, str], other: dict[str, str]) -> None:
    """Compare two ranks' environments, in what torchrun adds or changes."""
    new = {name: value for name, value in other.items() if value != os.environ.get(name)}
    assert {"RANK", "MASTER_PORT", "TORCHELASTIC_RUN_ID", "GROUP_WORLD_SIZE"} <= set(new)
    assert {name for name in new if name not in mine} - OF_A_TERMINAL == set(LACKING)
    differing = {name for name in new if name in mine and mine[name] != new[name]}
    assert differing | {"OMP_NUM_THREADS"} == set(OTHER_VALUE)  # on two cores it is 1 here as well
    extra = beyond(mine, other)
    assert {"RANK_TABLE_FILE", "RANK_ID", "HCCL_CONNECT_TIMEOUT"} <= extra and extra <= of_every_rank()


def test_every_difference_is_in_the_document() -> None:
    assert documented("torch, beside torchrun") == {*OTHER_VALUE, *LACKING}


def test_what_the_shell_says_of_nccl_s_errors_counts(tmp_path: Path, run_job: Callable[..., Any]) -> None:
    shutil.copy(str(PROGRAMS / "show.py"), str(tmp_path))
    env = {"TORCH_NCCL_ASYNC_ERROR_HANDLING": "3", "OMP_NUM_THREADS": "5"}
    run_job("--devices", "0", "framework=torch", "--", "show.py", "ours", env=env)
    [mine] = read(tmp_path, "ours")
    assert {name: mine["environ"][name] for name in env} == env
