"""Look whether this host is ready for a plan: everything that is wrong, at once, before anything starts."""

from __future__ import annotations

import difflib
import os
import socket
from dataclasses import dataclass
from typing import Any, Callable, Iterator, Mapping, Sequence, Tuple

from launcher.config.job import JobConfig
from launcher.errors import PreflightError, UsageError
from launcher.plan.model import Plan
from launcher.process import procfs
from launcher.runs import locks
from rank_table.inventory import InventoryError
from rank_table.ranges import spell
from rank_table.sources.tools import Answer, Machine
from rank_table.table import RankTable

ERROR, WARNING = "error", "warning"
LEAST_FREE = 64 << 20  # bytes: below it not even the logs of a start fit
FEW_FREE = 2 << 30  # bytes: a BERT-base checkpoint with its Adam slots is 1.3 GB
TOOL_TIMEOUT = 20.0  # seconds; npu-smi needs one to three on a busy server
HCCL_PORTS = 32  # HCCL_IF_BASE_PORT and the 31 ports after it
HCCL_BASE_PORT = 60000


@dataclass(frozen=True)
class Finding:
    """Hold what a check found: its name (for --no-preflight), "error" or "warning", one line."""

    check: str
    level: str
    message: str


@dataclass
class Subject:
    """Hold what the checks look at."""

    plan: Plan
    config: JobConfig
    table: RankTable
    machine: Machine
    answer: Answer | None = None

    @property
    def npu(self) -> bool:
        return self.plan.backend == "npu"

    @property
    def environ(self) -> Mapping[str, str]:
        """The environment of the first rank; the others differ in their numbers only."""
        return self.plan.local_ranks[0].env if self.plan.local_ranks else os.environ

    @property
    def npu_smi(self) -> Answer:
        """What `npu-smi info` prints; asked once."""
        if self.answer is None:
            self.answer = self.machine.ask("npu-smi", "info")
        return self.answer

    @property
    def devices(self) -> set[int]:
        return {spec.device_id for spec in self.plan.local_ranks}


Messages = Iterator[Tuple[str, str]]  # (level, message)


def check(plan: Plan, config: JobConfig, table: RankTable, root: str = "/") -> list[Finding]:
    """Run every check that is not in `config.skip_preflight`.

    Raises:
        UsageError: skip_preflight names no check.
    """
    skip = set(config.skip_preflight)
    for name in sorted(skip - set(CHECKS)):
        near = difflib.get_close_matches(name, CHECKS, n=1)
        hint = f"did you mean {near[0]}?" if near else "the checks are {}".format(", ".join(CHECKS))
        raise UsageError(f"--no-preflight: {name!r} is no check; {hint}")
    subject = Subject(plan, config, table, Machine(os.environ, root, TOOL_TIMEOUT))
    return [
        Finding(name, level, message)
        for name, function in CHECKS.items()
        if name not in skip
        for level, message in function(subject)
    ]


def raise_if_any(findings: Sequence[Finding]) -> None:
    """Raise when there is an error among the findings.

    Raises:
        PreflightError: one line for each error, with the way past it.
    """
    errors = [finding for finding in findings if finding.level == ERROR]
    if errors:
        lines = [f"preflight: {finding.check}: {finding.message}" for finding in errors]
        names = " ".join(f"--no-preflight {name}" for name in dict.fromkeys(f.check for f in errors))
        lines.append(f"nothing was started; {names} starts all the same")
        raise PreflightError("\nnpu-launch: ".join(lines))


def devices(subject: Subject) -> Messages:
    """Every device must be there, and this user must be allowed to open it."""
    if not subject.npu:
        return
    from rank_table.sources.dev_nodes import device_ids

    there = device_ids(subject.machine)
    absent = sorted(subject.devices - set(there))
    if absent:
        has = f"this host has {spell(there)}" if there else "this host has none (is the driver loaded?)"
        yield ERROR, f"no /dev/davinci{spell(absent)}; {has}; correct --devices"
    for device in sorted(subject.devices & set(there)):
        path = subject.machine.path(f"/dev/davinci{device}")
        if not os.access(path, os.R_OK | os.W_OK):
            yield ERROR, f"{path} may not be opened by this user; join group HwHiAiUser, or run as root"


def host(subject: Subject) -> Messages:
    """What was written down, as an inventory file or a rank table, must be what this host has now."""
    config = subject.config
    if not subject.npu or not (config.inventory or config.rank_table_file):
        return
    from rank_table import check as rules
    from rank_table.sources import host as sources

    machine = Machine(subject.environ, subject.machine.root)
    try:
        here = sources.discover(machine, subject.plan.host, config.chip, everything=False).hosts[0]
    except InventoryError as error:
        yield ERROR, str(error)
        return
    yield from map(_of_rule, rules.check_host(subject.table, here))
    logical = {device.device_id: device.logical_id for device in here.devices}
    for spec in subject.plan.local_ranks:
        number = logical.get(spec.device_id, spec.ascend_device_id)
        if number != spec.ascend_device_id:
            text = "rank %d: device %d has logical id %d here, not %d; see `npu-launch inventory --explain`"
            yield ERROR, text % (spec.rank, spec.device_id, number, spec.ascend_device_id)


def _of_rule(finding: Any) -> tuple[str, str]:
    return finding.level, str(finding).partition(": ")[2]


def _cards(subject: Subject) -> list[Any]:
    from launcher.checks.npu import read_cards

    cards = read_cards(subject.npu_smi.text) if subject.npu else []
    return [card for card in cards if card.device_id in subject.devices]


