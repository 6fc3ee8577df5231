"""The Plan: everything that a run will do, computed before any process exists."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Callable, Mapping


@dataclass(frozen=True)
class RankSpec:
    """One process of the run, complete enough to exec it.

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
class HostSpec:
    """A host of a run on several: its number and name in the engine, its server_id, its address.

    Ranks of other hosts reach it at the address; the server_id is but a name in the rank table.
    """

    index: int
    name: str
    server_id: str
    address: str


@dataclass(frozen=True)
class Policy:
    """The rules by which a run is supervised. Times are seconds, sizes are bytes; 0 means "no limit"."""

    grace: float = 30.0
    hang_timeout: float = 0.0
    early_exit_grace: float = 60.0
    max_restarts: int = 0
    restart_on: tuple[str, ...] = ()
    max_log_bytes: int = 0
    show_ranks: tuple[int, ...] = ()  # empty: the lines of every rank are printed
    quiet: bool = False
    stdin_rank: int = -1  # -1: every rank reads /dev/null
    gather: tuple[str, ...] = ()
    on_event: tuple[str, ...] = ()  # command for each event, its program found
    on_event_only: tuple[str, ...] = ()  # empty: all events
    alert_loss: float = 1.5
    alert_throughput: float = 0.5
    fail_on_alert: tuple[str, ...] = ()


@dataclass(frozen=True)
class Plan:
    """A whole run: what is started where, with which rank table, under which policy."""

    job: str
    run_id: str
    run_dir: str
    host: str  # server_id of the host whose ranks this launcher starts
    backend: str
    rank_table_json: str
    ranks: tuple[RankSpec, ...]  # in rank order: of all hosts; in an agent's plan, of its own
    policy: Policy = field(default_factory=Policy)
    notes: tuple[str, ...] = ()  # decisions a person should see, one line each
    hosts: tuple[HostSpec, ...] = ()  # in the engine's order; none for a run on this host alone
    scheduler: RankSpec | None = None  # its rank is text.SCHEDULER, its ids -1; beside rank 0, on its host

    @property
    def world_size(self) -> int:
        return len(self.ranks)

    @property
    def local_ranks(self) -> tuple[RankSpec, ...]:
        """The ranks that this host's launcher starts."""
        return tuple(spec for spec in self.ranks if spec.server_id == self.host)

    @property
    def processes(self) -> tuple[RankSpec, ...]:
        """All that the run starts: its ranks, and the scheduler if it has one."""
        return (*self.ranks, *((self.scheduler,) if self.scheduler else ()))

    @property
    def local_processes(self) -> tuple[RankSpec, ...]:
        """What this host's launcher starts: its ranks, and the scheduler where that is here."""
        return tuple(spec for spec in self.processes if spec.server_id == self.host)

    def each(self, change: Callable[[RankSpec], RankSpec]) -> Plan:
        """Return a plan in which every rank, and the scheduler, is changed."""
        scheduler = change(self.scheduler) if self.scheduler else None
        return replace(self, ranks=tuple(map(change, self.ranks)), scheduler=scheduler)

    def to_json(self, *, masked: bool = False) -> str:
        """Write the plan as one JSON document; `from_json` reads an equal plan from it.

        Unless `masked`, the environment of every rank is in it as it stands, secrets too.
        """
        from launcher.plan import document

        return document.write(self, masked)

    @classmethod
    def from_json(cls, text: str) -> Plan:
        """Read what `to_json` wrote, or a release before it.

        Raises:
            ReadError: the document has another version, or is not exactly a plan.
        """
        from launcher.plan import document

        return document.read(text)
