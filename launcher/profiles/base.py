"""The place of a rank, and what a framework adds to the environment that is made from it."""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import Iterator, Mapping, Tuple

VariableFinding = Tuple[str, str, str]  # level (launcher.hccl.variables), name, message


@dataclass(frozen=True)
class RankContext:
    """The numbers and folders from which the environment of one rank is made."""

    rank: int
    size: int
    local_rank: int
    local_size: int
    device_id: int  # physical: the N of /dev/davinciN
    ascend_device_id: int  # logical
    run_dir: str
    run_id: str
    backend: str
    threads: int
    launch_dir: str  # where the user typed the command

    @property
    def rank_dir(self) -> str:
        """The folder of this rank in the run folder."""
        return os.path.join(self.run_dir, "ranks", str(self.rank))


class Profile:
    """The needs of one framework's ranks. This base is that of a program that needs nothing more."""

    removed: tuple[str, ...] = ()  # variables of the shell that would mislead a rank
    removed_prefixes: tuple[str, ...] = ()

    def variables(self, context: RankContext) -> dict[str, str]:
        """Return the variables that the framework reads beside the common ones."""
        return {}

    def findings(self, env: Mapping[str, str], chip: str) -> Iterator[VariableFinding]:
        """Yield what the framework would refuse or misread in the final environment of a rank."""
        return iter(())
