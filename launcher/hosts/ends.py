"""The ends of ranks of other hosts, with their times on the head's clock."""

from __future__ import annotations

from dataclasses import replace
from typing import Any, Mapping, Sequence

from launcher.diagnosis.failure import RankEnd, RankStatus
from launcher.diagnosis.hang import StackSnapshot
from launcher.hosts.fleet import HostState
from launcher.plan.model import RankSpec
from launcher.typed_json import Value
from rank_table.ranges import spell


def read_end(host: HostState, value: Any) -> RankEnd:
    """Read the end of a rank that its agent has sent. ReadError: it is none."""
    return replace(RankEnd.from_json(Value(value, "end")).on_clock(host.offset.monotonic), host=host.name)


def lost_text(host: HostState) -> str:
    """Say that a host is lost, and why."""
    ranks = f"rank{'s' if len(host.ranks) > 1 else ''} {spell(host.ranks)}"
    return f"host {host.name} lost: {host.lost}; its {ranks}"


def lost_end(host: HostState, spec: RankSpec, pid: int, seconds: float, step: int) -> RankEnd:
    """Return the end of a rank of a lost host: at the last sign of it."""
    return RankEnd(
        spec.rank,
        spec.device_id,
        pid,
        seconds=seconds,
        ended_ns=int(host.heard * 1e9),
        status=RankStatus.LOST,
        step=step,
        detail=lost_text(host),
        host=host.name,
    )


def snapshot_of(texts: Mapping[int, str], living: Sequence[int]) -> StackSnapshot:
    """Compare the stacks of all ranks, as diagnosis.hang does on one host."""
    from launcher.diagnosis import hang

    return hang.compared(texts, [rank for rank in living if rank not in texts], [])
