"""The framework of a job: recognised or given, and what its ranks get."""

from __future__ import annotations

import re
import socket
from dataclasses import replace
from pathlib import Path
from typing import Mapping

import pytest

from launcher.config.job import JobConfig, Provenance
from launcher.errors import ConfigError, UsageError
from launcher.plan import environment, planner, ports
from launcher.plan.build import LaunchContext, build_plan
from launcher.plan.model import Plan
from launcher.plan.placement import Placement, choose_inventory, rendered
from launcher.profiles import choice
from launcher.profiles.base import Meeting, RankContext
from rank_table.inventory import Device, Host, Inventory
from rank_table.table import RankTable
from tests.rank_table.conftest import FakeHost

SHELL = {
    "PATH": "/bin", "RANK": "1", "LOCAL_RANK": "0,1", "WORLD_SIZE": "16", "MASTER_ADDR": "pod-0",
    "TORCHELASTIC_USE_AGENT_STORE": "True", "TORCHELASTIC_RUN_ID": "old", "MS_ROLE": "MS_SCHED",
    "PADDLE_TRAINER_ID": "7", "OMPI_COMM_WORLD_RANK": "3", "SLURM_PROCID": "3", "CM_CHIEF_IP": "10.0.0.1",
}  # fmt: skip


def context(backend: str = "cpu", rank: int = 3) -> RankContext:
    ends = tuple(f"10.0.0.{host}:{25001 + place}" for host in (1, 2) for place in (0, 1))
    return RankContext(
        rank=rank, size=4, local_rank=1, local_size=2, device_id=6, ascend_device_id=5, run_dir="/r",
        run_id="j-1", backend=backend, threads=2, launch_dir="/l", host=1, hosts=2, visible=(2, 5),
        meeting=Meeting("10.0.0.1", 25000, ends), max_restarts=2,
    )  # fmt: skip


def of(framework: str, backend: str = "cpu") -> dict[str, str]:
    return environment.of_rank(SHELL, context(backend), choice.profile(framework))


def test_a_torch_rank_gets_the_family_of_torchrun_and_no_other() -> None:
    env = of("torch", "npu")
    assert {name: env[name] for name in ("MASTER_ADDR", "MASTER_PORT", "RANK", "WORLD_SIZE")} == {
        "MASTER_ADDR": "10.0.0.1", "MASTER_PORT": "25000", "RANK": "3", "WORLD_SIZE": "4",
    }  # fmt: skip
    assert (env["LOCAL_RANK"], env["LOCAL_WORLD_SIZE"], env["GROUP_RANK"]) == ("1", "2", "1")
    assert (env["TORCHELASTIC_RUN_ID"], env["TORCHELASTIC_MAX_RESTARTS"]) == ("j-1", "2")
    # CANN takes the second for an index into the first, as torch.npu.set_device(LOCAL_RANK) does.
    assert (env["ASCEND_RT_VISIBLE_DEVICES"], env["ASCEND_DEVICE_ID"]) == ("2,5", "1")
    others = ("MS_ROLE", "PADDLE_TRAINER_ID", "OMPI_COMM_WORLD_RANK", "SLURM_PROCID", "CM_CHIEF_IP")
    assert not {"TORCHELASTIC_USE_AGENT_STORE", *others} & set(env)


@pytest.mark.parametrize(
    ("visible", "level", "says"),
    [
        ((5, 2), "error", r"'5,2' \(expected ascending ids, .*; list devices in ascending order"),
        ((0, 2, 1), "error", "'0,2,1'"),
        ((2,), "note", "2: hides devices"),
        ((2, 5), "", ""),
    ],
)
def test_devices_in_whose_order_local_rank_is_no_index_are_refused(
    visible: tuple[int, ...], level: str, says: str
) -> None:
    env = environment.of_rank(SHELL, replace(context("npu"), visible=visible), choice.profile("torch"))
    errors, notes = environment.review(env, "npu", "A2", choice.profile("torch"))
    found = [f"error {message}" for _, message in errors] + [f"note {note}" for note in notes]
    assert bool(found) == bool(level) and all(re.match(f"{level} .*{says}", line) for line in found), found


