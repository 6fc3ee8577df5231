"""PaddlePaddle's ranks beside those of its own launcher: environment, losses, and a rank that is killed."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any, Callable

from launcher.profiles.paddle import PADDLE
from tests.frameworks.differences import OF_A_TERMINAL, beyond, of_every_rank
from tests.frameworks.needs import PROGRAMS, needs
from tests.launcher.test_frameworks import context
from tests.launching import ROOT

pytestmark = needs("paddle")
TRAIN = str(PROGRAMS / "paddle_train.py")
# name: why its value is another one than that of paddle.distributed.launch. All other names have its value.
OTHER_VALUE = {
    "PADDLE_MASTER": "127.0.0.1 and a free port, which is away from those of other runs",
    "PADDLE_TRAINER_ENDPOINTS": "a free port for each rank",
    "PADDLE_CURRENT_ENDPOINT": "the rank's own of these",
    "POD_NAME": "the run's name; Paddle's is six random letters",
}
# name: why there is none.
LACKING = {
    "PADDLE_LOG_DIR": "read by Paddle's launcher alone; the logs are in the run folder",
    "PADDLE_BACKUP_ENV_PATH": "a file of what was too long for the environment; nothing is left out",
    "PADDLE_AUTO_CLUSTER": "0 means what none does; --auto_cluster_config is the launcher's",
    "CUSTOM_DEVICE_ROOT": "set by paddle itself when it is imported, which its launcher does",
}
# Paddle's own code, told that it has the custom device npu, chooses for --devices 2,5.
NPUS = """
import json
from paddle.distributed.launch.context import device
device.get_all_custom_device_type = lambda: ["npu"]
device.get_available_custom_device = lambda: [f"npu:{number}" for number in range(8)]
host = device.Device.parse_device()
key, same = host.get_selected_device_key(), host.get_custom_device_envs()
print(json.dumps([{**same, key: number} for number in host.get_selected_devices("2,5")]))
"""


def read(folder: Path, name: str) -> list[dict[str, Any]]:
    return [json.loads(path.read_text()) for path in sorted(folder.glob(name + "-*.json"))]


def test_environment_and_losses_are_those_under_paddle_s_launcher(
    tmp_path: Path, run_job: Callable[..., Any]
) -> None:
    done = run_job("--devices", "0-1", "--", TRAIN, tmp_path / "ours", -1)
    assert "framework paddle: " in done.stdout
    launcher = [sys.executable, "-m", "paddle.distributed.launch", "--nproc_per_node=2"]
    command = [*launcher, TRAIN, str(tmp_path / "theirs"), "-1"]
    subprocess.run(command, cwd=str(tmp_path), check=True, capture_output=True, timeout=90)
    ours, theirs = read(tmp_path, "ours"), read(tmp_path, "theirs")
    assert len(ours) == len(theirs) == 2
    for mine, other in zip(ours, theirs):
        assert mine["total"] == other["total"] == 3.0
        assert mine["losses"] == other["losses"] and len(mine["losses"]) == 3
        compare(mine["environ"], other["environ"])
    assert ours[0]["losses"] != ours[1]["losses"]


def compare(mine: dict[str, str], other: dict[str, str]) -> None:
    """Require the values of Paddle's launcher but where a reason is given; no reason may be out of date."""
    new = {name: value for name, value in other.items() if value != os.environ.get(name)}
    assert {"PADDLE_TRAINER_ID", "PADDLE_DISTRI_BACKEND", "OMP_NUM_THREADS"} <= set(new)
    assert {name for name in new if name not in mine} - OF_A_TERMINAL == set(LACKING)
    assert {name for name in new if name in mine and mine[name] != new[name]} == set(OTHER_VALUE)
    assert beyond(mine, other) <= of_every_rank()


def test_on_npus_a_rank_gets_the_device_that_paddle_s_launcher_would_give_it() -> None:
    done = subprocess.run([sys.executable, "-c", NPUS], check=True, stdout=subprocess.PIPE, timeout=60)
    for chosen, theirs in zip((2, 5), json.loads(done.stdout.splitlines()[-1])):
        ours = PADDLE.variables(replace(context("npu"), ascend_device_id=chosen))
        assert theirs["FLAGS_selected_npus"] == str(chosen)
        assert len(theirs) == 3 and theirs.items() <= ours.items()


def test_every_difference_is_in_the_document() -> None:
    text = (ROOT / "docs" / "frameworks.md").read_text(encoding="utf-8")
    table = text.partition("### Paddle, beside")[2].partition("## ")[0]
    assert set(re.findall(r"^\| `(\w+)` \|", table, re.MULTILINE)) == {*OTHER_VALUE, *LACKING}


def test_a_rank_that_is_killed_is_the_culprit(run_job: Callable[..., Any], tmp_path: Path) -> None:
    done = run_job("--devices", "0-1", "grace=5", "--", TRAIN, tmp_path / "ours", 1, code=137)
    result = json.loads((done.run_dir / "result.json").read_text())
    assert (result["culprit"], result["ends"][1]["signal"]) == (1, 9)
    # Its connection may break before npu-launch ends it, or after.
    assert result["ends"][0]["state"] in ("victim", "ended by npu-launch")
