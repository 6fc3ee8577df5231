"""What a job or the shell says of a rank's place otherwise than the plan: refused, or not passed on."""

from __future__ import annotations

from typing import Iterator, Mapping

from launcher.config.job import Provenance
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
# Of what is removed from the shell, that which a person may have meant for the ranks.
_PLACES = (*TORCH_PREFIXES, "CM_", "MS_", "PADDLE_")


def refuse(framework: str, made: Mapping[str, str], own: Mapping[str, str], provenance: Provenance) -> None:
    """Compare what a job gives a rank with what the plan made for it. CPU ranks have no devices to hide.

    Raises:
        ConfigError: they contradict each other.
    """
    for name in NUMBERS.get(framework, ()):
        if name in own and own[name] != made.get(name):
            plan = f"it is {made.get(name, 'not set')} for rank {made['RANK_ID']} in the plan"
            raise provenance.error(f"env.{name}", f"{own[name]!r}, but {plan}; remove it: npu-launch sets it")
    if own.get(VISIBLE, "") and made["NPU_LAUNCH_BACKEND"] == "npu" and own[VISIBLE] != made.get(VISIBLE):
        _devices(framework, made, own, provenance)


def _devices(framework: str, made: Mapping[str, str], own: Mapping[str, str], provenance: Provenance) -> None:
    """A list for torch may be shorter than the plan's; elsewhere ASCEND_DEVICE_ID is an index into it."""
    given = own[VISIBLE].split(",")
    problem = ""
    if framework == "torch":
        strange = sorted(set(given) - set(made[VISIBLE].split(",")))
        problem = f"{', '.join(strange)} is no device of this host's ranks (expected {made[VISIBLE]})"
        problem = problem if strange else ""
    elif framework != "none" and "ASCEND_DEVICE_ID" not in own:
        index = made["ASCEND_DEVICE_ID"]
        listed = given[int(index) : int(index) + 1] == [index]
        problem = "" if listed else f"CANN counts devices anew in it, so ASCEND_DEVICE_ID={index} is another"
    if problem:
        text = f"{own[VISIBLE]!r}: {problem}; remove it: --devices chooses"
        raise provenance.error(f"env.{VISIBLE}", text)


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
