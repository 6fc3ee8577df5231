"""Tiny training runs, in this process or in processes of their own that can be killed."""

from __future__ import annotations

import json
import os
import signal
import time
import uuid
from pathlib import Path
from typing import Any, Dict, Iterator, Sequence

import numpy as np

from bert import backend as backends
from bert import trainer
from bert.cluster import Cluster
from bert.config import BertConfig
from bert.train_config import TrainConfig
from tests.forked import context

MODEL = BertConfig(
    vocab_size=40, hidden_size=16, num_hidden_layers=1, num_attention_heads=2, intermediate_size=24,
    max_position_embeddings=16, type_vocab_size=2,
)  # fmt: skip
ROWS, COLUMNS = 8, 12
Batch = Dict[str, np.ndarray]


def settings(**changes: Any) -> TrainConfig:
    """Give the settings of a short run without dropout that shows every step."""
    values = {"num_train_steps": 6, "learning_rate": 1e-2, "num_warmup_steps": 2, "display_loss_steps": 1}
    return TrainConfig(
        **{**values, "dropout": False, "rows_per_step": ROWS, "steps_per_epoch": 10, **changes}
    )


def step_batches(
    start: int, rank: int = 0, size: int = 1, accumulate: int = 1, rows: int = ROWS
) -> Iterator[Batch]:
    """Yield a rank's batches: the rows of a step depend on nothing but its number."""
    step = start
    while True:
        random = np.random.RandomState(step)
        ids = random.randint(0, MODEL.vocab_size, (rows, COLUMNS)).astype(np.int32)
        places = random.randint(0, COLUMNS, (2, rows, 1)).astype(np.int32)
        lengths = random.randint(COLUMNS // 2, COLUMNS + 1, (rows, 1))
        mask = (np.arange(COLUMNS) < lengths).astype(np.int32)
        parts = np.split(np.arange(rows), size * accumulate)
        for mine in parts[rank * accumulate : (rank + 1) * accumulate]:
            yield {
                "input_ids": ids[mine], "input_mask": mask[mine], "segment_ids": (ids % 2)[mine],
                "start_positions": places[0, mine], "end_positions": places[1, mine],
                "example_weights": np.ones((len(mine), 1), np.float32), "global_weight": np.float32(rows),
            }  # fmt: skip
        step += 1


def train(folder: Path, config: TrainConfig, **options: Any) -> trainer.TrainResult:
    """Train in this process on one rank; metrics go to FOLDER."""
    return _train(str(folder), config, Cluster(), options)


def _train(
    folder: str, config: TrainConfig, cluster: Cluster, options: dict[str, Any]
) -> trainer.TrainResult:
    rank_dir = os.path.join(folder, f"rank{cluster.rank}")
    os.makedirs(rank_dir, exist_ok=True)
    backend = backends.create(cluster, "cpu", collective=options.get("collective", "auto"))
    backend.steps_per_call = options.get("steps_per_call", 1)

    def batches(start: int) -> Iterator[Batch]:
        for batch in step_batches(start, cluster.rank, cluster.size, config.num_accumulation_steps, ROWS):
            batch["global_weight"] /= np.float32(
                options.get("magnify", 1.0)
            )  # losses that many times as large
            yield batch

    given = {name: options[name] for name in ("init_checkpoint", "origin", "evaluation") if name in options}
    try:
        return trainer.train(
            options.get("model", MODEL), config, options.get("batches", batches), backend,
            _output(folder, cluster), rank_dir=rank_dir, **given,
        )  # fmt: skip
    finally:
        backend.close()


def _output(folder: str, cluster: Cluster) -> str:
    """Name the output folder; hosts called a, b ... have a disk each, and so a folder of their own."""
    own = cluster.servers[cluster.rank]
    return os.path.join(folder, "out" if own == "localhost" else f"out-{own}")


def records(folder: Path, rank: int = 0) -> dict[int, dict[str, Any]]:
    """Read what a run said of each step; of a step that was made again, the last."""
    path = folder / (f"rank{rank}") / "metrics.jsonl"
    lines = path.read_text().splitlines() if path.exists() else []
    parsed = [json.loads(line) for line in lines if line.endswith("}")]
    return {record["step"]: record for record in parsed}


def losses(folder: Path, rank: int = 0) -> list[float]:
    """Give the losses in the steps' order."""
    return [record["loss"] for _, record in sorted(records(folder, rank).items())]


class Job:
    """Run the ranks of a training as processes; their output is in FOLDER/rankN.log."""

    def __init__(self, folder: Path, config: TrainConfig, ranks: int = 1, **options: Any) -> None:
        self.folder = folder
        folder.mkdir(exist_ok=True)
        run = uuid.uuid4().hex
        made = context()
        servers, addresses = options.get("servers", ("localhost",) * ranks), ("127.0.0.1",) * ranks
        clusters = [
            Cluster(rank=rank, size=ranks, run_id=run, servers=servers, addresses=addresses)
            for rank in range(ranks)
        ]
        self.processes = [
            made.Process(target=_rank, args=(str(folder), config, cluster, options), daemon=True)
            for cluster in clusters
        ]
        for process in self.processes:
            process.start()

    def wait(self, timeout: float = 120.0) -> list[int]:
        """Give the exit codes; a rank that does not end in time is killed."""
        end = time.monotonic() + timeout
        for process in self.processes:
            process.join(max(0.0, end - time.monotonic()))
        self.kill()
        return [int(process.exitcode) for process in self.processes]

    def kill(self, ranks: Sequence[int] = ()) -> None:
        """Send SIGKILL."""
        for process in [self.processes[rank] for rank in ranks] or self.processes:
            if process.is_alive() and process.pid:
                os.kill(process.pid, signal.SIGKILL)
        for process in [self.processes[rank] for rank in ranks] or self.processes:
            process.join()

    def until(self, step: int, timeout: float = 60.0) -> None:
        """Wait until the run has made a step, or is over."""
        end = time.monotonic() + timeout
        while max(records(self.folder), default=0) < step and time.monotonic() < end:
            if not any(process.is_alive() for process in self.processes):
                return
            time.sleep(0.001)

    def output(self, rank: int = 0) -> str:
        """Give what a rank has written."""
        return (self.folder / (f"rank{rank}.log")).read_text(errors="replace")


def _rank(folder: str, config: TrainConfig, cluster: Cluster, options: dict[str, Any]) -> None:
    log = os.open(
        os.path.join(folder, f"rank{cluster.rank}.log"), os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600
    )
    os.dup2(log, 1)
    os.dup2(log, 2)
    os.environ["OMP_NUM_THREADS"] = "1"
    os.environ["NPU_LAUNCH_GRPC_PORT"] = str(options.get("first_port", 0))
    if "die_at_replace" in options:
        _die_at(options["die_at_replace"])
    if "sabotage" in options:
        options["sabotage"](cluster.rank)
    _train(folder, config, cluster, options)


def _die_at(call: int) -> None:
    """Let the call-th moving of a file be the last thing that this process does, or does not do any more."""
    from bert.checkpoints import store

    replace, count = os.replace, [0]

    def dying(source: str, target: str) -> None:
        count[0] += 1
        if count[0] == call:
            os.kill(os.getpid(), signal.SIGKILL)
        replace(source, target)

    store.os = _Os(dying)  # type: ignore[assignment]


class _Os:
    """Be the module os but for replace."""

    def __init__(self, replace: Any) -> None:
        self.replace = replace

    def __getattr__(self, name: str) -> Any:
        return getattr(os, name)
