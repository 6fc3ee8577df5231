"""npu-launch inventory: this host's devices in every numbering space."""

from __future__ import annotations

import click

from launcher.commands import table_files
from launcher.output import echo_json, echo_text
from launcher.plan.devices import TITLES, numbering


@click.command()
@click.option(
    "--json", "as_json", is_flag=True, help="Print an inventory file (for rank-table make --hosts)."
)
@click.option("--explain", is_flag=True, help="Say where each value comes from.")
@table_files.chip_option
@table_files.server_id_option
def inventory(as_json: bool, explain: bool, chip: str | None, server_id: str) -> None:
    """Show this host's devices in every numbering space."""
    from rank_table.show import show_inventory
    from rank_table.sources import inventory_file

    found = table_files.or_usage_error(table_files.discover, chip or "", server_id)
    if as_json:
        echo_json(inventory_file.document(found, explain))
        return
    echo_text(show_inventory(found, [TITLES, *numbering(found.hosts)], explain))
