"""/etc/hccl_rootinfo.json of an Ascend 950: the network levels of the host's devices."""

from __future__ import annotations

import json
from typing import Any

from rank_table.sources.tools import Machine

PATH = "/etc/hccl_rootinfo.json"
ADVICE = "the driver of an Ascend 950 writes it: install that, or mount the host's file"


def levels(machine: Machine) -> tuple[dict[int, dict[str, Any]], str]:
    """Read the file: (physical id -> {local_id, levels}, the problem or "")."""
    text = machine.read(PATH)
    if text is None:
        return {}, f"{PATH}: no such file, or it cannot be read; {ADVICE}"
    try:
        document = json.loads(text.lstrip("\ufeff"))
        if not isinstance(document, dict) or not isinstance(document.get("rank_list"), list):
            return {}, f"{PATH}: {_kind(document)} (expected a 2.0 document with rank_list); {ADVICE}"
        found = {int(entry["device_id"]): _facts(entry) for entry in document["rank_list"]}
    except KeyError as error:
        return {}, f"{PATH}: invalid: {str(error)[:200]} is missing; {ADVICE}"
    except (ValueError, TypeError, RecursionError) as error:
        return {}, f"{PATH}: invalid: {str(error)[:200]}; {ADVICE}"
    return found, ""


def _kind(document: Any) -> str:
    version = document.get("version") if isinstance(document, dict) else None
    return f"a table of version {version!s:.20}" if version is not None else "not a rank table"


def _facts(entry: dict[str, Any]) -> dict[str, Any]:
    given = entry["level_list"]
    if not isinstance(given, list) or not all(isinstance(level, dict) for level in given):
        raise ValueError("level_list is not a list of objects")
    return {"local_id": int(entry["local_id"]), "levels": tuple(given)}
