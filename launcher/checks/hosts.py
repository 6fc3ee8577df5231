"""Compare the hosts of a job: what must be the same on all of them, and what only some of them have."""

from __future__ import annotations

from itertools import chain
from typing import Any, Iterable, Iterator, Mapping, Sequence

from launcher.checks import packages
from launcher.checks.finding import ERROR, WARNING, Finding
from launcher.checks.host_report import hccl_variables
from launcher.plan.host_facts import HostFacts
from launcher.text import by_value, some

MOST_OFF = 1_000_000_000  # ns that a clock may differ from the head's
# Other values on other hosts are no fault of these: each host has its own.
_OF_HOST = ("HCCL_IF_IP", "HCCL_WHITELIST_FILE", "HCCL_IF_BASE_PORT", "HCCL_SOCKET_IFNAME")

Reports = Mapping[str, Mapping[str, Any]]


def compare(
    facts: Sequence[HostFacts],
    offsets: Mapping[int, int],
    reports: Mapping[int, Mapping[str, Any]],
    backend: str,
    skip: Iterable[str] = (),
) -> list[Finding]:
    """Return what differs between hosts. offsets: of each host's clock in ns; reports: of each agent."""
    by_name = {host.name: reports[host.index] for host in facts if host.index in reports}
    answered = {name: told for name, told in by_name.items() if not told.get("problem")}
    found = [
        *_versions(facts, answered, backend),
        *_unknown(by_name),
        *_program(answered),
        *_files(by_name),
        *_clocks(facts, offsets),
        *(_npus(facts, by_name) if backend == "npu" else ()),
    ]
    return [finding for finding in found if finding.name not in set(skip)]


def grouped(findings: Mapping[str, Iterable[Sequence[str]]]) -> list[Finding]:
    """Join what hosts found: by host [level, check, text]; "node2, node3: ..." where they say the same."""
    hosts: dict[tuple[str, str, str], list[str]] = {}
    for host, entries in findings.items():
        for level, name, text in entries:
            hosts.setdefault((level, name, text), []).append(host)
    return [
        Finding(name, level, f"{_all_or(names, len(findings))}: {text}")
        for (level, name, text), names in hosts.items()
    ]


def _all_or(names: Sequence[str], count: int) -> str:
    return "every host" if len(names) == count > 1 else some(names)


def _differ(values: Mapping[str, str]) -> bool:
    return len(set(values.values())) > 1


def _versions(facts: Sequence[HostFacts], reports: Reports, backend: str) -> Iterator[Finding]:
    """Versions that a job needs equal; those of the driver and of CANN where NPUs are used."""
    asked = {"npu-launch": {host.name: host.launcher for host in facts}}
    if backend == "npu":
        asked["driver"] = {host.name: host.driver for host in facts}
        asked["CANN"] = {host.name: host.cann for host in facts}
    pythons = {host: str(found["python"]) for host, found in reports.items()}
    asked["Python"] = {host: ".".join(text.split(".")[:2]) for host, text in pythons.items()}
    asked["TensorFlow"] = {host: str(found["tensorflow"]) for host, found in reports.items()}
    for package in chain(*(framework.every for framework in packages.OF.values())):
        asked[package] = {host: str(found.get(package, "")) for host, found in reports.items()}
    for name, values in asked.items():
        if _differ(values):
            todo = "install one version on every host"
            yield Finding("versions", ERROR, f"{name} differs: {by_value(values)}", todo)


def _unknown(reports: Reports) -> Iterator[Finding]:
    """Name the hosts whose interpreter has not answered."""
    problems = {host: str(told.get("problem", "")) for host, told in reports.items()}
    rows = {host: [(WARNING, "versions", text)] if text else [] for host, text in problems.items()}
    for finding in grouped(rows):
        todo = "run it there by hand; versions and program are not compared"
        yield Finding(finding.name, finding.level, finding.what, todo)


