"""Fine-tune, predict and evaluate BERT on SQuAD. npu-launch starts this program once per device.

Alone it is one process on one device: `python squad/run_squad.py --vocab_file=... --do_train ...`.
It learns its rank and its peers from the environment (bert/cluster.py) and nothing else.
"""

from __future__ import annotations

import os
import sys
from dataclasses import dataclass
from typing import List, Optional, Sequence

if __name__ == "__main__" and not __package__:
    # Started as a file, Python looks for modules in squad/ instead of beside it.
    sys.path[0] = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))


from bert import heartbeat
from bert.cluster import Cluster
from bert.config import BertConfig
from squad.check import check
from squad.examples import Example
from squad.features import Features
from squad.flags import SquadFlags, usage
from squad.tokenizer import Tokenizer


@dataclass(frozen=True)
class Dataset:
    """Hold the questions of a file and the rows made of them."""

    examples: List[Example]
    features: Features


@dataclass(frozen=True)
class Job:
    """Hold what every part of the program needs to know."""

    flags: SquadFlags
    cluster: Cluster
    tokenizer: Tokenizer

    @property
    def output_dir(self) -> str:
        """The folder that rank 0 writes and all ranks read."""
        return self.flags.output_dir or os.path.join(self.cluster.run_dir, "ranks", "0")

    def say(self, text: str) -> None:
        """Print a line once, on rank 0."""
        if self.cluster.rank == 0:
            print(text, flush=True)


def main(argv: Optional[Sequence[str]] = None) -> int:
    """Run the flags of a command line; return the exit code."""
    argv = sys.argv[1:] if argv is None else argv
    if "--help" in argv:
        print(usage())
        return 0
    flags, findings = check(argv, os.environ)
    for key, message in findings:
        print("run_squad: --%s: %s" % (key, message), file=sys.stderr)
    if findings:
        return 2
    return run(flags, Cluster.from_environ(os.environ))


def run(flags: SquadFlags, cluster: Cluster) -> int:
    """Do what the flags ask for. Data is made before the device is opened: HCCL's clock starts there."""
    job = Job(flags, cluster, Tokenizer(flags.vocab_file, flags.do_lower_case))
    heartbeat.beat("features")
    train_set = load(job, flags.train_file, training=True) if flags.do_train else None
    dev_set = load(job, flags.predict_file, training=False) if flags.do_predict else None
    from bert import backend as backends  # here, as TensorFlow comes with it

    model = BertConfig.from_file(flags.bert_config_file)
    backend = backends.create(cluster)
    try:
        checkpoint = flags.init_checkpoint
        if train_set is not None:
            checkpoint = train(job, model, train_set, backend)
        if dev_set is not None:
            predict(job, model, dev_set, checkpoint, backend)
    finally:
        backend.close()
    return 0
