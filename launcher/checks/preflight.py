"""Check whether this host is ready for a plan: report everything that is wrong at once, before the start."""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import TYPE_CHECKING, Callable, Mapping, Sequence

from launcher.checks import device_state
from launcher.checks.device_state import Problems
from launcher.checks.finding import ERROR, WARNING, Finding
from launcher.checks.machine import TOOL_TIMEOUT
from launcher.config.job import JobConfig
from launcher.errors import PreflightError, UsageError
from launcher.plan.layers import plain
from launcher.plan.model import Plan
from launcher.process import procfs
from launcher.profiles import choice
from launcher.profiles.base import Profile
from launcher.runs import locks
from launcher.text import did_you_mean, printable
from rank_table.errors import InventoryError
from rank_table.ranges import spell
from rank_table.sources.dev_nodes import device_ids
from rank_table.sources.tools import Machine
from rank_table.table import RankTable

if TYPE_CHECKING:
    from rank_table.rules.finding import RuleFinding
    from rank_table.sources.chips import View
    from rank_table.sources.npu_smi import SmiChip

LEAST_FREE = 64 << 20  # bytes: below it not even the logs of a start fit
FEW_FREE = 2 << 30  # bytes: a BERT-base checkpoint with its Adam slots is 1.3 GB
HCCL_PORTS = 32  # HCCL_IF_BASE_PORT and the 31 ports after it
HCCL_BASE_PORT = 60000


@dataclass
class Subject:
    """What the checks examine."""

    plan: Plan
    config: JobConfig
    table: RankTable
    machine: Machine
    seen: View | None = None

    @property
    def npu(self) -> bool:
        return self.plan.backend == "npu"

    @property
    def environ(self) -> Mapping[str, str]:
        """The environment of the first rank; the others differ in their numbers only."""
        return self.plan.local_ranks[0].env if self.plan.local_ranks else os.environ

    @property
    def profile(self) -> Profile:
        """That of the ranks' framework."""
        return choice.profile(self.environ.get("NPU_LAUNCH_FRAMEWORK", ""))

    @property
    def view(self) -> View:
        """What npu-smi shows; it runs once."""
        if self.seen is None:
            from rank_table.sources import chips  # its parser is for NPUs alone

            self.seen = chips.look(self.machine)
        return self.seen

    @property
    def devices(self) -> set[int]:
        return {spec.device_id for spec in self.plan.local_ranks}


def check(plan: Plan, config: JobConfig, table: RankTable, root: str = "/") -> list[Finding]:
    """Run every check that is not in `config.skip_preflight`.

    Raises:
        UsageError: skip_preflight has an unknown name.
    """
    skip = set(config.skip_preflight)
    known = (*CHECKS, *BETWEEN, *ACROSS)
    for name in sorted(skip - {*known}):
        hint = did_you_mean(name, known, f"the checks are {', '.join(known)}")
        raise UsageError(f"--skip-preflight: {name!r}: no such check; {hint}")
    subject = Subject(plan, config, table, Machine(os.environ, root, TOOL_TIMEOUT))
    checks = CHECKS
    if plan.hosts:
        from launcher.checks import between_hosts

        checks = {**CHECKS, **between_hosts.CHECKS}
    return [
        Finding(name, *problem)
        for name, function in checks.items()
        if name not in skip
        for problem in function(subject)
    ]


def raise_if_any(findings: Sequence[Finding]) -> None:
    """Raise when there is an error among the findings.

    Raises:
        PreflightError: a line for each error, and one with the options that skip these checks.
    """
    errors = [finding for finding in findings if finding.level == ERROR]
    if errors:
        lines = [f"preflight: {finding.name}: {finding}" for finding in errors]
        options = " ".join(f"--skip-preflight {name}" for name in dict.fromkeys(f.name for f in errors))
        lines.append(f"nothing was started; to start anyway, pass {options}")
        raise PreflightError(*lines)