def _program(reports: Reports) -> Iterator[Finding]:
    every = {host: {"": found["program"], **found["scripts"]} for host, found in reports.items()}
    for name in dict.fromkeys(name for digests in every.values() for name in digests):
        digests = {host: str(found.get(name, ""))[:12] for host, found in every.items()}
        if _differ(digests):
            what = f"{name}{': ' if name else ''}its sha256 differs: {by_value(digests, 'not there')}"
            yield Finding("program", ERROR, what, "copy one version to every host")


def _files(reports: Reports) -> Iterator[Finding]:
    """Files in the command line that some hosts lack, or that differ."""
    names = dict.fromkeys(name for found in reports.values() for name in found["files"])
    lacking: dict[tuple[str, ...], list[str]] = {}
    for name in names:
        kinds = {host: str(found["files"].get(name, "")) for host, found in reports.items()}
        without = tuple(host for host, kind in kinds.items() if not kind)
        sizes = {host: kind for host, kind in kinds.items() if kind}
        if without:
            lacking.setdefault(without, []).append(name + ("/" if "folder" in sizes.values() else ""))
        elif _differ(sizes):
            yield Finding(
                "arguments", WARNING, f"{name} differs: {by_value(sizes)}", "copy one to every host"
            )
    for hosts, absent in lacking.items():
        folders = all(name.endswith("/") for name in absent)
        what = f"{some(hosts)}: no {', '.join(absent)}, which other hosts have"
        yield Finding("arguments", WARNING if folders else ERROR, what, "copy it there, or share the disk")


def _clocks(facts: Sequence[HostFacts], offsets: Mapping[int, int]) -> Iterator[Finding]:
    for host in facts:
        off = offsets.get(host.index, 0)
        if abs(off) > MOST_OFF:
            way = "ahead of" if off > 0 else "behind"
            what = f"{host.name}: its clock is {abs(off) / 1e9:.1f} s {way} the head's"
            todo = "start chronyd there; logs are merged by corrected times"
            yield Finding("clock", WARNING, what, todo)


def _npus(facts: Sequence[HostFacts], reports: Reports) -> Iterator[Finding]:
    switches = {host.name: ", ".join(sorted(set(host.tls.values()))) for host in facts if host.tls}
    if _differ(switches) or any("," in text for text in switches.values()):
        todo = "`hccn_tool -i N -tls -s enable 0` for every device of every host"
        yield Finding("tls", ERROR, f"the tls switch differs: {by_value(switches)}", todo)
    for name, values in hccl_variables(reports).items():
        if _differ(values) and name not in _OF_HOST:
            level = ERROR if name == "HCCL_CONNECT_TIMEOUT" else WARNING
            todo = "give it in env:, which is every host's"
            yield Finding("variables", level, f"{name} differs: {by_value(values, 'not set')}", todo)
    yield from _interfaces(facts, reports)


def _interfaces(facts: Sequence[HostFacts], reports: Reports) -> Iterator[Finding]:
    """Find hosts without the interface of HCCL_SOCKET_IFNAME; an HCCL_IF_IP takes precedence over it."""
    lacking: dict[str, dict[str, str]] = {}
    for host in facts:
        hccl = reports.get(host.name, {}).get("hccl", {})
        wanted = str(hccl.get("HCCL_SOCKET_IFNAME", ""))
        names = list(dict.fromkeys(name for name, _ in host.addresses))
        if wanted and not hccl.get("HCCL_IF_IP") and not _named(wanted, names):
            lacking.setdefault(wanted, {})[host.name] = ", ".join(names)
    for wanted, has in lacking.items():
        what = f"no interface {wanted} (HCCL_SOCKET_IFNAME), but {by_value(has)}"
        yield Finding("interfaces", ERROR, what, "leave it out: each host then gets its own HCCL_IF_IP")


def _named(wanted: str, interfaces: Sequence[str]) -> bool:
    """Apply HCCL's rule: beginnings of names, whole names after `=`, and after `^` those not to use."""
    exact, excluded = wanted.startswith(("=", "^=")), wanted.startswith("^")
    words = [word for word in wanted.lstrip("^=").split(",") if word]

    def fits(name: str) -> bool:
        return any(name == word if exact else name.startswith(word) for word in words)

    return any(fits(name) != excluded for name in interfaces)
