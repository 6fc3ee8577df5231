"""The order of a head to its agents: everything from which each of them computes the plan of its own host.

It is the same for all, and sent once: an engine copies its standard input to every agent.
"""

from __future__ import annotations

import dataclasses
from dataclasses import asdict, dataclass, fields
from typing import Any, Mapping

from launcher.config.job import JobConfig, Provenance
from launcher.errors import ReadError
from launcher.plan.model import HostSpec
from launcher.profiles.base import Meeting


@dataclass(frozen=True)
class Order:
    """A job as every agent needs it.

    table: the rank table's text; "" when every host sees the head's disk and reads it in the run folder,
    where it has the given sha256. hosts: in the engine's order. shared: by host, whether it sees the disk.
    chief_device: the logical id of rank 0. environ: the head's variables that are carried to each host.
    lines: where the job's keys were written, for errors. lease: seconds. window: bytes of logs on the way.
    line: bytes of a line that the engine passes on. head: the host of the head, as uname names it. dry:
    nothing is to be made, as nothing will run.
    """

    config: JobConfig
    command: tuple[str, ...]
    run_id: str
    run_dir: str
    launch_dir: str
    backend: str
    table: str
    table_sha256: str
    hosts: tuple[HostSpec, ...]
    shared: tuple[bool, ...]
    chief_device: int
    environ: Mapping[str, str]
    lease: float
    window: int
    attempt: int = 0
    line: int = 1000
    head: str = ""
    dry: bool = False
    meeting: Meeting = Meeting()
    file: str = ""
    lines: Mapping[str, int] = dataclasses.field(default_factory=dict)

    @property
    def source(self) -> Provenance:
        """Where the job was written."""
        return Provenance(self.file, dict(self.lines))

    def to_json(self) -> dict[str, Any]:
        """Return a JSON value that `from_json` reads. The job's secrets are in it."""
        return asdict(self)

    @classmethod
    def from_json(cls, value: Any) -> Order:
        """Read what `to_json` returned. ReadError: it is something else."""
        try:
            known = {item.name: value[item.name] for item in fields(cls)}
            known["config"] = JobConfig(**known["config"])
            known["meeting"] = Meeting(
                **dict(known["meeting"], endpoints=tuple(known["meeting"]["endpoints"]))
            )
            known["hosts"] = tuple(HostSpec(**host) for host in known["hosts"])
            known.update((name, tuple(known[name])) for name in ("command", "shared"))
            return cls(**known)
        except (TypeError, KeyError, AttributeError) as error:
            problem = f"{type(error).__name__}: {error}"
            raise ReadError(f"the head's order: {problem:.200} (expected one of this release)") from None
