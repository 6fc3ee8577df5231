"""The head's part of a plan over several hosts: one rank table over all of them, and the order to each.

Before the agents are started `prepare` refuses what is wrong with the job; `lay_out` numbers the ranks when
all hosts have told of themselves; `make_order` is what goes to them; `whole_plan` joins what they computed.
"""

from __future__ import annotations

import hashlib
import os
from dataclasses import dataclass, replace
from typing import Mapping, Sequence

from launcher.config.job import JobConfig, Provenance
from launcher.errors import LauncherError, PreflightError, UsageError
from launcher.plan import addresses, build, host_environ, nested, planner, ports, server_order
from launcher.plan.command import missing_program
from launcher.plan.devices import parse_devices
from launcher.plan.host_facts import HostFacts
from launcher.plan.layers import Layered, split
from launcher.plan.matching import match
from launcher.plan.model import HostSpec, Plan
from launcher.plan.order import Order
from launcher.plan.placement import BACKENDS, THIS_HOST, read_inventory, read_table, rendered
from launcher.plan.program_check import check_program
from launcher.plan.this_host import ADDRESS_KEYS
from launcher.profiles import choice
from launcher.profiles.base import Meeting
from launcher.text import MOST_NAMED, by_value, some
from rank_table.errors import InventoryError
from rank_table.inventory import Host, Inventory, virtual_cpu
from rank_table.ranges import spell
from rank_table.table import RankTable

_SOUGHT = ("PYTHONPATH", "LD_LIBRARY_PATH", "ASCEND_", "TFPLUGIN_")  # without these programs may not start


@dataclass(frozen=True)
class Job:
    """A job before its hosts have told of themselves."""

    config: JobConfig
    source: Provenance
    command: tuple[str, ...]
    run_id: str
    run_dir: str
    launch_dir: str
    notes: tuple[str, ...] = ()
    given: tuple[RankTable, str] | None = None  # the job's own rank table and its text
    on_event: tuple[str, ...] = ()  # the command for events, which the head runs


@dataclass(frozen=True)
class Layout:
    """The ranks of all hosts. text: the rank table's, as it is written. hosts: in the engine's order."""

    table: RankTable
    text: str
    backend: str
    hosts: tuple[HostSpec, ...]
    chief_device: int  # the logical id of rank 0
    notes: tuple[str, ...] = ()
    meeting: Meeting = Meeting()

    @property
    def servers(self) -> tuple[str, ...]:
        """The server_id of each host, in the engine's order."""
        return tuple(host.server_id for host in self.hosts)

    def ranks(self, index: int) -> tuple[int, ...]:
        """Return the ranks of a host."""
        return tuple(rank.rank_id for rank in self.table.ranks_of(self.hosts[index].server_id))

    def hosts_json(
        self, offsets: Mapping[int, tuple[int, int]], shared: Sequence[bool]
    ) -> list[dict[str, object]]:
        """Return hosts.json. offsets: (clock offset, its error) of each host in ns; 0 where it has none."""
        return [
            {
                **vars(host),
                "ranks": spell(self.ranks(host.index)),
                "clock_offset_ns": offsets.get(host.index, (0, 0))[0],
                "clock_error_ns": offsets.get(host.index, (0, 0))[1],
                "shared": shared[host.index],
            }
            for host in self.hosts
        ]


def prepare(config: JobConfig, source: Provenance, command: Sequence[str]) -> Job:
    """Check a job for several hosts, as far as it needs none of them; wait for its rank table.

    Raises:
        UsageError, PreflightError: what is wrong with it.
    """
    missing_program(config, command, source)
    nested.refuse(config, command, source, parse_devices(config.devices))
    if config.stdin_rank >= 0:
        advice = "not possible on several hosts, whose stdin carries the launcher's own frames; leave it out"
        raise source.error("stdin_rank", advice)
    if "$" not in config.env.get("HCCL_IF_IP", "$"):
        advice = "one address for all hosts; remove it, as each host gets its own"
        raise source.error("env.HCCL_IF_IP", advice)
    launch_dir = planner.launch_dir()
    on_event = build.hook(config, source, os.environ, launch_dir)
    config, told = planner.heartbeat_of_shell(config, source, os.environ)
    settled = choice.settle(config, source, command, launch_dir, os.environ.get("PATH", ""))
    config = settled.config
    notes = check_program(config, source, command)
    run_id = config.run_id or planner.new_run_id(config.job)
    run_dir = os.path.join(launch_dir, os.path.expanduser(config.runs_dir), run_id)
    path = os.path.expanduser(config.rank_table_file)
    given = read_table(path, notify=planner.notify) if path else None
    notes = [*source.notes, *told, *settled.notes, *settled.doubt, *notes]
    return Job(config, source, tuple(command), run_id, run_dir, launch_dir, tuple(notes), given, on_event)


