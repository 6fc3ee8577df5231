"""Train with DistributedDataParallel on gloo; rank 2 meets a batch of another shape in its third step.

Its output beside torchrun's is in docs/frameworks.md.
"""

from __future__ import annotations

import torch
import torch.distributed as dist
from torch.nn.parallel import DistributedDataParallel


def main() -> None:
    torch.set_num_threads(1)
    dist.init_process_group("gloo")
    model = DistributedDataParallel(torch.nn.Linear(8, 1))
    optimizer = torch.optim.SGD(model.parameters(), lr=0.01)
    for step in range(5):
        width = 7 if (step, dist.get_rank()) == (2, 2) else 8
        optimizer.zero_grad()
        model(torch.randn(4, width)).square().mean().backward()
        optimizer.step()
    dist.destroy_process_group()


main()
