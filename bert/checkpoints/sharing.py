"""Load a checkpoint on several hosts, some of which may lack its files: rank 0 has them."""

from __future__ import annotations

from bert import names
from bert.backend.base import Backend
from bert.checkpoints import index
from bert.checkpoints.reader import Reading
from bert.checkpoints.resume import fingerprint


def begin(path: str, slots: bool, backend: Backend) -> tuple[Reading, bool]:
    """Begin to read a checkpoint; return also whether rank 0 must broadcast what it has read.

    A host has the checkpoint if its file is that of rank 0: one of an earlier run may have the same name.
    Where it is missing, zeros stand for its variables, so that all ranks run the same graphs.
    """
    if not backend.several_hosts or not path:
        return Reading(path, slots), False
    mine = {"file": fingerprint(path), "names": _names(path) if backend.rank == 0 else []}
    every = backend.all_gather(mine)
    has = mine["file"] == every[0]["file"]
    everywhere = all(other["file"] == every[0]["file"] for other in every)
    return Reading(path, slots, None if has else every[0]["names"]), not everywhere


def _names(path: str) -> list[str]:
    """List Google's names of a checkpoint's variables; [] if it is damaged, which reading it reports."""
    try:
        return sorted(names.to_google(index.describe(path)))
    except ValueError:
        return []