def lay_out(job: Job, facts: Sequence[HostFacts], devices: Sequence[str] = ()) -> Layout:
    """Number the ranks of all hosts: hosts as the engine, the table, the inventory or MindSpore has them.

    facts: of every host. devices: what the engine gives to each host, where it says so.

    Raises:
        UsageError, PreflightError: one line for each thing that is wrong, which names its hosts.
    """
    facts = sorted(facts, key=lambda host: host.index)
    backend, note = _backend(job.config.backend, facts)
    by_server = server_order.applies(job.config, backend)
    if job.given is not None:
        table, text = job.given
        of = _owners(job, table, facts)
        if by_server:
            server_order.refuse(table, job.config.rank_table_file)
    else:
        inventory, of = _inventory(job, facts, backend, devices)
        inventory, why = server_order.ordered(inventory) if by_server else (inventory, ())
        note = (*note, *why)
        _refuse(_chips(inventory.hosts, of))
        table, text = rendered(inventory, unread=not choice.reads_table(job.config))
        note = (*note, *(inventory.notes if job.config.inventory else ()))  # else the agents say them
    servers = {host.index: server for server, host in of.items()}
    _refuse(_unequal(table, {server: host.name for server, host in of.items()}))
    known = {of[server].index: address for server, address in _known_addresses(table, facts, of).items()}
    chosen, problems = addresses.choose(facts, job.config.interfaces, known)
    _refuse([*problems, *_loopbacks(table, facts)])
    specs = tuple(HostSpec(host.index, host.name, servers[host.index], chosen[host.index]) for host in facts)
    chief = _chief_device(table, of)
    return Layout(table, text, backend, specs, chief, note, _meeting(job.config, table, specs, facts))


def _meeting(
    config: JobConfig, table: RankTable, specs: Sequence[HostSpec], facts: Sequence[HostFacts]
) -> Meeting:
    """Choose where the ranks of all hosts meet: at ports that each host has found free."""
    if not choice.profile(config.framework).meets:
        return Meeting()
    _refuse([f"{host.name}: no {ports.OFFERED} free ports in a row" for host in facts if not host.port])
    first = {spec.server_id: host.port for spec, host in zip(specs, facts)}
    if addresses.one_machine(facts):  # all look at the same ports, at the same time
        first = {spec.server_id: facts[0].port + place * ports.OFFERED for place, spec in enumerate(specs)}
    address = {spec.server_id: spec.address for spec in specs}
    ends = [
        f"{address[server]}:{first[server] + 1 + place}"
        for server in table.servers
        for place, _ in enumerate(table.ranks_of(server))
    ]
    chief = table.ranks[0].server_id
    return Meeting(address[chief], first[chief], tuple(ends))


def _refuse(problems: Sequence[str]) -> None:
    if problems:
        rest = len(problems) - MOST_NAMED
        raise PreflightError(
            *problems[:MOST_NAMED], *([f"and {rest} more lines like these"] if rest > 0 else ())
        )


def _backend(wanted: str, facts: Sequence[HostFacts]) -> tuple[str, tuple[str, ...]]:
    """Return cpu or npu, which must be that of every host, and for `auto` the line that says which."""
    if wanted not in BACKENDS:
        raise UsageError(f"backend: unknown backend {wanted!r} (expected {', '.join(BACKENDS)})")
    if wanted == "cpu":
        return "cpu", ()
    _refuse([f"{host.name}: {host.problem}" for host in facts if host.problem])
    without = [host.name for host in facts if host.npus is None]
    if not without:
        return "npu", ("backend npu: every host has NPUs",) if wanted == "auto" else ()
    if len(without) == len(facts) and wanted == "auto":
        return "cpu", ("backend cpu: no host has an NPU, so virtual devices",)
    advice = "mount the devices and the driver, or leave these hosts out, or use backend=cpu"
    raise PreflightError(f"backend {wanted}: no NPU on {some(without)}; {advice}")


