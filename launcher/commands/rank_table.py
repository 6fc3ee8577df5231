"""npu-launch rank-table and npu-launch inventory: each command a few lines over rank_table/."""

from __future__ import annotations

import json
import os
import sys
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any, Callable, Sequence, TypeVar

import click

from launcher.errors import LauncherError, PreflightError, UsageError
from launcher.plan.devices import TITLES, numbering, parse_devices
from launcher.run_dir import write_atomic
from rank_table.check import RuleFinding
from rank_table.convert import TARGETS, convert
from rank_table.inventory import CHIPS, Host, Inventory, InventoryError, merge, virtual_cpu
from rank_table.model import RankTableError
from rank_table.table import RankTable
from rank_table.table import merge as merge_tables

UNREADABLE = 2
FOUND_ERRORS = 1
Made = TypeVar("Made")

_chip = click.option("--chip", type=click.Choice(CHIPS), default=None, help="Generation; default: as found.")
_output = click.option("-o", "--output", metavar="FILE", default="-", help="Write here instead of stdout.")
_order = click.option(
    "--order", metavar="ID,ID,...", default="", help="server_ids in order; default: natural."
)
_server_id = click.option("--server-id", metavar="ID", default="", help="Name of this host in the table.")


class FindingsError(LauncherError):
    """Refuse to write a table that HCCL would refuse."""

    exit_code = FOUND_ERRORS


@click.group("rank-table")
def rank_table() -> None:
    """Make, check, show, merge and convert HCCL rank tables."""


@rank_table.command()
@click.option("--devices", metavar="LIST", default="", help="Physical ids, such as 0-7; default: all.")
@_chip
@click.option("--hosts", "files", metavar="FILE", multiple=True, help="Inventory file; may be given again.")
@click.option(
    "--to", "layout", type=click.Choice(TARGETS), default=None, help="Layout; default: by the chip."
)
@click.option("--virtual", is_flag=True, help="Virtual CPU devices; default one.")
@_order
@_server_id
@_output
def make(
    devices: str,
    chip: str | None,
    files: Sequence[str],
    layout: str | None,
    virtual: bool,
    order: str,
    server_id: str,
    output: str,
) -> None:
    """Make a rank table of this host's NPUs, or of the hosts of inventory files.

    An inventory file is what `npu-launch inventory --json` prints on a host.
    """
    inventory = _ours(_inventory, devices, chip or "", files, virtual, order, server_id)
    table = _ours(RankTable.from_hosts, inventory.hosts, layout or "")
    for note in inventory.notes:
        click.echo(f"npu-launch: {note}", err=True)
    _write(table, output, chip or inventory.chip)


@rank_table.command()
@click.argument("files", nargs=-1, required=True, metavar="FILE...")
@_chip
@click.option("--this-host", is_flag=True, help="Compare with this host's devices too.")
@click.option("--process", is_flag=True, help="Compare RANK_ID and this process's device with it, too.")
@click.option("--json", "as_json", is_flag=True, help="Print findings as a JSON list.")
def check(files: Sequence[str], chip: str | None, this_host: bool, process: bool, as_json: bool) -> None:
    """Check tables by HCCL's rules; - is stdin.

    Exit code: 0 good, 1 errors, 2 a file cannot be read.
    """
    codes: list[int] = [0]
    documents: list[dict[str, Any]] = []
    for path in files:
        findings, table, problem = _checked(path, chip or "")
        if problem:
            codes.append(UNREADABLE)
            click.echo(f"npu-launch: {problem}", err=True)
            continue
        findings = _compared(table, this_host, process) + findings
        codes.append(FOUND_ERRORS if any(finding.level == "error" for finding in findings) else 0)
        documents.extend(dict(asdict(finding), file=path) for finding in findings)
        if not as_json:
            _print_findings(path, findings, table)
    if as_json:
        click.echo(json.dumps(documents, indent=1))
    sys.exit(max(codes))


@rank_table.command()
@click.argument("file")
def show(file: str) -> None:
    """Show a table the way a person reads it."""
    from rank_table.show import show as shown

    click.echo(shown(_load(file)), nl=False)


@rank_table.command("merge")
@click.argument("files", nargs=-1, required=True, metavar="A B ...")
@_order
@_output
def merge_command(files: Sequence[str], order: str, output: str) -> None:
    """Join the tables of several hosts and number the ranks anew, server after server.

    The order of the files does not matter: servers come in the natural order of their server_ids, or as
    --order says.
    """
    tables = [_load(path) for path in files]
    _write(_ours(merge_tables, tables, _split(order)), output, "")


@rank_table.command("convert")
@click.argument("file")
@click.option("--to", "layout", type=click.Choice(TARGETS), required=True, help="Layout to write.")
@click.option("--by-pod", is_flag=True, help="Number a cloud table by pod name, as ModelArts does.")
@_output
def convert_command(file: str, layout: str, by_pod: bool, output: str) -> None:
    """Write a table in another layout."""
    table, notes = _ours(convert, _load(file), layout, by_pod)
    for note in notes:
        click.echo(f"npu-launch: {note}", err=True)
    _write(table, output, "")


