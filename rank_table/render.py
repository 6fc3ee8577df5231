"""Render a rank table as the JSON that HCCL reads: through a Jinja template, parsed back and compared."""

from __future__ import annotations

from rank_table.table import RankTable, RankTableError


def render(table: RankTable) -> str:
    """Give the JSON text of a table; the same table gives the same bytes.

    Raises:
        RankTableError: the text does not say what the table says (a defect of the template).
    """
    from jinja2 import Environment, PackageLoader, StrictUndefined

    environment = Environment(  # noqa: S701 - JSON, escaped by tojson, not HTML
        loader=PackageLoader("templates", ""), undefined=StrictUndefined, keep_trailing_newline=True
    )
    servers = [(server_id, table.ranks_of(server_id)) for server_id in table.servers]
    text = environment.get_template("rank_table/v1_0.json.j2").render(servers=servers)
    if RankTable.loads(text) != table:
        raise RankTableError("the rendered rank table differs from its model")
    return text
