"""Ranks of torch with gloo, of which rank 1 stops after some steps: it does what the command line says."""

from __future__ import annotations

import datetime
import os
import signal
import sys
import time

import torch
import torch.distributed as dist
from torch.distributed.elastic.multiprocessing.errors import record


def fail(how: str) -> None:
    if how == "raise":
        raise ValueError("sample 17 has no label")
    if how == "leave":
        os._exit(0)
    if how == "killed":
        os.kill(os.getpid(), signal.SIGKILL)
    if how == "memory":
        raise torch.OutOfMemoryError("NPU out of memory. Tried to allocate 2.00 GiB (NPU 0; 60.97 GiB total)")
    if how == "hang":
        time.sleep(60)


@record
def main(how: str) -> None:
    dist.init_process_group("gloo")
    loss = torch.ones(4)
    dist.all_reduce(loss)  # from here on the ranks are at one place, however long each took to import torch
    group = dist.new_group(timeout=datetime.timedelta(seconds=3 if how == "hang" else 60))
    for step in range(4):
        if step == 2 and dist.get_rank() == 1:
            fail(how)
        dist.all_reduce(loss, group=group)


if __name__ == "__main__":
    main(sys.argv[1])