def test_the_devices_that_torch_sees_are_those_that_the_shell_leaves(tmp_path: Path) -> None:
    host = FakeHost(tmp_path)
    host.nodes(*range(8))
    machine = host.machine({"ASCEND_RT_VISIBLE_DEVICES": "2,5,7", "PATH": str(host.bin)})
    inventory = choose_inventory((5, 7), "npu", "", machine).inventory
    logical = {("h", item.device_id): item.logical_id for item in inventory.hosts[0].devices}
    assert list(logical.values()) == [1, 2]
    table = RankTable.from_hosts([replace(inventory.hosts[0], server_id="h")])
    env = planned(table, logical, machine.environ).ranks[1].env
    assert (env["ASCEND_RT_VISIBLE_DEVICES"], env["LOCAL_RANK"], env["DEVICE_ID"]) == ("5,7", "1", "7")


@pytest.mark.parametrize("order", [(1, 0), (0, 2, 1)])
def test_a_rank_table_in_another_order_than_torch_counts_in_is_refused(order: tuple[int, ...]) -> None:
    config, logical = JobConfig(framework="torch"), {("h", number): number for number in order}
    tables = [
        RankTable.from_hosts([Host("h", tuple(Device(number, number) for number in numbers))])
        for numbers in (order, sorted(order))
    ]
    said = r"{}: ASCEND_RT_VISIBLE_DEVICES would be '[\d,]+' .*; list devices in ascending order"
    with pytest.raises(UsageError, match=said.format("command line: devices")):
        planner.reviewed(planned(tables[0], logical, {}), config, Provenance())
    given, source = replace(config, rank_table_file="t.json"), Provenance("job.yaml", {"rank_table_file": 3})
    with pytest.raises(UsageError, match=said.format("job.yaml:3: rank_table_file")):
        planner.reviewed(planned(tables[0], logical, {}), given, source)
    assert planner.reviewed(planned(tables[1], logical, {}), config, Provenance()).notes == ()


def planned(table: RankTable, logical: Mapping[tuple[str, int], int], environ: Mapping[str, str]) -> Plan:
    launch = LaunchContext(
        placement=Placement(table, "", "h", "npu", logical), run_id="j", run_dir="/r", launch_dir="/",
        environ=environ, cores=[0], meeting=Meeting(port=20000),
    )  # fmt: skip
    return build_plan(JobConfig(framework="torch"), ["/bin/true"], launch)


@pytest.mark.parametrize("framework", ["torch", "none"])
def test_without_a_rank_table_a_rank_keeps_its_numbers_and_gets_no_other_family(framework: str) -> None:
    def env(backend: str) -> dict[str, str]:
        free = replace(context(backend), table_free=True)
        return environment.of_rank({"PATH": "/bin"}, free, choice.profile(framework))

    assert "RANK_TABLE_FILE" not in env("npu") and not [name for name in env("npu") if name[:3] == "CM_"]
    assert (env("npu")["RANK_ID"], env("npu")["NPU_LAUNCH_RANK"], env("npu")["RANK_SIZE"]) == ("3", "3", "4")
    assert env("npu")["NPU_LAUNCH_RANK_TABLE"] == env("cpu")["RANK_TABLE_FILE"] == "/r/rank_table.json"


def test_a_job_whose_table_nobody_reads_needs_nothing_of_its_links() -> None:
    device = {"device_id": 0, "device_ip": "", "logical_id": 0}
    inventory = Inventory((Host("h", (Device(**device),), chip="950"),), "hosts.yaml")  # type: ignore[arg-type]
    with pytest.raises(UsageError, match="no local_id and network levels"):
        rendered(inventory)
    table, text = rendered(inventory, unread=True)
    assert table.ranks[0].device_id == 0 and RankTable.loads(text) == table
    read = {name: choice.reads_table(JobConfig(framework=name)) for name in choice.FRAMEWORKS}
    assert [name for name in read if not read[name]] == ["paddle"]
    assert not choice.reads_table(JobConfig(framework="torch", rank_table_free=True))