def devices(subject: Subject) -> Problems:
    """Every device must be there, and this user must be allowed to open it."""
    if not subject.npu:
        return
    there = device_ids(subject.machine)
    absent = sorted(subject.devices - set(there))
    if absent:
        has = f"this host has {spell(there)}" if there else "this host has none (is the driver loaded?)"
        yield ERROR, f"no /dev/davinci{spell(absent)}; {has}", "correct --devices"
    for device in sorted(subject.devices & set(there)):
        path = subject.machine.path(f"/dev/davinci{device}")
        if not os.access(path, os.R_OK | os.W_OK):
            yield ERROR, f"{path} may not be opened by this user", "join group HwHiAiUser, or run as root"


def host(subject: Subject) -> Problems:
    """An inventory file or a rank table must agree with what this host has now."""
    config = subject.config
    if not subject.npu or not (config.inventory or config.rank_table_file):
        return
    from rank_table import check as rules
    from rank_table.sources import host as sources

    machine = Machine(subject.environ, subject.machine.root)
    try:
        here = sources.discover(machine, subject.plan.host, config.chip, everything=False).hosts[0]
    except InventoryError as error:
        yield ERROR, str(error), ""
        return
    yield from ((found.level, _of_rule(found), "") for found in rules.check_host(subject.table, here))
    logical = {device.device_id: device.logical_id for device in here.devices}
    for spec in subject.plan.local_ranks:
        number = logical.get(spec.device_id, spec.ascend_device_id)
        if number != spec.ascend_device_id:
            ids = f"has logical id {number} here, not {spec.ascend_device_id}"
            todo = "see `npu-launch inventory --explain`"
            yield ERROR, f"rank {spec.rank}: device {spec.device_id} {ids}", todo


def _of_rule(finding: RuleFinding) -> str:
    return str(finding).partition(": ")[2]  # what to do is in it


def _chips(subject: Subject) -> list[SmiChip]:
    return subject.view.of(sorted(subject.devices)) if subject.npu and subject.view.known else []


def health(subject: Subject) -> Problems:
    """The health of every device must be OK, or merely a warning, in npu-smi's table."""
    if not subject.npu:
        return
    chips = _chips(subject)
    unseen = sorted(subject.devices - {chip.device_id for chip in chips})
    reasons = subject.view.problems or (f"npu-smi info shows no device {spell(unseen)}",)
    if unseen or not subject.view.known:
        unknown = f"health and holders of device {spell(unseen)} are not known"
        yield WARNING, f"{'; '.join(reasons)}; {unknown}", ""
    elif subject.view.unread:
        yield WARNING, f"{subject.view.unread}; a device may be held all the same", ""
    yield from device_state.health(chips)


def occupied(subject: Subject) -> Problems:
    """No other process may use a device: npu-smi lists them, and so does an open /dev/davinciN."""
    if not subject.npu:
        return
    for device, holders in sorted(_users(subject).items()):
        for holder in holders:
            yield ERROR, f"device {device} is in use by {holder}", "end it, or choose other --devices"
    yield from device_state.memory(_chips(subject))


def _users(subject: Subject) -> dict[int, list[str]]:
    """Describe the processes that use each device, each once."""
    found: dict[int, dict[str, None]] = {}
    for chip in _chips(subject):
        for process in chip.processes:
            found.setdefault(chip.device_id, {})[device_state.holder(process)] = None
    nodes = {
        os.path.realpath(subject.machine.path(f"/dev/davinci{device}")): device for device in subject.devices
    }
    for pid in procfs.pids():
        for path in procfs.open_files(pid) if pid != os.getpid() else ():
            if path in nodes:
                found.setdefault(nodes[path], {})[procfs.describe(pid)] = None
    return {device: list(holders) for device, holders in found.items()}


def lock(subject: Subject) -> Problems:
    """No other launch may hold a device."""
    for holder in locks.holders(locks.real_devices(subject.plan)):
        yield ERROR, str(holder), f"{holder.end}, or choose other --devices"


