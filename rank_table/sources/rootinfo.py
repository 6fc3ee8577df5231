"""/etc/hccl_rootinfo.json of an Ascend 950: the network levels of the host's devices."""

from __future__ import annotations

import json
from typing import Any, Dict, Tuple

from rank_table.sources.tools import Machine

PATH = "/etc/hccl_rootinfo.json"


def levels(machine: Machine) -> Tuple[Dict[int, Dict[str, Any]], str]:
    """Read the file: (physical id -> {local_id, levels}, what is wrong or "")."""
    text = machine.read(PATH)
    if text is None:
        return {}, "%s: not there" % PATH
    try:
        entries = json.loads(text)["rank_list"]
        found = {int(entry["device_id"]): _facts(entry) for entry in entries}
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        return {}, "%s: cannot be read: %s" % (PATH, str(error)[:200])
    return found, ""


def _facts(entry: Dict[str, Any]) -> Dict[str, Any]:
    given = entry["level_list"]
    if not isinstance(given, list) or not all(isinstance(level, dict) for level in given):
        raise ValueError("level_list is no list of objects")
    return {"local_id": int(entry["local_id"]), "levels": tuple(given)}