def test_the_number_of_the_attempt_has_torchrun_s_name_too() -> None:
    env = environment.of_attempt(of("torch"), 2)
    assert (env["NPU_LAUNCH_ATTEMPT"], env["TORCHELASTIC_RESTART_COUNT"]) == ("2", "2")
    assert "TORCHELASTIC_RESTART_COUNT" not in environment.of_attempt(of("tensorflow"), 2)


def test_a_paddle_rank_knows_every_endpoint() -> None:
    env = of("paddle")
    assert env["PADDLE_TRAINER_ENDPOINTS"].split(",")[3] == env["PADDLE_CURRENT_ENDPOINT"] == "10.0.0.2:25002"
    assert (env["PADDLE_TRAINER_ID"], env["PADDLE_DISTRI_BACKEND"]) == ("3", "gloo")
    assert "RANK" not in env


def test_a_mindspore_worker_knows_its_scheduler() -> None:
    env = of("mindspore")
    assert (env["MS_ROLE"], env["MS_SCHED_PORT"], env["MS_WORKER_NUM"]) == ("MS_WORKER", "25000", "4")
    assert "MS_ROLE" not in of("mindspore", "npu")  # the rank table says it


def test_no_framework_takes_and_adds_nothing() -> None:
    env = of("none")
    assert env["MASTER_ADDR"] == "pod-0" and "JOB_ID" not in env
    assert "JOB_ID" in of("tensorflow") and "NPU_LAUNCH_FRAMEWORK" not in of("tensorflow")


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("import torch\n", "torch"), ("import os\nfrom torch_npu.npu import amp\n", "torch"),
        ("import os\ndef main():\n    import mindspore as ms\n", "mindspore"),
        ("from paddle.distributed import fleet\n", "paddle"),
        ("import tensorflow as tf\nimport torch\n", "tensorflow"),
        ("import os, torch.nn as nn, sys\n", "torch"),
        ("importtorch = 1\nimport torchx as torch\n", ""),
        ("import torchvision_extra\n'import torch'\n# import torch\n", ""), ("", ""),
        ("\ufeffimport torch\n", "torch"), ("import os; import torch\n", "torch"),
        ("try: import torch\nexcept ImportError: pass\n", "torch"), ("import os, \\\n  torch\n", "torch"),
        ("\"\"\"Weights:\n\nimport torch weights.\n\"\"\"\nx = '\\d'\nimport keras\n", ""),
        ("from .torch import x\nprint(f'a')\n", ""), ("print 'old'\nimport torch\n", "torch"),
    ],
)  # fmt: skip
@pytest.mark.parametrize("way", ["program", "module", "command", "python command"])
def test_what_the_program_imports_first_says_the_framework(
    tmp_path: Path, text: str, expected: str, way: str
) -> None:
    (tmp_path / "train.py").write_text(text)
    program: dict[str, str | list[str]] = {"program": "train.py", "module": "train"}
    commands = {"command": ["train.py", "--lr", "x.py"], "python command": ["python", "-m", "train"]}
    config = JobConfig(program=program.get(way, ""))
    settled = choice.settle(config, Provenance(), commands.get(way, []), str(tmp_path))
    assert settled.config.framework == expected
    assert len(settled.notes) == (expected not in ("", "tensorflow"))
    assert not (settled.notes and settled.doubt)


FILES = {
    "src/__init__.py": "", "src/trainer.py": "import torch\n", "src/deep/a.py": "from ..trainer import fit\n",
    "src/plain.py": "import json, math\n", "ms.py": "import mindspore\n",
    "circle.py": "import circle, json\n", "told.py": "\"\"\"\nimport torch\n\"\"\"\n",
    "many.py": "from src import (\n    plain as p,  # first\n    trainer,\n)\n",
}  # fmt: skip


