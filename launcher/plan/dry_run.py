"""Show a plan, as text or as JSON; nothing is started, nothing is written."""

from __future__ import annotations

import json
import os
import shlex
from typing import Any, Iterator, Mapping, Sequence

from launcher.masking import mask
from launcher.plan.document import expanded
from launcher.plan.layers import plain, split
from launcher.plan.model import Plan, RankSpec
from launcher.run_dir import RunDir
from launcher.text import label, named
from rank_table.ranges import spell


def as_dict(plan: Plan, engine: Sequence[str] = ()) -> dict[str, Any]:
    """Return the plan with the rank table parsed, and each rank's whole environment and path of its log.

    engine: the command that starts the agents of several hosts.
    """
    document = expanded(plan)
    document["rank_table"] = json.loads(document.pop("rank_table_json"))
    if plan.hosts:
        document["engine"] = list(engine)
    value: dict[str, Any] = mask(document)
    run = _run_dir(plan)
    for item, spec in zip(value["ranks"], plan.ranks):
        item["log"] = str(run.log(spec.rank))
    if plan.scheduler is not None:
        value["scheduler"]["log"] = str(run.log(plan.scheduler.rank))
    return value


def as_lines(plan: Plan, outer: Mapping[str, str], engine: Sequence[str] = ()) -> list[str]:
    """Render the plan: a table of ranks, the command, the environment against `outer`, the rank table."""
    first = plan.ranks[0]
    return [
        f"job {plan.job}, {plan.world_size} rank(s), backend {plan.backend}",
        *("note: " + note for note in plan.notes),
        f"run folder {plan.run_dir}",
        "",
        *(_hosts(plan, engine) if plan.hosts else ()),
        *_rank_table(plan),
        "",
        f"command (cwd {first.cwd})",
        "  " + " ".join(map(shlex.quote, mask(first.argv))),
        "",
        *_hook(plan),
        f"environment of rank {first.rank}, beside what it inherits",
        *_environment(first, outer),
        *(_of_hosts(plan) if plan.hosts else _differences(plan.ranks)),
        *(_differences([first, plan.scheduler]) if plan.scheduler else ()),
        "",
        "rank_table.json",
        *plan.rank_table_json.rstrip().split("\n"),
    ]


def _hook(plan: Plan) -> list[str]:
    """Show what gets the events."""
    policy = plan.policy
    if not policy.on_event:
        return []
    which = ", ".join(policy.on_event_only) or "every event"
    return [f"on {which}", "  " + " ".join(map(shlex.quote, mask(policy.on_event))), ""]


def _hosts(plan: Plan, engine: Sequence[str]) -> Iterator[str]:
    """Show the hosts, and what starts an agent on each of them."""
    ranks: dict[str, list[int]] = {}
    for spec in plan.ranks:
        ranks.setdefault(spec.server_id, []).append(spec.rank)
    rows = [("host", "name", "server_id", "address", "ranks")]
    for host in plan.hosts:
        own = spell(ranks.get(host.server_id, ()))
        rows.append((str(host.index), host.name, host.server_id, host.address, own))
    yield from _columns(rows)
    yield ""
    yield "agents are started by"
    yield "  " + " ".join(map(shlex.quote, mask(list(engine))))
    yield ""


def _of_hosts(plan: Plan) -> Iterator[str]:
    """List what differs from host to host, and from rank to rank of the first host."""
    _, of_hosts, _ = split([spec.server_id for spec in plan.ranks], [spec.env for spec in plan.ranks])
    yield from _differences([spec for spec in plan.ranks if spec.server_id == plan.ranks[0].server_id])
    for host in plan.hosts:
        shown = mask(of_hosts.get(host.server_id, {}))
        yield from ["", f"every rank of host {host.name} has"] if shown else []
        yield from (f"  {name}={shlex.quote(shown[name])}" for name in sorted(shown))


def _run_dir(plan: Plan) -> RunDir:
    from pathlib import Path

    return RunDir(Path(plan.run_dir))


def _rank_table(plan: Plan) -> list[str]:
    run = _run_dir(plan)
    rows: list[tuple[str, ...]] = [("rank", "server", "DEVICE_ID", "ASCEND_DEVICE_ID", "cores", "log")]
    for spec in plan.processes:
        log = os.path.relpath(str(run.log(spec.rank)), plan.run_dir)
        ids = (label({spec.rank}), spec.server_id, *map(_device, (spec.device_id, spec.ascend_device_id)))
        rows.append((*ids, spell(spec.cores) or "any", log))
    return _columns(rows)


def _device(number: int) -> str:
    return "-" if number < 0 else str(number)


def _columns(rows: Sequence[tuple[str, ...]]) -> list[str]:
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    return ["  ".join(cell.ljust(width) for cell, width in zip(row, widths)).rstrip() for row in rows]


def _environment(spec: RankSpec, outer: Mapping[str, str]) -> Iterator[str]:
    shown = mask(plain(spec.env))
    for name in sorted(spec.env):
        if outer.get(name) != spec.env[name]:
            yield f"  {name}={shlex.quote(shown[name])}"
    for name in sorted(set(outer) - set(spec.env)):
        yield f"  (removed) {name}"


def _differences(ranks: Sequence[RankSpec]) -> Iterator[str]:
    """List what differs in the environments of the other ranks."""
    first = ranks[0]
    for spec in ranks[1:]:
        other = [n for n in sorted(spec.env) if spec.env[n] != first.env.get(n)]
        shown = mask({name: spec.env[name] for name in other})
        yield ""
        yield f"{named(spec.rank)} differs by"
        for name in other:
            yield f"  {name}={shlex.quote(shown[name])}"
        yield from (f"  (removed) {name}" for name in sorted(set(first.env) - set(spec.env)))
