"""Render a rank table as the JSON that HCCL reads: from a Jinja template, parsed back and compared."""

from __future__ import annotations

import json
from functools import lru_cache
from typing import TYPE_CHECKING, Any, List, Mapping, Tuple

from rank_table.errors import RankTableError
from rank_table.model import Rank, Server
from rank_table.table import RankTable

if TYPE_CHECKING:
    from jinja2 import Template

TEMPLATES = {
    "1.0": "v1_0.json.j2",
    "1.1": "v1_1.json.j2",
    "1.2": "v1_2.json.j2",
    "2.0": "v2_0.json.j2",
    "cloud": "cloud.json.j2",
    "lab": "lab.json.j2",
}
Instances = List[Tuple[Server, Tuple[Rank, ...]]]


def render(table: RankTable) -> str:
    """Return the JSON text of a table; the same table always gives the same bytes.

    Raises:
        RankTableError: the text differs from the table (a bug in the template, or a cloud table, which
            has no rank_ids, with ranks that are not in HCCL's order).
    """
    text = _template(TEMPLATES[table.layout]).render(
        table=table, entries=table.entries(), groups=_groups(table)
    )
    if RankTable.loads(text) != table:
        raise RankTableError("the rendered rank table differs from its model")
    return text


def prepare() -> None:
    """Load what `render` needs, where there is time for that before."""
    _template(TEMPLATES["1.0"])


@lru_cache(maxsize=None)  # compiling takes longer than rendering a table of a thousand devices
def _template(name: str) -> Template:
    from jinja2 import Environment, PackageLoader, StrictUndefined

    environment = Environment(  # noqa: S701 - JSON, escaped by the json filter, not HTML
        loader=PackageLoader("templates", ""), undefined=StrictUndefined, keep_trailing_newline=True
    )
    environment.filters["json"] = json.dumps
    return environment.get_template(f"rank_table/{name}")


def _groups(table: RankTable) -> list[tuple[Mapping[str, Any], Instances, int]]:
    """List the groups of a legacy table: (other keys, instances, number of devices)."""
    groups: list[tuple[Mapping[str, Any], Instances, int]] = []
    if table.layout not in ("cloud", "lab"):
        return groups
    for index, keys in enumerate(table.groups or ({},)):
        members = [(server, tuple(r for r in ranks if r.group == index)) for server, ranks in table.entries()]
        instances = [(server, ranks) for server, ranks in members if ranks]
        groups.append((keys, instances, sum(len(ranks) for _, ranks in instances)))
    return groups