@pytest.mark.parametrize(
    "text, expected, where",
    [
        ("from transformers import Trainer\n", "torch", "train.py imports transformers;"),
        ("import sys\nfrom llamafactory.train.tuner import run_exp\n", "torch", "imports llamafactory;"),
        ("from src.trainer import *\n", "torch", "train.py, by src/trainer.py, imports torch;"),
        ("from src import plain, trainer\n", "torch", "src/trainer.py"),
        ("import src.deep.a\n", "torch", "src/trainer.py"), ("import src.plain\n", "", ""),
        ("import transformers, ms\n", "mindspore", "train.py, by ms.py, imports mindspore;"),
        ("import peft\nimport mindnlp\n", "mindspore", "imports mindnlp"), ("import circle\n", "", ""),
        ("import many\n", "torch", "train.py, by src/trainer.py,"), ("import told\n", "", ""),
        ("import trl\nimport tensorflow\n", "tensorflow", ""), ("import squad.flags\n", "tensorflow", ""),
    ],
)  # fmt: skip
def test_a_program_that_imports_no_framework_itself_is_known_by_what_it_imports(
    tmp_path: Path, text: str, expected: str, where: str
) -> None:
    for name, content in {**FILES, "train.py": text}.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(content)
    settled = choice.settle(JobConfig(), Provenance(), ["train.py"], str(tmp_path))
    assert settled.config.framework == expected
    assert [where in note for note in settled.notes] == [True] * bool(where)
    assert settled.doubt == ()  # where none is found, all that is imported has been read


@pytest.mark.parametrize(
    "command, text, doubt",
    [
        (["bash", "run.sh"], "", "framework: the command does not show which; ranks get what TensorFlow's"),
        (["train.py"], "import numpy\n", "framework: train.py does not show which;"),
        (["train.py"], "import os, math, argparse, launcher.worker\n", ""),
        (["-m", "nowhere.train"], "", "the command does not show which"),
    ],
)  # fmt: skip
def test_where_nothing_shows_the_framework_it_is_said(
    tmp_path: Path, command: list[str], text: str, doubt: str
) -> None:
    (tmp_path / "train.py").write_text(text)
    settled = choice.settle(JobConfig(), Provenance(), command, str(tmp_path))
    assert (settled.config.framework, settled.notes) == ("", ())
    assert [doubt in line for line in settled.doubt] == [True] * bool(doubt)
    told = choice.settle(JobConfig(heartbeat="torch"), Provenance(), ["bash", "run.sh"], str(tmp_path))
    assert told.config.framework == "torch" and "framework torch: heartbeat: torch;" in told.notes[0]


def test_modules_and_commands_of_installed_packages_say_their_framework(tmp_path: Path) -> None:
    tool = tmp_path / "trainer-cli"
    tool.write_text("#!/opt/python3\nimport sys\nfrom llamafactory.cli import main\n")
    tool.chmod(0o755)
    for command in (["-m", "llamafactory.launcher"], ["trainer-cli", "train"]):
        settled = choice.settle(JobConfig(), Provenance(), command, str(tmp_path), str(tmp_path))
        assert settled.config.framework == "torch" and "imports llamafactory" in settled.notes[0]
    assert choice.settle(JobConfig(program="squad.run_squad"), Provenance(), [], "/").doubt == ()


def test_more_files_than_a_start_can_wait_for_are_not_read(tmp_path: Path) -> None:
    for number in range(50):
        (tmp_path / f"m{number}.py").write_text(f"import m{number + 1}\n")
    (tmp_path / "m50.py").write_text("import torch\n")
    [doubt] = choice.settle(JobConfig(), Provenance(), ["m0.py"], str(tmp_path)).doubt
    assert "m0.py does not show which" in doubt
    assert choice.settle(JobConfig(), Provenance(), ["m30.py"], str(tmp_path)).config.framework == "torch"


def test_a_given_framework_counts_and_an_unknown_one_is_refused(tmp_path: Path) -> None:
    (tmp_path / "train.py").write_text("import torch\n")
    config = JobConfig(program="train.py", framework="none")
    assert choice.settle(config, Provenance(), [], str(tmp_path)) == (config, (), ())
    with pytest.raises(ConfigError, match=r"unknown framework 'pytorch' \(expected tensorflow, torch"):
        choice.settle(JobConfig(framework="pytorch"), Provenance(), [], str(tmp_path))


def test_ports_in_a_row_that_are_free() -> None:
    port = ports.free("a run", 3)
    assert ports.FIRST <= port and port + 2 <= ports.LAST and ports.free("a run", 3) == port
    with socket.socket() as holder:
        holder.bind(("127.0.0.1", port + 1))
        holder.listen()
        other = ports.free("a run", 3)
    assert other == port + 2