def rank_table(subject: Subject) -> Problems:
    """A table that is read must pass HCCL's own rules; virtual devices have no addresses to check."""
    if not subject.npu:
        return
    if subject.profile.reads_table and not subject.config.rank_table_free:
        yield from _read_table(subject)
    from rank_table.sources import rootinfo

    chip = subject.config.chip or subject.view.generation
    if chip not in ("", "950") and os.path.exists(subject.machine.path(rootinfo.PATH)):
        what = (
            f"{rootinfo.PATH} is here, which an Ascend 950 has and an {chip} has not; HCCL may fail, EI0014"
        )
        yield WARNING, what, "remove it, or mount nothing there"


def _read_table(subject: Subject) -> Problems:
    from rank_table import check as rules

    profile = subject.profile
    for finding in rules.check(subject.plan.rank_table_json, subject.config.chip, subject.environ):
        other_way = finding.level == ERROR and profile.table_optional
        todo = f"or rank_table_free: true, as {profile.name} needs no table" if other_way else ""
        yield finding.level, _of_rule(finding), todo
    path = subject.environ.get("RANK_TABLE_FILE", "")
    if profile.passes_over_links and os.path.islink(path):
        what = f"RANK_TABLE_FILE={path} is a symbolic link, which {profile.passes_over_links} passes over"
        yield WARNING, f"{what}: it connects without it", "name the file itself"


def files(subject: Subject) -> Problems:
    """The program, its folder and the place of the run folder must be usable."""
    for spec in subject.plan.local_ranks[:1]:  # the ranks differ in their environment only
        if not os.access(spec.argv[0], os.X_OK):
            yield ERROR, f"{spec.argv[0]}: not executable", ""
        if not spec.cwd.startswith(subject.plan.run_dir) and not os.path.isdir(spec.cwd):
            yield ERROR, f"{spec.cwd}: no such folder to run in", ""
    place = _existing(subject.plan.run_dir)
    if not os.path.isdir(place):
        yield ERROR, f"{place}: not a folder, so the run folder cannot be made in it", "set runs_dir"
    elif not os.access(place, os.W_OK | os.X_OK):
        yield ERROR, f"{place}: not writable by this user, and the run folder goes there", "set runs_dir"


def _existing(path: str) -> str:
    """Return the nearest parent that exists."""
    while not os.path.lexists(path) and os.path.dirname(path) != path:
        path = os.path.dirname(path)
    return path


def disk(subject: Subject) -> Problems:
    """Logs and checkpoints need space where the run folder goes."""
    place = _existing(subject.plan.run_dir)
    try:
        status = os.statvfs(place)
    except OSError as error:
        yield WARNING, f"{place}: free space not known: {error.strerror}", ""
        return
    free = status.f_bavail * status.f_frsize
    if free < LEAST_FREE or (status.f_files > 0 and status.f_favail == 0):
        what = f"{place}: {free >> 20} MB and {status.f_favail} inodes free"
        yield ERROR, what, "set runs_dir to another disk"
    elif free < FEW_FREE:
        yield WARNING, f"{place}: only {free >> 20} MB free; checkpoints may not fit", ""


def ports(subject: Subject) -> Problems:
    """HCCL's ports must be free (else it fails, EJ0003); they are tried, not kept: HCCL itself binds them."""
    yield from _meeting(subject)
    if not subject.npu:
        return
    yield from _neighbours(subject)
    bases = {spec.env.get("HCCL_IF_BASE_PORT", str(HCCL_BASE_PORT)) for spec in subject.plan.local_ranks}
    for text in sorted(bases):
        base = port_number(text)
        if not 1024 <= base <= 65520:
            yield ERROR, f"HCCL_IF_BASE_PORT: {text!r}: invalid port (expected 1024 to 65520)", ""
            continue
        busy = [port for port in range(base, min(base + HCCL_PORTS, 65536)) if not free_port(port)]
        if busy:
            names = ", ".join(map(str, busy[:4])) + (", ..." if len(busy) > 4 else "")
            holder = procfs.listener(busy[0]) or "holder not visible"
            what = f"port {names} of HCCL's {HCCL_PORTS} from {base} is in use ({holder})"
            yield ERROR, what, f"set env: HCCL_IF_BASE_PORT={_free_base(base)}, as for each job of a host"


