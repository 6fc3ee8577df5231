"""What it costs a training with PyTorch that its steps are told for it (launcher/beats.py).

    .venv-frameworks/bin/python benchmarks/heartbeat.py [PAIRS]

One rank on one thread trains, and after each block of steps the hooks are taken off or put back, so that what
else the machine does meets both alike. Medians over the blocks: a step that does nearly nothing, and one of
some milliseconds; each reads its rows from a DataLoader.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from statistics import median
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
SIZES = {"small": (4, 500), "large": (1024, 20)}  # width of the model, steps of a block


def main() -> None:
    """Start the program below as a rank; without torch say what to do."""
    if find_spec("torch") is None:
        print("left out: no torch here; use .venv-frameworks/bin/python (`make test-frameworks` makes it)")
        return
    with tempfile.TemporaryDirectory() as folder:
        environ = {
            **os.environ,
            "NPU_LAUNCH_RANK_DIR": folder, "NPU_LAUNCH_HEARTBEAT": "torch", "OMP_NUM_THREADS": "1",
        }  # fmt: skip
        line = [sys.executable, str(ROOT / "launcher" / "worker.py"), __file__, *sys.argv[1:2]]
        subprocess.run(line, env=environ, check=True)


def measure(pairs: int) -> None:
    """Train with and without the hooks by turns; print a line for each size."""
    for name, (width, steps) in SIZES.items():
        block(width, steps)  # the first one prepares
        found: dict[bool, list[tuple[float, float]]] = {False: [], True: []}
        for _ in range(pairs):
            for there in (False, True):
                with_hooks(there)
                found[there].append(block(width, steps))
        (without, cpu), (told, more) = (map(median, zip(*found[there])) for there in (False, True))
        print(
            f"{name}: {1 / without:.0f} steps/s without, {1 / told:.0f} with: {without / told:.3f} x; "
            f"CPU time of a step {1e6 * cpu:.0f} and {1e6 * more:.0f} microseconds: {1e6 * (more - cpu):+.1f}"
        )


def block(width: int, steps: int) -> tuple[float, float]:
    """Train some steps; return the seconds of one, and those of the CPU."""
    torch, data = import_module("torch"), import_module("torch.utils.data")
    model = torch.nn.Sequential(torch.nn.Linear(width, width), torch.nn.ReLU(), torch.nn.Linear(width, 1))
    optimizer = torch.optim.SGD(model.parameters(), lr=1e-4)
    rows = data.DataLoader(data.TensorDataset(torch.randn(steps * 4, width)), batch_size=4)
    begin, cpu = time.perf_counter(), time.process_time()
    for (batch,) in rows:
        optimizer.zero_grad()
        model(batch).sum().backward()
        optimizer.step()
    return (time.perf_counter() - begin) / steps, (time.process_time() - cpu) / steps


_hooks: dict[str, Any] = {}


def with_hooks(there: bool) -> None:
    """Take the hooks off, or put them back."""
    optimizer: Any = import_module("torch.optim.optimizer")
    reader: Any = import_module("torch.utils.data.dataloader")._BaseDataLoaderIter
    if not _hooks:
        _hooks.update(pre=dict(optimizer._global_optimizer_pre_hooks), next=reader.__next__)
        _hooks["post"] = dict(optimizer._global_optimizer_post_hooks)
    for kept, now in (
        (_hooks["pre"], optimizer._global_optimizer_pre_hooks),
        (_hooks["post"], optimizer._global_optimizer_post_hooks),
    ):
        now.clear()
        now.update(kept if there else {})
    read = _hooks["next"]
    reader.__next__ = read if there else read.__wrapped__


if __name__ == "__main__":
    if os.environ.get("NPU_LAUNCH_HEARTBEAT"):
        measure(int(sys.argv[1]) if len(sys.argv) > 1 else 20)
    else:
        main()
