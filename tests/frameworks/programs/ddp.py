"""Train a small model with DistributedDataParallel on gloo, and go on from its checkpoint.

The last line of rank 0's output has every loss, exactly.
"""

from __future__ import annotations

import argparse
import os
import signal

import torch
import torch.distributed as dist
from torch.nn.parallel import DistributedDataParallel

CHECKPOINT = "checkpoint.pt"


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--lr", type=float, default=0.1)
    parser.add_argument("--steps", type=int, default=8)
    parser.add_argument("--kill", type=int, default=-1, help="this rank gets SIGKILL once, in the middle")
    args = parser.parse_args()
    torch.set_num_threads(1)
    dist.init_process_group("gloo")
    torch.manual_seed(1)
    # One parameter: DDP packs several otherwise after its first step, which changes the order of its sums.
    model = DistributedDataParallel(torch.nn.Linear(8, 1, bias=False))
    optimizer = torch.optim.SGD(model.parameters(), lr=args.lr, momentum=0.9)
    losses: list[str] = []
    if os.path.exists(CHECKPOINT):
        saved = torch.load(CHECKPOINT)
        model.load_state_dict(saved["model"])
        optimizer.load_state_dict(saved["optimizer"])
        losses = saved["losses"]
    for step in range(len(losses), args.steps):
        first = os.environ["TORCHELASTIC_RESTART_COUNT"] == "0"
        if first and step == args.steps // 2 and dist.get_rank() == args.kill:
            os.kill(os.getpid(), signal.SIGKILL)
        torch.manual_seed(100 * step + dist.get_rank())
        inputs = torch.randn(32, 8)
        loss = (model(inputs).squeeze(1) - inputs.sum(1).cos()).pow(2).mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        total = loss.detach().clone()
        dist.all_reduce(total)
        losses.append(total.item().hex())
        save(model, optimizer, losses)
    if dist.get_rank() == 0:
        print("losses", *losses)
    dist.destroy_process_group()


def save(model: torch.nn.Module, optimizer: torch.optim.Optimizer, losses: list[str]) -> None:
    """Write a checkpoint that is whole whenever it is there; all ranks wait for it."""
    if dist.get_rank() == 0:
        state = {"model": model.state_dict(), "optimizer": optimizer.state_dict(), "losses": losses}
        torch.save(state, CHECKPOINT + ".tmp")
        os.replace(CHECKPOINT + ".tmp", CHECKPOINT)
    dist.barrier()


main()