def _meeting(subject: Subject) -> Problems:
    """The port where the ranks of torch, MindSpore or Paddle meet must be free on the host of rank 0."""
    if not subject.plan.local_ranks or subject.plan.local_ranks[0].rank:
        return
    for name in subject.profile.meeting_ports:
        port = port_number(subject.environ.get(name, "").rpartition(":")[2])
        if port > 0 and not free_port(port):
            what = f"port {port} of {name} is in use ({procfs.listener(port) or 'holder not visible'})"
            given = name in subject.config.env
            yield ERROR, what, "leave it out of env: for a free one" if given else "start again"


def _neighbours(subject: Subject) -> Problems:
    """Another job of this host may be about to bind the ports that HCCL takes where nobody gives others.

    Ranks with a rank table alone bind none of them; torch_npu, MindSpore and Paddle make groups without one.
    """
    if "HCCL_IF_BASE_PORT" in subject.environ or not (_framework(subject) or subject.config.rank_table_free):
        return
    held = locks.holders(sorted(set(device_ids(subject.machine)) - subject.devices))
    others = [holder for holder in held if not holder.command]  # ask and score bind none
    runs = ", ".join(dict.fromkeys(printable(holder.run) or "?" for holder in others))
    if runs:
        what = f"{runs} runs on other devices of this host, perhaps on the same ports of HCCL (EJ0003)"
        yield WARNING, what, f"set env: HCCL_IF_BASE_PORT={_free_base(HCCL_BASE_PORT)}"


def _free_base(taken: int) -> int:
    """Find another range for HCCL's ports; its default where none is free."""
    bases = [base for base in range(HCCL_BASE_PORT, 65520 - HCCL_PORTS, HCCL_PORTS) if base != taken]
    free = (base for base in bases if all(map(free_port, range(base, base + HCCL_PORTS))))
    return next(free, HCCL_BASE_PORT)


def port_number(text: str) -> int:
    """Read the number of a port, which may be too large for one; -1: it is no number."""
    return int(text) if text.isdecimal() and len(text) < 6 else -1


def free_port(port: int) -> bool:
    """Try to bind a port on every address, as HCCL does; on hosts without IPv4, on IPv6."""
    import socket

    for family in (socket.AF_INET, socket.AF_INET6):
        try:
            probe = socket.socket(family, socket.SOCK_STREAM)
        except OSError:
            continue  # the kernel has no such family
        with probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # ports in TIME_WAIT are usable
            try:
                probe.bind(("", port))
            except OSError:
                return False
    return True


def framework(subject: Subject) -> Problems:
    """torch, MindSpore and Paddle must have their part for NPUs; CANN should be of their release."""
    name = _framework(subject)
    if subject.npu and name:
        from launcher.checks import job_framework  # starts the ranks' Python: TensorFlow's do without

        spec, root = subject.plan.local_ranks[0], subject.machine.root
        yield from job_framework.problems(name, subject.config, spec.argv, plain(spec.env), root)


def _framework(subject: Subject) -> str:
    """Return the framework of the ranks; "" for TensorFlow and for none."""
    return subject.profile.name if subject.profile.meets else ""


CHECKS: dict[str, Callable[[Subject], Problems]] = {
    "devices": devices,
    "host": host,
    "health": health,
    "occupied": occupied,
    "lock": lock,
    "rank-table": rank_table,
    "files": files,
    "disk": disk,
    "ports": ports,
    "framework": framework,
}
# Of checks/between_hosts.py, which each of several hosts makes too; one host does not import them.
BETWEEN = ("reach", "links", "whitelist", "collective")
# The checks of checks/hosts.py, which compare hosts.
ACROSS = ("versions", "program", "arguments", "clock", "tls", "variables", "interfaces")