def health(subject: Subject) -> Messages:
    """npu-smi must call every device OK."""
    cards = _cards(subject)
    if subject.npu and not cards:
        why = subject.npu_smi.problem or "npu-smi info: no table of these devices"
        yield WARNING, f"{why}; health and holders of the devices are not known"
    for card in cards:
        if card.health != "OK":
            place = "-i %d -c %d" % card.place
            text = "device %d is %s; `npu-smi info -t health %s` says why; leave it out of --devices"
            yield ERROR, text % (card.device_id, card.health, place)


def occupied(subject: Subject) -> Messages:
    """No other process may be on a device: npu-smi names them, and so does an open /dev/davinciN."""
    if not subject.npu:
        return
    for device, pids in sorted(_users(subject).items()):
        for pid in sorted(pids - {os.getpid()}):
            yield (
                ERROR,
                f"device {device} is in use by {procfs.describe(pid)}; end it, or choose other --devices",
            )


def _users(subject: Subject) -> dict[int, set[int]]:
    found: dict[int, set[int]] = {}
    for card in _cards(subject):
        for holder in card.holders:  # "python (pid 77)"
            found.setdefault(card.device_id, set()).add(int(holder.rpartition("pid ")[2].rstrip(")")))
    nodes = {
        os.path.realpath(subject.machine.path(f"/dev/davinci{device}")): device for device in subject.devices
    }
    for pid in procfs.pids():
        for path in procfs.open_files(pid):
            if path in nodes:
                found.setdefault(nodes[path], set()).add(pid)
    return found


def lock(subject: Subject) -> Messages:
    """No other launch may have a device."""
    for holder in locks.holders(locks.real_devices(subject.plan)):
        yield ERROR, f"{holder}; `npu-launch stop {holder.run}`, or choose other --devices"


def rank_table(subject: Subject) -> Messages:
    """The rank table must pass HCCL's own rules; virtual devices have no addresses to check."""
    if not subject.npu or subject.config.rank_table_free:
        return
    from rank_table import check as rules

    yield from map(_of_rule, rules.check(subject.plan.rank_table_json, subject.config.chip, subject.environ))


def files(subject: Subject) -> Messages:
    """Programs, folders and the run folder's place must be usable."""
    for spec in subject.plan.local_ranks[:1]:  # the ranks differ in their environment only
        if not os.access(spec.argv[0], os.X_OK):
            yield ERROR, f"{spec.argv[0]}: not executable"
        if not spec.cwd.startswith(subject.plan.run_dir) and not os.path.isdir(spec.cwd):
            yield ERROR, f"{spec.cwd}: no such folder to run in"
    place = _existing(subject.plan.run_dir)
    if not os.path.isdir(place):
        yield ERROR, f"{place}: not a folder, so the run folder cannot be made in it; set runs_dir"
    elif not os.access(place, os.W_OK | os.X_OK):
        yield ERROR, f"{place}: not writable by this user, and the run folder goes there; set runs_dir"


def _existing(path: str) -> str:
    """Give the nearest parent that exists."""
    while not os.path.lexists(path) and os.path.dirname(path) != path:
        path = os.path.dirname(path)
    return path


def disk(subject: Subject) -> Messages:
    """Logs and checkpoints need room where the run folder goes."""
    place = _existing(subject.plan.run_dir)
    try:
        status = os.statvfs(place)
    except OSError as error:
        yield WARNING, f"{place}: free space not known: {error.strerror}"
        return
    free = status.f_bavail * status.f_frsize
    if free < LEAST_FREE or (status.f_files > 0 and status.f_favail == 0):
        yield (
            ERROR,
            f"{place}: {free >> 20} MB and {status.f_favail} inodes free; set runs_dir to another disk",
        )
    elif free < FEW_FREE:
        yield WARNING, f"{place}: only {free >> 20} MB free; checkpoints may not fit"


def ports(subject: Subject) -> Messages:
    """HCCL's ports on the host must be free; they are tried, not kept, since HCCL itself binds them."""
    if not subject.npu:
        return
    bases = {spec.env.get("HCCL_IF_BASE_PORT", str(HCCL_BASE_PORT)) for spec in subject.plan.local_ranks}
    for text in sorted(bases):
        base = int(text) if text.isdigit() else -1
        if not 1024 <= base <= 65520:
            yield ERROR, f"HCCL_IF_BASE_PORT is {text!r}; give a number from 1024 to 65520"
            continue
        busy = [port for port in range(base, min(base + HCCL_PORTS, 65536)) if not free_port(port)]
        if busy:
            names = ", ".join(map(str, busy[:4])) + (", ..." if len(busy) > 4 else "")
            holder = procfs.listener(busy[0]) or "holder not visible"
            text = "port %s of HCCL's %d from %d is busy (%s); set env: HCCL_IF_BASE_PORT to a free range"
            yield ERROR, text % (names, HCCL_PORTS, base, holder)


def free_port(port: int) -> bool:
    """Try to bind a port on every address, as HCCL will; on hosts without IPv4, on IPv6."""
    for family in (socket.AF_INET, socket.AF_INET6):
        try:
            probe = socket.socket(family, socket.SOCK_STREAM)
        except OSError:
            continue  # the family is switched off
        with probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # ports in TIME_WAIT are usable
            try:
                probe.bind(("", port))
            except OSError:
                return False
    return True


CHECKS: dict[str, Callable[[Subject], Messages]] = {
    "devices": devices,
    "host": host,
    "health": health,
    "occupied": occupied,
    "lock": lock,
    "rank-table": rank_table,
    "files": files,
    "disk": disk,
    "ports": ports,
}
