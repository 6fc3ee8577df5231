"""The order of servers in MindSpore's rank tables: rank ids follow the text order of the server_id.

Source: rank_table.md of mindspore/docs (rank table startup, several hosts). In that order 10.0.0.10 comes
before 10.0.0.9, and node10 before node2.
"""

from __future__ import annotations

from dataclasses import replace

from launcher.config.job import JobConfig
from launcher.errors import PreflightError
from launcher.profiles import choice
from rank_table.inventory import Inventory
from rank_table.table import RankTable


def applies(config: JobConfig, backend: str) -> bool:
    """Tell whether MindSpore reads the rank table of a job: on CPU, and without a table, it does not."""
    sorts = choice.profile(config.framework).sorts_servers
    return sorts and backend == "npu" and choice.reads_table(config)


def ordered(inventory: Inventory) -> tuple[Inventory, tuple[str, ...]]:
    """Sort the hosts, and say so where that changes their order."""
    hosts = tuple(sorted(inventory.hosts, key=lambda host: host.server_id))
    if hosts == inventory.hosts:
        return inventory, ()
    first = f"rank 0 is on {hosts[0].server_id}"
    why = "MindSpore wants ranks in the text order of the server_id"
    return replace(inventory, hosts=hosts), (f"hosts are numbered by server_id, {first}: {why}",)


def refuse(table: RankTable, path: str) -> None:
    """Check a table that is given. PreflightError: MindSpore would number its ranks otherwise."""
    for before, after in zip(table.servers, table.servers[1:]):
        if after < before:
            problem = f"the ranks of server {after} come after those of {before}"
            wanted = "(expected the text order of the server_id, as MindSpore numbers them)"
            advice = "number them so, or leave rank_table_file out, and one is made"
            raise PreflightError(f"rank_table_file: {path}: {problem} {wanted}; {advice}")
