"""What only an Ascend device can say: its overflow flag, its list of operations."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any, Iterator, Mapping

from tests.adapter.programs import Outcome

# Where CANN keeps the list that the adapter goes by: before and since CANN 6
# (tf_adapter/util/npu_ops_identifier.cc:32,33 of master).
_LISTS = (
    "framework/built-in/tensorflow/npu_supported_ops.json",
    "built-in/framework/tensorflow/npu_supported_ops.json",
)


def listed(environ: Mapping[str, str] = os.environ) -> set[str] | None:
    """Read the operations on the device's list; None: ASCEND_OPP_PATH names no folder with one."""
    for place in _LISTS:
        path = Path(environ.get("ASCEND_OPP_PATH", "")) / place
        if environ.get("ASCEND_OPP_PATH") and path.is_file():
            return set(json.loads(path.read_text(encoding="utf-8")))
    return None


def flag_row(answers: Mapping[str, Any]) -> str:
    """Say what the flag did over three products of which the second is beyond float16."""
    how = "results become inf" if answers["inf_nan"] else f"the flag is {answers['dtype']}"
    seen = ", ".join("finite" if finite else "overflow" for finite in answers["finite"])
    odd = "" if answers["finite"] == [True, False, True] else " (NOT as expected)"
    return f"{how}; a product beyond float16 between two small ones: {seen}{odd}"


def operations_row(graphs: Mapping[str, list[str]], known: set[str] | None) -> str:
    """Say which operations of our graphs are not on the list."""
    used = {kind for kinds in graphs.values() for kind in kinds}
    if known is None:
        return f"{len(used)} types; no list found (ASCEND_OPP_PATH)"
    missing = sorted(used - known)
    return f"{len(used)} types; not on the list: {', '.join(missing) or 'none'}"


def rows(
    flag: Mapping[str, Any],
    graphs: Mapping[str, list[str]],
    outcomes: list[Outcome],
    known: set[str] | None,
) -> Iterator[str]:
    """Write the table, in Markdown."""
    table: dict[str, str] = {outcome.name: outcome.told or "-" for outcome in outcomes}
    table["overflow flag"] = flag_row(flag)
    table["operations"] = operations_row(graphs, known)
    yield "| what | seen on the device |"
    yield "|---|---|"
    for what, seen in table.items():
        yield f"| {what} | {seen} |"
