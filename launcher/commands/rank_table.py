"""npu-launch rank-table: each command a few lines over rank_table/."""

from __future__ import annotations

import os
import sys
from dataclasses import asdict
from typing import Any, Sequence

import click

from launcher.commands import table_files as tables
from launcher.output import echo, echo_json, echo_text
from rank_table import files
from rank_table.convert import TARGETS, convert
from rank_table.errors import RankTableError
from rank_table.inventory import Host
from rank_table.rules.finding import RuleFinding
from rank_table.table import RankTable
from rank_table.table import merge as merge_tables

UNREADABLE = 2


@click.group("rank-table")
def rank_table() -> None:
    """Make, check, show, merge and convert HCCL rank tables."""


@rank_table.command()
@click.option("--devices", metavar="LIST", default="", help="Physical ids, such as 0-7; default: all.")
@tables.chip_option
@click.option("--hosts", "files", metavar="FILE", multiple=True, help="Inventory file; can be repeated.")
@click.option(
    "--to", "layout", type=click.Choice(TARGETS), default=None, help="Layout; default: that of the chip."
)
@click.option("--virtual", is_flag=True, help="Virtual CPU devices; default: one.")
@tables.order_option
@tables.server_id_option
@tables.output_option
def make(layout: str | None, output: str, **options: Any) -> None:
    """Make a rank table of this host's NPUs, or of the hosts of inventory files.

    An inventory file is what `npu-launch inventory --json` prints on a host.
    """
    request = tables.Request(**dict(options, chip=options["chip"] or ""))
    inventory = tables.or_usage_error(tables.find, request)
    table = tables.or_usage_error(RankTable.from_hosts, inventory.hosts, layout or "")
    for note in inventory.notes:
        echo(f"npu-launch: {note}", err=True)
    tables.write(table, output, request.chip or inventory.chip)


@rank_table.command()
@click.argument("files", nargs=-1, required=True, metavar="FILE...")
@tables.chip_option
@click.option("--this-host", is_flag=True, help="Also compare with this host's devices.")
@click.option("--process", is_flag=True, help="Also compare with RANK_ID and this process's device.")
@click.option("--json", "as_json", is_flag=True, help="Print findings as a JSON list.")
def check(files: Sequence[str], chip: str | None, this_host: bool, process: bool, as_json: bool) -> None:
    """Check tables by HCCL's rules; - is stdin.

    Exit code: 0 no errors, 1 errors, 2 a file cannot be read.
    """
    codes: list[int] = [0]
    documents: list[dict[str, Any]] = []
    for path in files:
        findings, table, problem = _checked(path, chip or "")
        if problem:
            codes.append(UNREADABLE)
            echo(f"npu-launch: {problem}", err=True)
            continue
        findings = _compared(table, this_host, process) + findings
        codes.append(tables.FOUND_ERRORS if any(finding.level == "error" for finding in findings) else 0)
        documents.extend(dict(asdict(finding), file=path) for finding in findings)
        if not as_json:
            _print_findings(path, findings, table)
    if as_json:
        echo_json(documents)
    sys.exit(max(codes))


@rank_table.command()
@click.argument("file")
def show(file: str) -> None:
    """Print a table for a person to read."""
    from rank_table.show import show as shown

    echo_text(shown(tables.load(file)))


@rank_table.command("merge")
@click.argument("files", nargs=-1, required=True, metavar="A B ...")
@tables.order_option
@tables.output_option
def merge_command(files: Sequence[str], order: str, output: str) -> None:
    """Join the tables of several hosts and number the ranks anew, server by server.

    The order of the files does not matter: servers are in the natural order of their server_ids, or in that
    of --order.
    """
    loaded = [tables.load(path) for path in files]
    tables.write(tables.or_usage_error(merge_tables, loaded, tables.split(order)), output)


@rank_table.command("convert")
@click.argument("file")
@click.option("--to", "layout", type=click.Choice(TARGETS), required=True, help="Layout to write.")
@click.option("--by-pod", is_flag=True, help="Number a cloud table by pod name, as ModelArts does.")
@tables.output_option
def convert_command(file: str, layout: str, by_pod: bool, output: str) -> None:
    """Write a table in another layout."""
    table, notes = tables.or_usage_error(convert, tables.load(file), layout, by_pod)
    for note in notes:
        echo(f"npu-launch: {note}", err=True)
    tables.write(table, output)


def _compared(table: RankTable | None, this_host: bool, process: bool) -> list[RuleFinding]:
    """Compare a table without errors with this host and with this process, as asked for."""
    if table is None or not (this_host or process):
        return []
    from rank_table.check import check_host, check_process

    host = tables.or_usage_error(tables.discover, "", "").hosts[0]
    found = check_process(table, os.environ, _physical(host)) if process else []
    return found + (check_host(table, host) if this_host else [])


def _physical(host: Host) -> int | None:
    """Return the physical id of the device that this process is told to open; None when it is told none."""
    for name, key in (("ASCEND_DEVICE_ID", "logical_id"), ("DEVICE_ID", "device_id")):
        number = os.environ.get(name, "")
        ids = [device.device_id for device in host.devices if str(getattr(device, key)) == number]
        if number:
            return ids[0] if ids else None
    return None


def _checked(path: str, chip: str) -> tuple[list[RuleFinding], RankTable | None, str]:
    """Check one file, "-" for stdin: (findings, the table if it has no errors, why it cannot be read)."""
    from rank_table.check import check, check_file, worst

    try:
        text = tables.piped(path)
        findings = check(text, chip, os.environ) if text else check_file(path, chip, os.environ)
    except (OSError, ValueError) as error:  # ValueError: a NUL in the name
        return [], None, f"{path}: {files.reason(error)}"
    if worst(findings) == "error":
        return findings, None, ""
    try:
        return findings, RankTable.loads(text.decode("utf-8-sig")) if text else RankTable.load(path), ""
    except RankTableError as error:
        return findings, None, f"{path}: {error}"


def _print_findings(path: str, findings: list[RuleFinding], table: RankTable | None) -> None:
    for finding in findings:
        echo(f"{path}: {finding}")
    errors = sum(finding.level == "error" for finding in findings)
    if errors or table is None:
        echo(f"{path}: refused: {_counted(errors, 'error')}")
        return
    version = table.version or f"legacy template ({table.layout})"
    size = f"{_counted(table.world_size, 'rank')} on {_counted(len(table.servers), 'server')}"
    echo(f"{path}: good: {version}, {size}")


def _counted(number: int, noun: str) -> str:
    return f"{number} {noun}{'' if number == 1 else 's'}"
