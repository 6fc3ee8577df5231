"""The agent's part of a plan over several hosts: its own ranks, in the environment of its own host."""

from __future__ import annotations

import hashlib
import os
from dataclasses import replace
from typing import Mapping

from launcher.config import ascend_env
from launcher.errors import PreflightError
from launcher.plan import build, host_environ, planner
from launcher.plan.build import LaunchContext
from launcher.plan.cpu_quota import UNLIMITED
from launcher.plan.host_facts import HostFacts
from launcher.plan.model import Plan
from launcher.plan.order import Order
from launcher.plan.placement import Placement
from launcher.plan.planner import PlannedJob
from launcher.profiles import choice
from rank_table.table import RankTable


def host_plan(order: Order, facts: HostFacts, environ: Mapping[str, str], table: str = "") -> PlannedJob:
    """Compute the ranks of this host. table: the text of the rank table, where the order does not have it.

    Raises:
        UsageError, PreflightError, NotFoundError, NotExecutableError: as plan_job, of this host.
    """
    text = order.table or table
    if hashlib.sha256(text.encode()).hexdigest() != order.table_sha256:
        raise PreflightError("the rank table is not the head's: its sha256 differs; is the disk shared?")
    parsed = RankTable.loads(text)
    here = order.hosts[facts.index]
    outer = host_environ.on_host(environ, order.environ)
    outer, sourced = ascend_env.load(order.config.ascend_env, outer, order.launch_dir, order.source)
    logical = _logical_ids(order, parsed, facts)
    placed = Placement(parsed, text, here.server_id, order.backend, logical)
    launch = LaunchContext(
        placement=placed,
        run_id=order.run_id,
        run_dir=order.run_dir,
        launch_dir=order.launch_dir,
        environ=_with_address(outer, order, facts),
        cores=facts.cores,
        bound=planner.bound(order.config, placed),
        quota=facts.quota or UNLIMITED,
        provenance=order.source,
        addresses={host.server_id: host.address for host in order.hosts},
        meeting=order.meeting,
        max_restarts=order.config.max_restarts,
        table_free=order.config.rank_table_free,
    )
    notes = (*_of_devices(order, facts), *([sourced] if sourced else []))
    plan = build.build_plan(order.config, order.command, launch, notes)
    plan = planner.reviewed(plan, order.config, order.source)
    return PlannedJob(order.config, replace(plan, hosts=order.hosts), parsed)


def _of_devices(order: Order, facts: HostFacts) -> tuple[str, ...]:
    """Return what is missing of this host's devices, where it is they that the rank table was made from."""
    config = order.config
    told = order.backend == "npu" and not (config.inventory or config.rank_table_file)
    return facts.notes if told else ()


def _logical_ids(order: Order, table: RankTable, facts: HostFacts) -> dict[tuple[str, int], int]:
    """Map this host's devices to its own logical ids: as its sources have them, virtual ones by position."""
    server, chief = order.hosts[facts.index].server_id, table.ranks[0]
    ids = [rank.device_id for rank in table.ranks_of(server)]
    if order.config.rank_table_file:
        ids.sort()
    known = {device: place for place, device in enumerate(ids)}
    if order.backend == "npu" and facts.npus is not None:
        known.update((device.device_id, device.logical_id) for device in facts.npus.devices)
    found = {(server, device): number for device, number in known.items()}
    return {(chief.server_id, chief.device_id): order.chief_device, **found}


def _with_address(environ: Mapping[str, str], order: Order, facts: HostFacts) -> dict[str, str]:
    """Give NPU ranks this host's own address, never another's, unless HCCL is told an interface.

    In a pod only its manifest knows whether it has the host's network, without which HCCL fails with it.
    Gloo, which looks its host's name up and falls back to the loopback, gets the interface of that address.
    """
    env = dict(environ)
    own = {str(item.ip) for _, item in facts.interfaces}
    if env.get("HCCL_IF_IP", "") not in own:
        env.pop("HCCL_IF_IP", None)
    address = order.hosts[facts.index].address
    told = {"HCCL_IF_IP", "HCCL_SOCKET_IFNAME", "KUBERNETES_SERVICE_HOST"} & {*env, *order.config.env}
    if order.backend == "npu" and address in own and not told:
        env["HCCL_IF_IP"] = address
    interface = next((name for name, item in facts.interfaces if str(item.ip) == address), "")
    if interface and choice.profile(order.config.framework).uses_gloo:
        env.setdefault("GLOO_SOCKET_IFNAME", interface)
    return env


def to_head(plan: Plan) -> str:
    """Write the plan of a host for the head, without what the head has told it: table and hosts."""
    return replace(plan, rank_table_json="", hosts=()).to_json()


def read_table(order: Order) -> str:
    """Read the rank table in the run folder, for an order without one; "" when it is not there (yet)."""
    path = os.path.join(order.run_dir, "rank_table.json")
    try:
        with open(path, encoding="utf-8") as stream:
            return stream.read()
    except OSError:
        return ""
