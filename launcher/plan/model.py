"""The Plan: everything that a run will do, computed before any process exists."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import Mapping

from launcher import typed_json
from launcher.errors import ReadError
from launcher.masking import mask

VERSION = 1  # of the JSON document; another shape of it gets another number


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


@dataclass(frozen=True)
class Plan:
    """A whole run: what is started where, with which rank table, under which policy."""

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

    def to_json(self, *, masked: bool = False) -> str:
        """Write the plan as one JSON document; `from_json` reads an equal plan from it.

        Unless `masked`, the environment of every rank is in it as it stands, secrets too.
        """
        ranks = [{**vars(spec), "env": dict(spec.env)} for spec in self.ranks]
        document = {"version": VERSION, **vars(self), "ranks": ranks, "policy": vars(self.policy)}
        return json.dumps(mask(document) if masked else document, indent=2, allow_nan=False)

    @classmethod
    def from_json(cls, text: str) -> Plan:
        """Read what `to_json` wrote.

        Raises:
            ReadError: the document has another version, or is not exactly a plan.
        """
        document = typed_json.parse(text, "plan.json")
        _check_version(document)
        del document.value["version"]
        at = document.fields(cls)
        return cls(
            job=at["job"].text(),
            run_id=at["run_id"].text(),
            run_dir=at["run_dir"].text(),
            host=at["host"].text(),
            backend=at["backend"].text(),
            rank_table_json=at["rank_table_json"].text(),
            ranks=tuple(_rank(item, number) for number, item in enumerate(at["ranks"].items())),
            policy=_policy(at["policy"]),
            notes=at["notes"].texts(),
        )


def _check_version(document: typed_json.Value) -> None:
    version = document.members().get("version")
    if version is None:
        raise ReadError(f"plan.json: no version (expected {VERSION}); not a plan, or an older release's")
    if version.whole() != VERSION:
        advice = "use the npu-launch that wrote it"
        raise ReadError(f"plan.json: version {version.value} (expected {VERSION}); {advice}")


def _rank(value: typed_json.Value, number: int) -> RankSpec:
    at = value.fields(RankSpec)
    rank = at["rank"].whole()
    if rank != number:
        at["rank"].refuse(f"rank {rank}", f"rank {number}, as ranks are listed in order")
    return RankSpec(
        rank=rank,
        server_id=at["server_id"].text(),
        device_id=at["device_id"].whole(),
        ascend_device_id=at["ascend_device_id"].whole(),
        local_rank=at["local_rank"].whole(),
        argv=at["argv"].texts(),
        env={name: item.text() for name, item in at["env"].members().items()},
        cwd=at["cwd"].text(),
        cores=at["cores"].wholes(),
    )


def _policy(value: typed_json.Value) -> Policy:
    at = value.fields(Policy)
    return Policy(
        grace=at["grace"].number(),
        hang_timeout=at["hang_timeout"].number(),
        early_exit_grace=at["early_exit_grace"].number(),
        max_restarts=at["max_restarts"].whole(),
        restart_on=at["restart_on"].texts(),
        max_log_bytes=at["max_log_bytes"].whole(),
        show_ranks=at["show_ranks"].wholes(),
        quiet=at["quiet"].flag(),
        stdin_rank=at["stdin_rank"].whole(),
        gather=at["gather"].texts(),
    )
