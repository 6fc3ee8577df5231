"""What a job or the shell says of a rank's place otherwise than the plan: refused, or not passed on."""

from __future__ import annotations

from typing import Iterator, Mapping

from launcher.config.job import Provenance
from launcher.hccl.variables import visible_devices
from launcher.profiles.base import TORCH_NAMES, TORCH_PREFIXES, Profile
from rank_table.sources.visible import RT_VISIBLE

# Of what is removed from the shell, that which a person may have meant for the ranks.
_PLACES = (*TORCH_PREFIXES, "CM_", "MS_", "PADDLE_")


def refuse(profile: Profile, made: Mapping[str, str], own: Mapping[str, str], provenance: Provenance) -> None:
    """Compare what a job gives a rank with what the plan made for it. CPU ranks have no devices to hide.

    profile: that of no framework where nothing says it, as its way to count is not known then.

    Raises:
        ConfigError: they contradict each other.
    """
    for name in profile.numbers:
        todo = "npu-launch sets it" if name in made else "the rank table says it, without rank_table_free"
        _equal(name, todo, made, own, provenance)
    if made["NPU_LAUNCH_BACKEND"] == "npu":
        _devices(profile, made, own, provenance)


def _equal(
    name: str, todo: str, made: Mapping[str, str], own: Mapping[str, str], provenance: Provenance
) -> None:
    if name in own and own[name] != made.get(name, ""):
        plan = f"it is {made.get(name, 'not set')} for rank {_rank(made)} in the plan"
        raise provenance.error(f"env.{name}", f"{own[name]!r}, but {plan}; remove it: {todo}")


def _devices(
    profile: Profile, made: Mapping[str, str], own: Mapping[str, str], provenance: Provenance
) -> None:
    """Refuse a list of devices, or an index into it, by which a rank would get another device."""
    name, given = profile.device_index, own.get(RT_VISIBLE, "")
    given = "" if given == made.get(RT_VISIBLE) else given
    problem = visible_devices(given)
    if problem:
        raise provenance.error(f"env.{RT_VISIBLE}", problem)
    if profile.lists_devices and given:
        strange = sorted(set(given.split(",")) - set(made[RT_VISIBLE].split(",")))
        if strange:
            problem = f"{', '.join(strange)} is no device of this host's ranks (expected {made[RT_VISIBLE]})"
            raise provenance.error(f"env.{RT_VISIBLE}", f"{given!r}: {problem}; remove it: --devices chooses")
    elif given and name:
        index, wanted = own.get(name, made[name]), _listed(made.get(RT_VISIBLE, ""), made["ASCEND_DEVICE_ID"])
        if _listed(given, index) != wanted:
            problem = f"{name}={index} counts in it, and is not device {wanted} of rank {_rank(made)}"
            raise provenance.error(f"env.{RT_VISIBLE}", f"{given!r}: {problem}; remove it: --devices chooses")
    elif name and not profile.job_may_index:
        _equal(name, "--devices chooses", made, own, provenance)


def _rank(made: Mapping[str, str]) -> str:
    """Return the rank: under a name of our own where RANK_ID would say that there is a rank table."""
    return made.get("RANK_ID") or made["NPU_LAUNCH_RANK"]


def _listed(visible: str, index: str) -> str:
    """Return the device at an index into a list; without a list each device is its own index."""
    every = visible.split(",")
    if not visible:
        return index
    return every[int(index)] if index.isdigit() and int(index) < len(every) else "(none)"


def not_passed_on(shell: Mapping[str, str], profile: Profile) -> Iterator[str]:
    """Yield a note on what the shell says of a place: each rank has its own, or the framework reads none."""
    names = places(shell, profile)
    if names:
        pod = " (RANK is the number of a pod under MindCluster, LOCAL_RANK a list)" if "RANK" in names else ""
        yield f"not passed on to the ranks: the shell's {', '.join(names)}{pod}; give in env: what is meant"


def places(shell: Mapping[str, str], profile: Profile) -> list[str]:
    """Return the variables of the shell that would tell a rank a place, and that the profile removes."""
    removed = [name for name in sorted(shell) if profile.removes(name)]
    return [name for name in removed if name in TORCH_NAMES or name.startswith(_PLACES)]