@click.command()
@click.option("--json", "as_json", is_flag=True, help="Print an inventory file (for make --hosts).")
@click.option("--explain", is_flag=True, help="Say where each value comes from.")
@_chip
@_server_id
def inventory(as_json: bool, explain: bool, chip: str | None, server_id: str) -> None:
    """Show this host's devices in every numbering space."""
    from rank_table.show import show_inventory
    from rank_table.sources import inventory_file

    found = _ours(_discover, chip or "", server_id)
    if as_json:
        click.echo(json.dumps(inventory_file.document(found, explain), indent=1))
        return
    click.echo(show_inventory(found, [TITLES, *numbering(found.hosts)], explain), nl=False)


def _ours(function: Callable[..., Made], *arguments: Any) -> Made:
    """Call a function of rank_table; what a user can cause becomes one line and exit code 2."""
    try:
        return function(*arguments)
    except (RankTableError, InventoryError) as error:
        raise UsageError(f"{error}") from None


def _load(path: str) -> RankTable:
    if path == "-":
        return _ours(RankTable.loads, sys.stdin.read())
    return _ours(RankTable.load, path)


def _discover(chip: str, server_id: str) -> Inventory:
    from rank_table.sources import host
    from rank_table.sources.tools import Machine

    return host.discover(Machine(os.environ), server_id, chip)


def _inventory(
    devices: str, chip: str, files: Sequence[str], virtual: bool, order: str, server_id: str
) -> Inventory:
    from rank_table.sources import inventory_file

    wanted = parse_devices(devices) if devices else ()
    if virtual:
        return virtual_cpu(wanted or (0,), server_id)
    if files:
        found = merge([inventory_file.read(path) for path in files], _split(order))
        if chip:
            found = replace(found, hosts=tuple(replace(host, chip=chip) for host in found.hosts))
    else:
        found = _discover(chip, server_id)
    if not any(host.devices for host in found.hosts):
        why = "; ".join(found.notes)
        raise PreflightError(f"no NPU on this machine ({why}); give --hosts FILE, or --virtual")
    return found.only(wanted) if wanted else found


def _split(order: str) -> list[str]:
    return [name.strip() for name in order.split(",") if name.strip()]


def _write(table: RankTable, output: str, chip: str) -> None:
    """Write a table that passes the check; its warnings go to stderr, errors refuse it."""
    from rank_table.check import ERROR
    from rank_table.check import check as check_text
    from rank_table.render import render

    text = _ours(render, table)
    findings = check_text(text, chip, os.environ)
    for finding in findings:
        click.echo(f"npu-launch: {finding}", err=True)
    if any(finding.level == ERROR for finding in findings):
        raise FindingsError("the table is not written: HCCL would refuse it")
    if output == "-":
        click.echo(text, nl=False)
        return
    if output.find(".json") != len(output) - len(".json"):
        raise UsageError(f"-o {output}: HCCL wants a name that ends in its first .json")
    try:
        write_atomic(Path(output), text.encode())
        os.chmod(output, 0o644)  # every rank's user reads it
    except OSError as error:
        raise UsageError(f"-o {output}: {error.strerror}") from None
    click.echo(f"{output}: {table.world_size} ranks on {len(table.servers)} servers", err=True)


def _compared(table: RankTable | None, this_host: bool, process: bool) -> list[RuleFinding]:
    """Compare a good table with this host and with this process, as asked for."""
    if table is None or not (this_host or process):
        return []
    from rank_table.check import check_host, check_process

    host = _ours(_discover, "", "").hosts[0]
    found = check_process(table, os.environ, _physical(host)) if process else []
    return found + (check_host(table, host) if this_host else [])


def _physical(host: Host) -> int | None:
    """Give the physical id of the device that this process is told to open; None when nothing tells."""
    for name, key in (("ASCEND_DEVICE_ID", "logical_id"), ("DEVICE_ID", "device_id")):
        number = os.environ.get(name, "")
        ids = [device.device_id for device in host.devices if str(getattr(device, key)) == number]
        if number:
            return ids[0] if ids else None
    return None


def _checked(path: str, chip: str) -> tuple[list[RuleFinding], RankTable | None, str]:
    """Check one file, "-" for stdin: (findings, the table when it is good, why it cannot be read)."""
    from rank_table.check import check, check_file, worst

    text = ""
    try:
        if path == "-":
            text = sys.stdin.buffer.read().decode("utf-8", "surrogateescape")
        findings = check(text, chip, os.environ) if path == "-" else check_file(path, chip, os.environ)
    except (OSError, ValueError) as error:  # ValueError: a NUL in the name
        return [], None, "{}: {}".format(path, getattr(error, "strerror", None) or error)
    if worst(findings) == "error":
        return findings, None, ""
    table = RankTable.loads(text) if path == "-" else RankTable.load(path)
    return findings, table, ""


def _print_findings(path: str, findings: list[RuleFinding], table: RankTable | None) -> None:
    for finding in findings:
        click.echo(f"{path}: {finding}")
    errors = sum(finding.level == "error" for finding in findings)
    if errors or table is None:
        click.echo("{}: refused: {}".format(path, _counted(errors, "error")))
        return
    version = table.version or f"legacy template ({table.layout})"
    size = "{} on {}".format(_counted(table.world_size, "rank"), _counted(len(table.servers), "server"))
    click.echo(f"{path}: good: {version}, {size}")


def _counted(number: int, noun: str) -> str:
    return f"{number} {noun}{'' if number == 1 else 's'}"
