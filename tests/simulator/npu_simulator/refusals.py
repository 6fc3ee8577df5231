"""Why a program is refused: by the adapter, by HCCL, or by the simulator alone. The table says why."""

from __future__ import annotations

from typing import Any

from npu_simulator.names import BRANCH, TABLE

ADAPTER: dict[str, Any] = TABLE["refusals"]  # lines of the adapter's source
HCCL: dict[str, str] = TABLE["documented"]  # by CANN's documents: HCCL's source is not public
OURS: dict[str, str] = TABLE["ours"]  # where the adapter lets a mistake pass unseen


class Refused(RuntimeError):
    """What the adapter, GE or HCCL would refuse, or would train wrongly on."""


def refused(key: str, message: str, error: type[Exception] = Refused) -> Exception:
    """Make the error of a refusal, which says who refuses: a line of the source, HCCL, or the simulator."""
    made = error(f"{message} [{origin(key)}]")
    made.key = key  # type: ignore[attr-defined]
    return made


def refuses(key: str) -> bool:
    """Whether the branch that is simulated has this refusal."""
    return key in OURS or key in HCCL or BRANCH in ADAPTER[key]["places"]


def origin(key: str) -> str:
    """Say where a refusal comes from. KeyError: from nowhere."""
    if key in OURS:
        return f"the simulator's own rule: {OURS[key]}"
    if key in HCCL:
        return f"HCCL: {HCCL[key]}"
    return f"adapter {BRANCH}, {ADAPTER[key]['places'][BRANCH]}"
