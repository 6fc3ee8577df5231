"""The place of a rank, and what a framework adds to the environment that is made from it."""

from __future__ import annotations

import os
from dataclasses import dataclass
from types import MappingProxyType
from typing import Iterator, Mapping, Tuple

VariableFinding = Tuple[str, str, str]  # level (launcher.hccl.variables), name, message
# What torchrun, MindCluster (whose RANK is the number of a pod) and older shells leave: none is a rank's own.
TORCH_NAMES = (
    "RANK", "WORLD_SIZE", "LOCAL_RANK", "LOCAL_WORLD_SIZE", "GROUP_RANK", "GROUP_WORLD_SIZE", "ROLE_RANK",
    "ROLE_WORLD_SIZE", "ROLE_NAME", "MASTER_ADDR", "MASTER_PORT",
)  # fmt: skip
TORCH_PREFIXES = ("TORCHELASTIC_", "TORCH_NPU_ELASTIC_", "PET_")


@dataclass(frozen=True)
class Meeting:
    """Where the ranks of a job find each other. All hosts have the same.

    address, port: of rank 0's host, the port free there when the run was planned. endpoints: address:port
    for each rank, free as well; empty where nothing asks for them.
    """

    address: str = "127.0.0.1"
    port: int = 0
    endpoints: tuple[str, ...] = ()


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
    host: int = 0  # number of its server in the rank table
    hosts: int = 1
    visible: tuple[int, ...] = ()  # its host's devices for ASCEND_RT_VISIBLE_DEVICES, by local rank
    meeting: Meeting = Meeting()
    max_restarts: int = 0
    table_free: bool = False  # the job says that the ranks find each other without a rank table
    address: str = ""  # of its host
    chief_address: str = ""  # of rank 0's host
    chief_device: int = 0  # logical, of rank 0

    @property
    def rank_dir(self) -> str:
        """The folder of this rank in the run folder."""
        return os.path.join(self.run_dir, "ranks", str(self.rank))


class Profile:
    """The needs of one framework's ranks. This base is that of a program that needs nothing more."""

    name = "none"
    meets = False  # at an address and ports that the launcher chooses
    uses_gloo = False  # which gets the network interface of its host, on several hosts
    meeting_ports: tuple[str, ...] = ()  # variables with that port, alone or after an address and a colon
    reads_table = True  # if there is one, and HCCL checks it then; else rank_table_free means nothing
    table_optional = False  # without one its ranks find each other just as well
    passes_over_links = ""  # what of it does not read a RANK_TABLE_FILE that is a symbolic link
    sorts_servers = False  # its rank ids follow the text order of the server_id
    numbers: tuple[str, ...] = ()  # variables that number its ranks; where they meet a job may well say
    lists_devices = False  # LOCAL_RANK is an index into its list of the devices of a host's ranks
    device_index = ""  # by what it chooses among the devices that a process sees
    job_may_index = False  # by another index of its own, as long as that leads to the same device
    defaults: Mapping[str, str] = MappingProxyType({})  # variables that the shell may set otherwise
    removed: tuple[str, ...] = ()  # variables of the shell that would mislead a rank
    removed_prefixes: tuple[str, ...] = ()

    def removes(self, name: str) -> bool:
        """Tell whether a variable of the shell would mislead its ranks."""
        return name in self.removed or name.startswith(self.removed_prefixes)

    def variables(self, context: RankContext) -> dict[str, str]:
        """Return the variables that the framework reads beside the common ones."""
        return {}

    def completed(self, env: dict[str, str], context: RankContext) -> dict[str, str]:
        """Return the whole environment of a rank without what the framework must not see in it."""
        return without_table(env) if context.table_free and context.backend == "npu" else env

    def scheduler(self, env: Mapping[str, str]) -> dict[str, str]:
        """Return what the one more process that the ranks need has of rank 0's environment; {}: none."""
        return {}

    def findings(self, env: Mapping[str, str], chip: str) -> Iterator[VariableFinding]:
        """Yield what the framework would refuse or misread in the final environment of a rank."""
        return iter(())


def without_table(env: Mapping[str, str], hidden: tuple[str, ...] = ("RANK_TABLE_FILE",)) -> dict[str, str]:
    """Move the rank table and the rank to names of npu-launch's own, and leave out the names that mislead.

    A program still learns its rank from the table (bert/cluster.py), HCCL and the framework do not see it.
    """
    kept = {name: value for name, value in env.items() if name not in hidden}
    return {**kept, "NPU_LAUNCH_RANK_TABLE": env["RANK_TABLE_FILE"], "NPU_LAUNCH_RANK": env["RANK_ID"]}
