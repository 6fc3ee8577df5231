"""Train a small BERT on this rank and print what came of it as JSON; argv[1] holds the settings.

settings: fields of TrainConfig; iterations_per_loop; stop: a rank that gets SIGTERM before its first call.
"""

from __future__ import annotations

import json
import os
import signal
import sys
import time
from typing import Any

from bert import backend as backends
from bert import trainer
from bert.backend.npu_options import NpuOptions
from bert.cluster import Cluster
from bert.errors import TrainerError
from tests.bert.runs import MODEL, settings, step_batches


def stop_first() -> None:
    """Let this rank get SIGTERM when all is ready, just before its first call."""
    run = trainer._Loop.run

    def told(loop: Any) -> Any:
        os.kill(os.getpid(), signal.SIGTERM)
        while not loop._stop.requested:
            time.sleep(0.01)
        return run(loop)

    trainer._Loop.run = told


def main() -> None:
    given = json.loads(sys.argv[1])
    loop, stop = given.pop("iterations_per_loop", 1), given.pop("stop", None)
    backend = backends.create(Cluster.from_environ(os.environ), "npu", NpuOptions(iterations_per_loop=loop))
    rank, size = backend.rank, backend.size
    if stop == rank:
        stop_first()
    folder = os.path.join(os.environ["NPU_LAUNCH_RUN_DIR"], "out")
    try:
        done = trainer.train(
            MODEL, settings(**given), lambda start: step_batches(start, rank, size), backend, folder,
            rank_dir=os.environ["NPU_LAUNCH_RANK_DIR"],
        )  # fmt: skip
        answers = {"step": done.step, "loss": done.loss}
    except TrainerError as error:
        answers = {"error": f"{type(error).__name__}: {error}"}
    finally:
        backend.close()
    print(json.dumps(answers))


if __name__ == "__main__":
    main()
