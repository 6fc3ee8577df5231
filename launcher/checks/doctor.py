"""Examine a machine before a job runs on it: versions, devices, network, limits, clock, disk.

A check is a function from a `RecordingMachine` to findings. It never raises for what the machine lacks, and
starts nothing but the vendor's own query tools.
"""

from __future__ import annotations

from typing import Iterator, Sequence

from launcher.checks import frameworks, host, modules, network, npu, variables, versions
from launcher.checks.finding import ERROR, WARNING, Finding
from launcher.checks.machine import Check, RecordingMachine

CHECKS: list[Check] = [
    host.check_python,
    *modules.CHECKS,
    *versions.CHECKS,
    *frameworks.CHECKS,
    *npu.CHECKS,
    *network.CHECKS,
    *variables.CHECKS,
    *host.CHECKS,
]


def examine(machine: RecordingMachine) -> list[Finding]:
    """Run every check, and name the tools that timed out."""
    found = [finding for check in CHECKS for finding in check(machine)]
    todo = "run it by hand: this report lacks what it would show"
    return [*found, *(Finding("tools", WARNING, what, todo) for what in machine.unresponsive_tools.values())]


def report(findings: Sequence[Finding]) -> Iterator[str]:
    """Yield a line for each finding, a second one with what to do, and the counts."""
    width = max(len(finding.name) for finding in findings)
    for finding in findings:
        yield f"{finding.level:7}  {finding.name:{width}}  {finding.what}"
        if finding.todo:
            yield f"{'':7}  {'':{width}}  -> {finding.todo}"
    errors, warnings = (sum(finding.level == level for finding in findings) for level in (ERROR, WARNING))
    yield f"{errors} errors, {warnings} warnings"
