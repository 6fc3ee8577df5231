"""Time one BERT configuration in this process; print a line of JSON. The other benchmarks start it.

python benchmarks/one_step.py train|infer|gemm [--layers 12] [--batch 4] [--seq 384] [--steps 5] [--amp]
    [--gradient_checkpointing]
"""

from __future__ import annotations

import time

STARTED = time.monotonic()  # before TensorFlow is imported

import argparse  # noqa: E402
import json  # noqa: E402
import os  # noqa: E402
import resource  # noqa: E402
import sys  # noqa: E402
from functools import partial  # noqa: E402
from pathlib import Path  # noqa: E402
from typing import Any, Callable  # noqa: E402

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

import numpy as np  # noqa: E402


def parser() -> argparse.ArgumentParser:
    """Make the parser of the options that all benchmarks of a step share."""
    made = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    made.add_argument("what", nargs="?", default="gemm", choices=("train", "infer", "gemm"))
    for name, value in (("layers", 12), ("hidden", 768), ("batch", 4), ("seq", 384), ("steps", 5)):
        made.add_argument("--" + name, type=int, default=value)
    made.add_argument("--init", default="", help="checkpoint; without one the weights are random")
    made.add_argument("--amp", action="store_true")
    made.add_argument("--gradient_checkpointing", action="store_true")
    return made


def flops(args: argparse.Namespace) -> float:
    """Count the multiplications and additions in a step's matrix products; backward is twice forward."""
    tokens, hidden = args.batch * args.seq, args.hidden
    weights = 12 * hidden * hidden  # four of hidden x hidden, two of hidden x 4 hidden
    forward = args.layers * (2 * tokens * weights + 4 * tokens * args.seq * hidden)
    return float(forward * (3 if args.what == "train" else 1))


def random_batch(args: argparse.Namespace) -> dict[str, Any]:
    """Make a full batch, without padding."""
    random, shape = np.random.RandomState(0), (args.batch, args.seq)
    ids = random.randint(0, 30522, shape).astype(np.int32)
    places = random.randint(0, args.seq, (2, args.batch, 1)).astype(np.int32)
    return {
        "input_ids": ids, "input_mask": np.ones(shape, np.int32), "segment_ids": ids % 2,
        "start_positions": places[0], "end_positions": places[1],
        "example_weights": np.ones((args.batch, 1), np.float32), "global_weight": np.float32(args.batch),
    }  # fmt: skip


def best(run: Callable[[], Any], count: int, warm: int = 2) -> float:
    """Measure the seconds of the fastest of `count` runs."""
    for _ in range(warm):
        run()
    times = []
    for _ in range(count):
        start = time.perf_counter()
        run()
        times.append(time.perf_counter() - start)
    return min(times)


def gemm(args: argparse.Namespace) -> dict[str, float]:
    """Measure the machine's own rate: the best of TensorFlow's and numpy's products of a layer's shape."""
    import tensorflow.compat.v1 as tf

    rows, hidden = args.batch * args.seq, args.hidden
    left, right = (np.random.rand(*s).astype(np.float32) for s in ((rows, hidden), (hidden, 4 * hidden)))
    seconds = [best(lambda: left @ right, 20)]
    with tf.Graph().as_default():
        variables = [tf.get_variable(n, initializer=v) for n, v in (("a", left), ("b", right))]
        product = tf.matmul(*variables).op
        threads = int(os.environ.get("OMP_NUM_THREADS", "2"))
        with tf.Session(config=tf.ConfigProto(intra_op_parallelism_threads=threads)) as session:
            session.run(tf.global_variables_initializer())
            seconds.append(best(lambda: session.run(product), 20))
    return {"gflops": 2.0 * rows * hidden * 4 * hidden / min(seconds) / 1e9}


def measure(args: argparse.Namespace) -> dict[str, float]:
    """Build the trainer's own graph and run some steps."""
    import tensorflow.compat.v1 as tf

    imported = time.monotonic()
    tf.disable_eager_execution()
    from bert import backend as backends
    from bert import step
    from bert.checkpoints import reader
    from bert.cluster import Cluster
    from bert.config import BertConfig
    from bert.model import Model, Operations, create_variables
    from bert.train_config import TrainConfig

    backend = backends.create(Cluster.from_environ(os.environ), "cpu", amp=args.amp)
    shape = BertConfig(30522, args.hidden, args.layers, args.hidden // 64, 4 * args.hidden, type_vocab_size=2)
    given = random_batch(args)
    reading = reader.Reading(args.init, slots=False)
    with tf.Graph().as_default():
        fetches: Any
        batch = {name: tf.placeholder_with_default(v, [None] * np.ndim(v)) for name, v in given.items()}
        if args.what == "train":
            settings = TrainConfig(1000, gradient_checkpointing=args.gradient_checkpointing)
            graph = step.build(shape, settings, batch, backend)
            variables, fetches = graph.saved, graph.fetches
        else:
            variables = create_variables(shape)
            fetches = Model(
                shape, variables, Operations(gelu=partial(backend.gelu, form="exact"))
            ).span_logits(batch)
        built = time.monotonic()
        with tf.Session(config=backend.session_config()) as session:
            reader.initialize(session, variables, reading)
            session.run(fetches)
            first = time.monotonic()
            backend.barrier()
            seconds = best(lambda: session.run(fetches), args.steps, 1)
    backend.close()
    return {
        "seconds": seconds, "examples_per_second": args.batch / seconds,
        "gflops": flops(args) / seconds / 1e9,
        "peak_gb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / 1e9,
        "import": imported - STARTED, "build": built - imported, "first_step": first - STARTED,
    }  # fmt: skip


def main() -> None:
    """Measure and print."""
    args = parser().parse_args()
    print(json.dumps(gemm(args) if args.what == "gemm" else measure(args)))


if __name__ == "__main__":
    main()
