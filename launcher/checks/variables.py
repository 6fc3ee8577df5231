"""Doctor's checks of the environment that a launch from this shell would start from."""

from __future__ import annotations

from typing import Iterable

from launcher.checks.machine import ERROR, OK, WARNING, Check, Finding, Machine, has_npu
from launcher.hccl import variables
from launcher.plan.environment import REMOVED, REMOVED_PREFIXES

HIDING = ("ASCEND_VISIBLE_DEVICES", "ASCEND_RT_VISIBLE_DEVICES")


def check_hccl(machine: Machine) -> Iterable[Finding]:
    """Name HCCL variables that HCCL refuses or does not know."""
    found = list(variables.findings(machine.environ))
    for level, name, message in found:
        gravity = ERROR if level == variables.ERROR else WARNING
        yield Finding("HCCL variables", gravity, f"{name}: {message}", "correct or unset it")
    names = [name for name in sorted(machine.environ) if name.startswith(("HCCL_", "HCOMM_"))]
    if not found and has_npu(machine):
        yield Finding("HCCL variables", OK, ", ".join(names) or "none set")


def check_misleading(machine: Machine) -> Iterable[Finding]:
    """Name what npu-launch takes out, and what hides devices; other launchers leave it in."""
    if not has_npu(machine):
        return
    prefixes = tuple(prefix for prefix in REMOVED_PREFIXES if prefix != "NPU_LAUNCH_")
    taken = [name for name in sorted(machine.environ) if name in REMOVED or name.startswith(prefixes)]
    if taken:
        what = f"{', '.join(taken)} set: a rank would train alone, tune, or restore what it was not told to"
        yield Finding("environment", WARNING, what, "nothing: npu-launch removes them from its ranks")
    for name in HIDING:
        value = machine.environ.get(name)
        if value:
            todo = "`npu-launch inventory --explain` shows which devices are left"
            yield Finding("environment", WARNING, f"{name}={value} hides devices", todo)


CHECKS: list[Check] = [check_hccl, check_misleading]
