"""Doctor's checks of the environment that a launch from this shell would inherit."""

from __future__ import annotations

from typing import Iterable, Sequence

from launcher.checks import frameworks, packages
from launcher.checks.finding import ERROR, OK, WARNING, Finding
from launcher.checks.machine import Check, RecordingMachine, has_npu
from launcher.hccl import variables
from launcher.plan import contradictions
from launcher.profiles import choice
from launcher.profiles.base import TORCH_NAMES, TORCH_PREFIXES
from launcher.profiles.tensorflow import TENSORFLOW
from rank_table.sources.visible import RT_VISIBLE

HIDING = ("ASCEND_VISIBLE_DEVICES", RT_VISIBLE)


def check_hccl(machine: RecordingMachine) -> Iterable[Finding]:
    """Name HCCL variables that HCCL refuses or does not know."""
    found = list(variables.findings(machine.environ))
    for level, name, message in found:
        gravity = ERROR if level == variables.ERROR else WARNING
        family = "HCCL variables" if name.startswith(("HCCL_", "HCOMM_")) else "environment"
        yield Finding(family, gravity, f"{name}: {message}", "correct or unset it")
    names = [name for name in sorted(machine.environ) if name.startswith(("HCCL_", "HCOMM_"))]
    if not found and has_npu(machine):
        yield Finding("HCCL variables", OK, ", ".join(names) or "none set")


def check_misleading(machine: RecordingMachine) -> Iterable[Finding]:
    """Name variables that npu-launch removes (other launchers do not), and those that hide devices."""
    if not has_npu(machine):
        return
    removed = [name for name in sorted(machine.environ) if TENSORFLOW.removes(name)]
    own = [name for name in removed if name not in TORCH_NAMES and not name.startswith(TORCH_PREFIXES)]
    if own:
        what = f"{', '.join(own)} set: a rank would train alone, tune, or restore another checkpoint"
        yield Finding("environment", WARNING, what, "nothing: npu-launch removes them from its ranks")
    yield from _numbers(machine, own)
    for name in HIDING:
        value = machine.environ.get(name)
        if value:
            todo = "`npu-launch inventory --explain` shows which devices are left"
            yield Finding("environment", WARNING, f"{name}={value} hides devices", todo)


def _numbers(machine: RecordingMachine, named: Sequence[str]) -> Iterable[Finding]:
    """Name what another launcher or MindCluster has left, which the frameworks here would believe."""
    here = [choice.profile(name) for name in packages.OF if frameworks.version_of(machine, name)]
    every = (TENSORFLOW, *here)
    names = {name for profile in every for name in contradictions.places(machine.environ, profile)}
    names -= {*named}
    if names:
        what = f"{', '.join(sorted(names))} set: of a pod or another launch, and no rank's own"
        yield Finding("environment", WARNING, what, "nothing: npu-launch does not pass them on to its ranks")


CHECKS: list[Check] = [check_hccl, check_misleading]
