"""Train a small model with DataParallel on gloo; environment and exact losses go to NAME-RANK.json."""

from __future__ import annotations

import json
import os
import signal
import sys

NAME, KILLED = sys.argv[1], int(sys.argv[2])
found = {"environ": dict(os.environ)}

import paddle  # noqa: E402  paddle sets variables of its own
import paddle.distributed as dist  # noqa: E402

dist.init_parallel_env()
rank = dist.get_rank()
total = paddle.full([1], rank + 1.0)
dist.all_reduce(total)
found.update(total=total.item(), losses=[])
paddle.seed(1)
model = paddle.DataParallel(paddle.nn.Linear(8, 1))
optimizer = paddle.optimizer.Momentum(0.05, parameters=model.parameters())
for step in range(3):
    if step == 2 and rank == KILLED:
        os.kill(os.getpid(), signal.SIGKILL)
    paddle.seed(100 * step + rank)
    inputs = paddle.randn([32, 8])
    loss = (model(inputs).squeeze(1) - inputs.sum(1).cos()).pow(2).mean()
    loss.backward()
    optimizer.step()
    optimizer.clear_grad()
    found["losses"].append(loss.item().hex())
with open(f"{NAME}-{rank}.json", "w") as stream:
    json.dump(found, stream)
