"""/etc/hccl_rootinfo.json of an Ascend 950: the network levels of the host's devices."""

from __future__ import annotations

import json
from typing import Any

from rank_table.sources.tools import Machine

PATH = "/etc/hccl_rootinfo.json"


def levels(machine: Machine) -> tuple[dict[int, dict[str, Any]], str]:
    """Read the file: (physical id -> {local_id, levels}, the problem or "")."""
    text = machine.read(PATH)
    if text is None:
        return {}, f"{PATH}: no such file"
    try:
        entries = json.loads(text)["rank_list"]
        found = {int(entry["device_id"]): _facts(entry) for entry in entries}
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        return {}, f"{PATH}: invalid: {str(error)[:200]}"
    return found, ""


def _facts(entry: dict[str, Any]) -> dict[str, Any]:
    given = entry["level_list"]
    if not isinstance(given, list) or not all(isinstance(level, dict) for level in given):
        raise ValueError("level_list is not a list of objects")
    return {"local_id": int(entry["local_id"]), "levels": tuple(given)}
