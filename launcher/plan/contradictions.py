"""What a job or the shell says of a rank's place otherwise than the plan: refused, or not passed on."""

from __future__ import annotations

from typing import Iterator, Mapping

from launcher.config.job import Provenance
from launcher.hccl.variables import visible_devices
from launcher.profiles.base import TORCH_NAMES, TORCH_PREFIXES, Profile

VISIBLE = "ASCEND_RT_VISIBLE_DEVICES"
# What numbers the ranks of a framework; a job may well give the address and port where they meet.
NUMBERS: dict[str, tuple[str, ...]] = {
    "torch": (
        "RANK", "WORLD_SIZE", "LOCAL_RANK", "LOCAL_WORLD_SIZE", "GROUP_RANK", "GROUP_WORLD_SIZE",
        "ROLE_RANK", "ROLE_WORLD_SIZE",
    ),
    "mindspore": ("MS_ROLE", "MS_NODE_ID", "MS_WORKER_NUM", "RANK_ID", "RANK_SIZE"),
    "paddle": (
        "PADDLE_TRAINER_ID", "PADDLE_TRAINERS_NUM", "PADDLE_CURRENT_ENDPOINT", "PADDLE_GLOBAL_RANK",
        "PADDLE_GLOBAL_SIZE", "PADDLE_LOCAL_RANK", "PADDLE_LOCAL_SIZE", "PADDLE_RANK_IN_NODE",
        "PADDLE_NNODES",
    ),
}  # fmt: skip
# By what a framework chooses among the devices that a process sees; torch does by LOCAL_RANK.
INDEX = {"tensorflow": "ASCEND_DEVICE_ID", "mindspore": "DEVICE_ID", "paddle": "FLAGS_selected_npus"}
# Of what is removed from the shell, that which a person may have meant for the ranks.
_PLACES = (*TORCH_PREFIXES, "CM_", "MS_", "PADDLE_")


def refuse(framework: str, made: Mapping[str, str], own: Mapping[str, str], provenance: Provenance) -> None:
    """Compare what a job gives a rank with what the plan made for it. CPU ranks have no devices to hide.

    framework: "" where nothing says it; its numbers and its way to count devices are not known then.

    Raises:
        ConfigError: they contradict each other.
    """
    for name in NUMBERS.get(framework, ()):
        if name in own and own[name] != made.get(name, ""):
            plan = f"it is {made.get(name, 'not set')} for rank {_rank(made)} in the plan"
            todo = "npu-launch sets it" if name in made else "the rank table says it, without rank_table_free"
            raise provenance.error(f"env.{name}", f"{own[name]!r}, but {plan}; remove it: {todo}")
    if made["NPU_LAUNCH_BACKEND"] == "npu":
        _devices(framework, made, own, provenance)


def _devices(framework: str, made: Mapping[str, str], own: Mapping[str, str], provenance: Provenance) -> None:
    """Refuse a list of devices, or an index into it, by which a rank would get another device.

    With TensorFlow a job may number its devices itself, as long as it hides none.
    """
    name, given = INDEX.get(framework, ""), own.get(VISIBLE, "")
    given = "" if given == made.get(VISIBLE) else given
    problem = visible_devices(given)
    if problem:
        raise provenance.error(f"env.{VISIBLE}", problem)
    if framework == "torch" and given:
        strange = sorted(set(given.split(",")) - set(made[VISIBLE].split(",")))
        if strange:
            problem = f"{', '.join(strange)} is no device of this host's ranks (expected {made[VISIBLE]})"
            raise provenance.error(f"env.{VISIBLE}", f"{given!r}: {problem}; remove it: --devices chooses")
    elif given and name:
        index, wanted = own.get(name, made[name]), _listed(made.get(VISIBLE, ""), made["ASCEND_DEVICE_ID"])
        if _listed(given, index) != wanted:
            problem = f"{name}={index} counts in it, and is not device {wanted} of rank {_rank(made)}"
            raise provenance.error(f"env.{VISIBLE}", f"{given!r}: {problem}; remove it: --devices chooses")
    elif name in own and framework != "tensorflow" and own[name] != made[name]:
        plan = f"it is {made[name]} for rank {_rank(made)} in the plan"
        raise provenance.error(f"env.{name}", f"{own[name]!r}, but {plan}; remove it: --devices chooses")


def _rank(made: Mapping[str, str]) -> str:
    return (
        made.get("RANK_ID") or made["NPU_LAUNCH_RANK"]
    )  # where RANK_ID would say that there is a rank table


def _listed(visible: str, index: str) -> str:
    """Return the device at an index into a list; without a list each device is its own index."""
    every = visible.split(",")
    if not visible:
        return index
    return every[int(index)] if index.isdigit() and int(index) < len(every) else "(none)"


def not_passed_on(shell: Mapping[str, str], profile: Profile) -> Iterator[str]:
    """Yield a note on what the shell says of a place, where the profile itself gives each rank one."""
    names = places(shell, profile)
    if names:
        pod = " (RANK is the number of a pod under MindCluster, LOCAL_RANK a list)" if "RANK" in names else ""
        yield f"not passed on to the ranks: the shell's {', '.join(names)}{pod}; give in env: what is meant"


def places(shell: Mapping[str, str], profile: Profile) -> list[str]:
    """Return the variables of the shell that would tell a rank a place, and that the profile removes."""
    removed = [name for name in sorted(shell) if profile.meets and _is_removed(name, profile)]
    return [name for name in removed if name in TORCH_NAMES or name.startswith(_PLACES)]


def _is_removed(name: str, profile: Profile) -> bool:
    return name in profile.removed or name.startswith(profile.removed_prefixes)
