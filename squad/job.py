"""What every part of the program uses: the flags, the rank's place, the questions."""

from __future__ import annotations

import os
import sys
from dataclasses import dataclass

from bert.cluster import Cluster
from squad.data.examples import Example
from squad.data.features import Features
from squad.data.tokenizer import Tokenizer
from squad.flags import SquadFlags


@dataclass(frozen=True)
class Dataset:
    """The rows made from a file's questions, and the questions themselves if they were read."""

    features: Features
    examples: list[Example]  # empty if the rows come from a record cache


@dataclass(frozen=True)
class Job:
    """The settings of one rank."""

    flags: SquadFlags
    cluster: Cluster
    tokenizer: Tokenizer
    quiet: bool = False  # its lines go to stderr, as stdout is for a result

    @property
    def output_dir(self) -> str:
        """The folder that rank 0 writes to and all ranks read from."""
        return self.flags.output_dir or os.path.join(self.cluster.run_dir, "ranks", "0")

    def say(self, text: str) -> None:
        """Print a line once, on rank 0."""
        if self.cluster.rank == 0:
            print(text, flush=True, file=sys.stderr if self.quiet else sys.stdout)
