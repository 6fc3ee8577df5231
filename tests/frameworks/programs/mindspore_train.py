"""Train a linear model on 2 workers; worker 1 dies in the first attempt, the scheduler in the second."""

from __future__ import annotations

import json
import os
import signal
import time
from pathlib import Path

import mindspore as ms
import numpy as np
from mindspore import Tensor, nn, ops
from mindspore.communication import get_group_size, get_rank, init

STEPS = 6
RUN = Path(os.environ["NPU_LAUNCH_RUN_DIR"])
SAVED = RUN / "checkpoints" / "model.ckpt"


def scheduler() -> int:
    """Find the pid of this attempt's scheduler, whose rank is -1."""
    lines = map(json.loads, (RUN / "events.jsonl").read_text().splitlines())
    return [line["data"]["pid"] for line in lines if line["event"] == "started" and line["rank"] == -1][-1]


def misfortune(attempt: str, step: int, rank: int) -> None:
    """Kill what this attempt is to lose, in its third step."""
    if attempt == "0" and step == 2 and rank == 1:
        os.kill(os.getpid(), signal.SIGKILL)
    if attempt == "1" and step == 4 and rank == 0:
        os.kill(scheduler(), signal.SIGKILL)
        time.sleep(60)  # or both workers may have ended before the launcher looks


def main() -> None:
    """Train from the last checkpoint on."""
    ms.set_context(mode=ms.PYNATIVE_MODE, device_target="CPU")
    init()
    rank, size = get_rank(), get_group_size()
    ms.set_seed(0)
    model = nn.Dense(4, 1)
    begin = 0
    if SAVED.exists():
        saved = ms.load_checkpoint(str(SAVED), model)
        begin = int(saved["step"])
    print(f"worker {rank} of {size} begins at step {begin}", flush=True)
    optimizer = nn.SGD(model.trainable_params(), 0.05)
    forward = ms.value_and_grad(lambda x: ops.square(model(x)).mean(), None, optimizer.parameters)
    reduce = ops.AllReduce()
    for step in range(begin, STEPS):
        misfortune(os.environ["NPU_LAUNCH_ATTEMPT"], step, rank)
        loss, gradients = forward(Tensor(np.full((2, 4), rank + 1.0 + step, np.float32)))
        optimizer(tuple(reduce(gradient) / size for gradient in gradients))
        print(f"step {step} loss {float(loss.asnumpy()):.6f}", flush=True)
        if rank == 0:
            ms.save_checkpoint(model, str(SAVED), append_dict={"step": step + 1})
    weights = [round(float(value), 6) for value in model.weight.asnumpy().ravel()]
    print(f"weights {json.dumps(weights)}", flush=True)


main()