def _inventory(
    job: Job, facts: Sequence[HostFacts], backend: str, devices: Sequence[str]
) -> tuple[Inventory, dict[str, HostFacts]]:
    """Return the hosts with the devices of the job, in the order of their ranks, and whose they are."""
    if job.config.inventory:
        return _from_file(job, facts)
    problems: list[str] = []
    hosts: list[Host] = []
    for host, text in zip(facts, _devices(job, facts, backend, devices)):
        try:
            hosts.append(_host(host, text, backend, job.config.chip))
        except (InventoryError, UsageError) as error:
            problems.append(f"{host.name}: {error}")
    _refuse(problems)
    _refuse(_duplicates(hosts, facts))
    notes = dict.fromkeys(note for host in facts for note in host.notes)
    found = Inventory(tuple(hosts), THIS_HOST, tuple(notes))
    return found, {host.server_id: fact for host, fact in zip(hosts, facts)}


def _devices(
    job: Job, facts: Sequence[HostFacts], backend: str, given: Sequence[str]
) -> Sequence[str | None]:
    """Return the devices of each host: the job's, else the engine's, else all its NPUs (None)."""
    if given and "devices" not in job.source.written:
        return [text or None for text in given]
    every = backend == "npu" and "devices" not in job.source.written
    return [None if every else job.config.devices for _ in facts]


def _host(host: HostFacts, devices: str | None, backend: str, chip: str) -> Host:
    if backend == "cpu":
        return virtual_cpu(parse_devices(devices or "0"), host.name).hosts[0]
    npus = host.npus or Host("", ())
    found = npus if devices is None else npus.only(parse_devices(devices))
    return replace(found, chip=chip) if chip else found


def _duplicates(hosts: Sequence[Host], facts: Sequence[HostFacts]) -> list[str]:
    holders: dict[str, list[str]] = {}
    for host, fact in zip(hosts, facts):
        holders.setdefault(host.server_id, []).append(fact.name)
    advice = "each needs its own: set HOST_IP there, or give an inventory file"
    return [
        f"{some(names)}: all have the server_id {server} ({advice})"
        for server, names in holders.items()
        if len(names) > 1
    ]


def _from_file(job: Job, facts: Sequence[HostFacts]) -> tuple[Inventory, dict[str, HostFacts]]:
    path = job.config.inventory
    devices = parse_devices(job.config.devices) if "devices" in job.source.written else None
    found = read_inventory(path, devices, job.config.chip)
    servers = {host.server_id: {host.host_ip, host.pod_name} for host in found.hosts}
    return found, match(facts, servers, path)


def _chips(hosts: Sequence[Host], of: Mapping[str, HostFacts]) -> list[str]:
    """Refuse a mixture of generations, whose tables and collectives differ."""
    chips = {of[host.server_id].name: host.chip for host in hosts}
    if len({*chips.values()}) < 2:
        return []
    found = by_value(chips, "an unknown chip")
    return [f"chips differ: {found} (expected one generation); choose other hosts, or set chip:"]


def _owners(job: Job, table: RankTable, facts: Sequence[HostFacts]) -> dict[str, HostFacts]:
    """Find the hosts of the job's own rank table."""
    path = job.config.rank_table_file
    servers = {
        entry.server_id: {str(entry.extra.get(key, "")) for key in ADDRESS_KEYS} | {entry.pod_name}
        for entry in table.server_list
    }
    of = match(facts, servers, f"rank_table_file: {path}")
    wanted = sorted(parse_devices(job.config.devices))
    for server in table.servers if "devices" in job.source.written else ():
        mine = sorted(rank.device_id for rank in table.ranks_of(server))
        if mine != wanted:
            what = f"{job.config.devices}, but {path} has devices {spell(mine)} on {server}"
            raise job.source.error("devices", what + "; leave devices out")
    return of


def _unequal(table: RankTable, names: Mapping[str, str]) -> list[str]:
    """Refuse hosts with other numbers of devices: HCCL needs the same on each server."""
    counts = {names[server]: str(len(table.ranks_of(server))) for server in table.servers}
    if len({*counts.values()}) < 2:
        return []
    found = by_value(counts)
    return [f"numbers of devices differ: {found} (expected as many on every host); set devices:"]


