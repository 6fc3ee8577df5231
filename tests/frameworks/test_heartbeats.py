"""Steps that are told for programs of PyTorch, MindSpore and PaddlePaddle, which tell none themselves."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any, Callable

import pytest

from tests.frameworks.needs import needs
from tests.launching import ROOT
from tests.ports import free_ports

# The phase: an import may take longer than hang_timeout.
TORCH = """
import time
from launcher.worker import phase
phase("load")
import torch
import torch.distributed as dist
from torch.nn.parallel import DistributedDataParallel
from torch.utils.data import DataLoader, TensorDataset

def stops():
    time.sleep(1000)

def main():
    dist.init_process_group("gloo")
    model = DistributedDataParallel(torch.nn.Linear(4, 1))
    optimizer = torch.optim.AdamW(model.parameters())
    loader = DataLoader(TensorDataset(torch.randn(400, 4)), batch_size=4, num_workers=1)
    for number, (rows,) in enumerate(loader, 1):
        if (number, dist.get_rank()) == (5, 1):
            stops()
        model(rows).sum().backward()
        optimizer.step()

main()
"""
# Two groups of parameters, for which ZeRO calls torch's optimizer one after the other, and 2 batches a step.
# The operator for shared memory is not built: that takes minutes.
DEEPSPEED = """
import deepspeed, torch
deepspeed.ops.__compatible_ops__["shm_comm"] = deepspeed.ops.__compatible_ops__["deepspeed_shm_comm"] = False
net = torch.nn.Sequential(torch.nn.Linear(8, 8), torch.nn.Linear(8, 1))
groups = [{"params": net[0].parameters(), "weight_decay": 0.0}, {"params": net[1].parameters()}]
config = {
    "train_micro_batch_size_per_gpu": 4, "gradient_accumulation_steps": 2,
    "zero_optimization": {"stage": 2}, "zero_allow_untested_optimizer": True,
}
optimizer = torch.optim.AdamW(groups, lr=1e-3)
engine = deepspeed.initialize(model=net, optimizer=optimizer, config=config)[0]
for _ in range(6):
    engine.backward(engine(torch.randn(4, 8)).square().mean())
    engine.step()
assert engine.global_steps == 3
"""
# A data set that MindSpore makes itself, as the Python ones of 2.10 do not run with NumPy 2.
MINDSPORE = """
import mindspore as ms
from mindspore import dataset, nn
from mindspore.train import Model
ms.set_context(mode=ms.PYNATIVE_MODE, device_target="CPU")
schema = dataset.Schema()
schema.add_column("x", de_type=ms.uint8, shape=[10])
schema.add_column("y", de_type=ms.uint8, shape=[5])
rows = dataset.RandomDataset(64, schema)
for name in ("x", "y"):
    rows = rows.map(dataset.transforms.TypeCast(ms.float32), name)
rows = rows.batch(16)
net = nn.Dense(10, 5)
model = Model(net, nn.MSELoss(), nn.Momentum(net.trainable_params(), 1e-7, 0.9), metrics={"loss"})
model.train(2, rows)
show()
model.train(1, rows, callbacks=ms.train.TimeMonitor())
model.eval(rows)
show()
"""
PADDLE = """
import paddle
net = paddle.nn.Linear(4, 2)
optimizer = paddle.optimizer.AdamW(parameters=net.parameters())
for _ in range(4):
    net(paddle.randn([3, 4])).sum().backward()
    optimizer.step()
    optimizer.clear_grad()
loss = net(paddle.randn([3, 4])).sum()
loss.backward()
optimizer.minimize(loss)
"""
SHOW = """
def show():
    print("beat", open("heartbeat.json").read(), flush=True)
"""


def run(folder: Path, framework: str, program: str) -> list[dict[str, Any]]:
    """Run a program in one rank; give the heartbeats that it has shown, and the last."""
    (folder / "train.py").write_text(SHOW + program)
    told = {"NPU_LAUNCH_HEARTBEAT": framework, "NPU_LAUNCH_RANK_DIR": str(folder), "GLOG_v": "3"}
    line = [sys.executable, str(ROOT / "launcher" / "worker.py"), "train.py"]
    done = subprocess.run(
        line, cwd=str(folder), env={**os.environ, **told}, capture_output=True, text=True, timeout=120
    )
    assert done.returncode == 0, done.stderr
    shown = [line[5:] for line in done.stdout.splitlines() if line.startswith("beat ")]
    return [json.loads(text) for text in (*shown, (folder / "heartbeat.json").read_text())]


class TestTorch:
    pytestmark = needs("torch")

    def test_a_rank_that_stops_stepping_is_named(self, tmp_path: Path, run_job: Callable[..., Any]) -> None:
        (tmp_path / "train.py").write_text(TORCH)
        words = ("--devices", "0-1", "heartbeat=torch", "hang_timeout=6", "grace=3", "--", "train.py")
        done = run_job(*words, code=124)
        result = json.loads((done.run_dir / "result.json").read_text())
        end = result["ends"][1]
        assert (result["culprit"], end["state"]) == (1, "hung") and 1 <= end["step"] <= 4
        assert f"the last in step {end['step']} (train)" in end["detail"]
        assert "; 1 in stops (" in done.stdout + done.stderr


class TestDeepSpeed:
    pytestmark = needs("torch", "deepspeed")

    def test_the_engine_s_steps_are_told_and_not_those_for_each_group(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        told = {"DS_ACCELERATOR": "cpu", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(free_ports(1))}
        for name, value in {**told, "RANK": "0", "LOCAL_RANK": "0", "WORLD_SIZE": "1"}.items():
            monkeypatch.setenv(name, value)
        (last,) = run(tmp_path, "torch", DEEPSPEED)
        assert last["step"] == 3


class TestMindSpore:
    pytestmark = needs("mindspore")

    def test_every_training_of_a_model_tells_its_steps_and_its_end(self, tmp_path: Path) -> None:
        first, evaluated, last = run(tmp_path, "mindspore", MINDSPORE)
        assert (first["phase"], first["train_step"], first["total_steps"]) == ("trained", 8, 8)
        assert (first["steps"], first["examples"]) == (7, 112)
        assert (evaluated["phase"], evaluated["train_step"], evaluated["examples"]) == ("evaluate", 12, 160)
        assert last == evaluated


class TestPaddle:
    pytestmark = needs("paddle")

    def test_the_steps_of_an_optimizer_are_told(self, tmp_path: Path) -> None:
        (last,) = run(tmp_path, "paddle", PADDLE)
        assert (last["phase"], last["step"], last["steps"]) == ("train", 5, 4)
