"""The Plan: everything that a run will do, computed before any process exists."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Mapping


@dataclass(frozen=True)
class RankSpec:
    """Describe one process of the run, complete enough to exec it.

    `env` is the whole environment of the process, not a difference. `device_id` is physical
    (the N of /dev/davinciN, what the rank table holds), `ascend_device_id` is logical.
    """

    rank: int
    server_id: str
    device_id: int
    ascend_device_id: int
    local_rank: int
    argv: tuple[str, ...]
    env: Mapping[str, str]
    cwd: str
    cores: tuple[int, ...] = ()  # empty: not bound


@dataclass(frozen=True)
class Policy:
    """How a run is supervised. Times are seconds; sizes are bytes; 0 means "no limit"."""

    grace: float = 30.0
    hang_timeout: float = 0.0
    early_exit_grace: float = 60.0
    max_restarts: int = 0
    restart_on: tuple[str, ...] = ()
    log_max: int = 0
    show: tuple[int, ...] = ()  # empty: the lines of every rank reach the console
    quiet: bool = False
    stdin_rank: int = -1  # -1: every rank reads /dev/null
    gather: tuple[str, ...] = ()


@dataclass(frozen=True)
class Plan:
    """Hold a whole run: what is started where, with which rank table, under which policy."""

    job: str
    run_id: str
    run_dir: str
    host: str  # server_id of the host whose ranks this launcher starts
    backend: str
    rank_table_json: str
    ranks: tuple[RankSpec, ...]  # every rank of the run, all hosts, in rank order
    policy: Policy = field(default_factory=Policy)
    notes: tuple[str, ...] = ()  # decisions a person should see, one line each

    @property
    def world_size(self) -> int:
        return len(self.ranks)

    @property
    def local_ranks(self) -> tuple[RankSpec, ...]:
        """The ranks that this host's launcher starts."""
        return tuple(spec for spec in self.ranks if spec.server_id == self.host)