def _known_addresses(
    table: RankTable, facts: Sequence[HostFacts], of: Mapping[str, HostFacts]
) -> dict[str, str]:
    """Return what the table says of the address of each server."""
    known: dict[str, str] = {}
    for entry in table.server_list:
        own = {str(item.ip) for _, item in of[entry.server_id].interfaces}
        told = (str(entry.extra.get(key, "")) for key in ADDRESS_KEYS)
        known[entry.server_id] = next((text for text in (*told, entry.server_id) if text in own), "")
    return known


def _loopbacks(table: RankTable, facts: Sequence[HostFacts]) -> list[str]:
    found = [server for server in table.servers if addresses.is_loopback(server)]
    if not found or addresses.one_machine(facts):
        return []
    return [f"server_id {some(found)}: loopback, which means every host; give addresses of the hosts"]


def _chief_device(table: RankTable, of: Mapping[str, HostFacts]) -> int:
    chief = table.ranks[0]
    npus = of[chief.server_id].npus
    known = {item.device_id: item.logical_id for item in npus.devices} if npus is not None else {}
    return known.get(chief.device_id, 0)


def make_order(
    job: Job,
    layout: Layout,
    environ: Mapping[str, str],
    shared: Sequence[bool],
    window: int,
    attempt: int = 0,
    line: int = Order.line,
) -> Order:
    """Return what every agent gets. shared: whether each host sees the run folder on the head's disk."""
    digest = hashlib.sha256(layout.text.encode()).hexdigest()
    return Order(
        config=job.config,
        command=job.command,
        run_id=job.run_id,
        run_dir=job.run_dir,
        launch_dir=job.launch_dir,
        backend=layout.backend,
        table="" if all(shared) else layout.text,
        table_sha256=digest,
        hosts=layout.hosts,
        shared=tuple(shared),
        chief_device=layout.chief_device,
        meeting=layout.meeting,
        environ=host_environ.carried(environ, job.config.export),
        lease=job.config.lease,
        window=window,
        attempt=attempt,
        line=line,
        head=os.uname().nodename,
        file=job.source.file,
        lines=job.source.lines,
    )


def whole_plan(
    job: Job,
    layout: Layout,
    parts: Sequence[Plan],
    notes: Sequence[str] = (),
    environ: Mapping[str, str] | None = None,
) -> Plan:
    """Join the plans of all hosts. environ: the head's, to name what hosts lack of it.

    Raises:
        LauncherError: a rank is in none of them, or in two.
    """
    ranks = sorted((spec for part in parts for spec in part.ranks), key=lambda spec: spec.rank)
    numbers = [spec.rank for spec in ranks]
    if numbers != list(range(layout.table.world_size)):
        raise LauncherError(f"the hosts have planned the ranks {spell(numbers)}, not each of the table once")
    common, of_hosts, rests = split([spec.server_id for spec in ranks], [spec.env for spec in ranks])
    return replace(
        parts[0],
        host="",
        rank_table_json=layout.text,
        policy=replace(build.policy_of(job.config), on_event=job.on_event),
        ranks=tuple(
            replace(spec, env=Layered(common, of_hosts[spec.server_id], rest))
            for spec, rest in zip(ranks, rests)
        ),
        scheduler=next((part.scheduler for part in parts if part.scheduler), None),
        notes=(*job.notes, *layout.notes, *notes, *_left_behind(environ or {}, parts)),
        hosts=layout.hosts,
    )


def _left_behind(environ: Mapping[str, str], parts: Sequence[Plan]) -> list[str]:
    """Name search paths and CANN's variables that are set here alone, as a shell over ssh sources nothing."""
    sought = [name for name in environ if name.startswith(_SOUGHT) and host_environ.is_of_host(name)]
    lacking = {
        name: hosts
        for name in sought
        for hosts in [[part.host for part in parts if part.ranks and name not in part.ranks[0].env]]
        if hosts and "VISIBLE" not in name
    }
    if not lacking:
        return []
    names, hosts = ", ".join(sorted(lacking)), some(max(lacking.values(), key=len))
    return [f"{names}: set here, but not on {hosts}; ascend_env: or export: brings them there"]
