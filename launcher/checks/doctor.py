"""Look a machine over before a job does: versions, devices, network, limits, clock, disk.

A check is a function from a `Machine` to findings. It never raises for what the machine lacks, and starts
nothing but the vendor's own query tools.
"""

from __future__ import annotations

from typing import Sequence, TextIO

from launcher.checks import host, network, npu, variables, versions
from launcher.checks.machine import ERROR, WARNING, Check, Finding, Machine

CHECKS: list[Check] = [
    *host.CHECKS[:1],
    *versions.CHECKS,
    *npu.CHECKS,
    *network.CHECKS,
    *variables.CHECKS,
    *host.CHECKS[1:],
]


def examine(machine: Machine) -> list[Finding]:
    """Run every check; at last, say which tools were not asked to the end."""
    found = [finding for check in CHECKS for finding in check(machine)]
    todo = "run it by hand; what it would have told is missing here"
    return [*found, *(Finding("tools", WARNING, what, todo) for what in machine.silent.values())]


def print_report(findings: Sequence[Finding], out: TextIO) -> None:
    """Print a line a finding, then what to do, then the count."""
    width = max(len(finding.name) for finding in findings)
    for finding in findings:
        out.write("%-7s  %-*s  %s\n" % (finding.level, width, finding.name, finding.what))
        if finding.todo:
            out.write("%-7s  %-*s  -> %s\n" % ("", width, "", finding.todo))
    counts = [sum(finding.level == level for finding in findings) for level in (ERROR, WARNING)]
    out.write("%d errors, %d warnings\n" % tuple(counts))
